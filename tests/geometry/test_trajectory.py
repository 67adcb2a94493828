"""Order of the photos and the paths through them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from fvgen.checks import InputError
from fvgen.geometry.cameras import look_at
from fvgen.geometry.photo_order import focus_point, order_photos, view_change
from fvgen.geometry.reference_trajectory import from_pytorch3d, to_pytorch3d
from fvgen.geometry.trajectory import PATH_STYLES, clips_of, orbit, path_at, path_between, spiral
from fvgen.types import Cameras


def cameras_at(eye: torch.Tensor, target: torch.Tensor | None = None, focal: torch.Tensor | None = None) -> Cameras:
    eye = eye.double()
    target = torch.zeros(3).double() if target is None else target.double()
    K = torch.eye(3, dtype=torch.float64).repeat(len(eye), 1, 1)
    K[:, 0, 0] = K[:, 1, 1] = 100.0 if focal is None else focal.double()
    K[:, 0, 2], K[:, 1, 2] = 80, 60
    return Cameras(look_at(eye, target, torch.tensor([0.0, -1, 0]).double()), K, 120, 160)


def ring(count: int, degrees: float = 360, shuffle: int | None = None) -> tuple[Cameras, list[int]]:
    """Cameras on a circle about the origin, and each camera's place on it."""
    last = degrees if degrees < 360 else 360 * (count - 1) / count
    angle = torch.linspace(0, math.radians(last), count)
    place = list(range(count))
    if shuffle is not None:
        place = torch.randperm(count, generator=torch.Generator().manual_seed(shuffle)).tolist()
    angle = angle[place]
    return cameras_at(torch.stack([3 * angle.cos(), torch.full_like(angle, -0.5), 3 * angle.sin()], 1)), place


@pytest.mark.parametrize("count", [3, 4, 6, 11, 12, 30, 200])
def test_a_ring_is_a_loop_in_ring_order(count):
    cameras, place = ring(count, shuffle=count)
    order, closed = order_photos(cameras)
    assert closed
    assert order[0] == 0 and sorted(order) == list(range(count))
    step = {(place[b] - place[a]) % count for a, b in zip(order, order[1:] + order[:1], strict=True)}
    assert step in ({1}, {count - 1})


@pytest.mark.parametrize(("count", "degrees"), [(3, 60), (5, 90), (8, 270), (11, 180), (40, 200)])
def test_an_arc_is_a_chain_in_arc_order(count, degrees):
    cameras, place = ring(count, degrees, shuffle=count)
    order, closed = order_photos(cameras)
    assert not closed
    assert [place[i] for i in order] in (list(range(count)), list(range(count))[::-1])


@pytest.mark.parametrize("count", [4, 9, 25])
def test_a_line_of_parallel_cameras_is_a_chain(count):
    place = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    eye = torch.zeros(count, 3)
    eye[:, 0] = place.float() ** 1.3
    order, closed = order_photos(cameras_at(eye, eye + torch.tensor([0.0, 0, 1])))
    assert not closed
    assert place[order].tolist() in (list(range(count)), list(range(count))[::-1])


def test_direction_alone_orders_a_panorama():
    angle = torch.tensor([0.0, 1.2, 0.4, 0.8])
    eye = 1e-3 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    order, closed = order_photos(cameras_at(eye, eye + torch.stack([angle.sin(), 0 * angle, angle.cos()], 1)))
    assert not closed and order == [0, 2, 3, 1]


def test_heuristic_tour_is_no_worse_than_two_percent_over_the_exact_one():
    from fvgen.geometry import photo_order

    for seed in range(5):
        xy = torch.rand(10, 2, generator=torch.Generator().manual_seed(seed)).double()
        step = torch.cdist(xy, xy).numpy()
        exact, short = photo_order._exact_tour(step), photo_order._short_tour(step)
        length = [sum(step[a, b] for a, b in zip(t, t[1:] + t[:1], strict=True)) for t in (exact, short)]
        assert length[0] <= length[1] + 1e-12 and length[1] <= 1.02 * length[0]


def test_focus_point_of_a_ring_and_of_parallel_cameras():
    torch.testing.assert_close(focus_point(ring(5)[0]), torch.zeros(3).double(), atol=2e-2, rtol=0)
    eye = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    focus = focus_point(cameras_at(eye, eye + torch.tensor([0.0, 0, 1])))
    assert torch.isfinite(focus).all() and focus[2] > 0


@given(seed=st.integers(0, 10**6), count=st.integers(2, 6), frames=st.integers(2, 12), closed=st.booleans())
@settings(max_examples=25, deadline=None)
def test_path_passes_exactly_through_the_photos_at_even_steps(seed, count, frames, closed):
    generator = torch.Generator().manual_seed(seed)
    eye = torch.randn(count, 3, generator=generator) + torch.tensor([0.0, 0, -6])
    cameras = cameras_at(eye, focal=80 + 40 * torch.rand(count, generator=generator))
    closed = closed and count > 2
    path = path_between(cameras, range(count), closed, frames)
    clips = count if closed else count - 1
    assert len(path) == clips * (frames - 1) + 1
    at_photo = path.photo >= 0
    assert at_photo.nonzero()[:, 0].tolist() == list(range(0, len(path), frames - 1))
    assert torch.equal(path.cameras.c2w[at_photo], cameras.c2w[path.photo[at_photo]])
    assert torch.equal(path.cameras.K[at_photo], cameras.K[path.photo[at_photo]])
    rotation = path.cameras.c2w[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).double().expand_as(rotation))
    step = path.cameras.positions.diff(dim=0).norm(dim=1).reshape(clips, frames - 1)
    # Steps are chords of equal arcs, shorter where the curve bends (most at coarse sampling).
    if frames >= 8:
        assert float((step.amin(1) / step.amax(1)).min()) > 0.8


def test_path_is_smooth_at_the_photos():
    """Halving the step halves the bend at a photo; at a corner it would stay."""
    eye = torch.tensor([[0.0, 0, -6], [1, 0.2, -5], [3, -0.4, -5.5], [3.5, 0, -4]])

    def bends(frames: int) -> torch.Tensor:
        """[2, 2] change of the direction of travel and of turning at the two inner photos, in radians."""
        path = path_between(cameras_at(eye), [0, 1, 2, 3], False, frames)
        turn = Rotation.from_matrix(path.cameras.c2w[:, :3, :3].numpy())
        spin = torch.from_numpy((turn[1:] * turn[:-1].inv()).as_rotvec())
        direction = torch.nn.functional.normalize(torch.stack([path.cameras.positions.diff(dim=0), spin]), dim=2)
        bend = torch.arccos((direction[:, 1:] * direction[:, :-1]).sum(2).clamp(-1, 1))
        return bend[:, [frames - 2, 2 * frames - 3]]

    assert float((bends(161) / bends(81)).max()) < 0.6


def test_path_stays_near_uneven_photos():
    """Close neighbours followed by far ones make uniform splines swing out; this curve stays near its chords."""
    eye = torch.tensor([[0.0, 0, -6], [0.1, 0, -6], [3, 0, -6], [3.1, 0, -6], [3.1, 0, -3]])
    position = path_between(cameras_at(eye), range(5), False, 30).cameras.positions
    assert position[:, 0].min() > -0.05 and position[:, 0].max() < 3.3
    assert position[:, 2].min() > -6.2


def test_frames_follow_the_baseline():
    path = path_between(cameras_at(torch.tensor([[0.0, 0, -6], [0.5, 0, -6], [4.0, 0, -4.5]])), range(3), False)
    first, second = (len(clip) for clip in clips_of(path))
    assert first < second


def test_closed_path_ends_with_its_first_photo_and_clips_share_photos():
    path = path_between(ring(4)[0], [0, 1, 2, 3], True, 6)
    assert path.photo[0] == path.photo[-1] == 0
    clips = clips_of(path)
    assert [(int(clip[0]), int(clip[-1])) for clip in clips] == [(0, 5), (5, 10), (10, 15), (15, 20)]
    for clip in clips:
        assert path.photo[clip[0]] >= 0 and path.photo[clip[-1]] >= 0
        assert len(path.ends[clip[1:-1]].unique(dim=0)) == 1


def test_turning_on_the_spot_is_evenly_spaced():
    angle = torch.tensor([0.0, 0.5, 1.2])
    eye = torch.zeros(3, 3)
    path = path_between(cameras_at(eye, torch.stack([angle.sin(), 0 * angle, angle.cos()], 1)), range(3), False, 9)
    forward = path.cameras.c2w[:, :3, 2]
    turn = torch.arccos((forward[1:] * forward[:-1]).sum(1).clamp(-1, 1)).reshape(2, 8)
    assert float((turn.amin(1) / turn.amax(1)).min()) > 0.9


def test_orbit_and_spiral_look_at_the_focus():
    photos = ring(6, 120)[0]
    focus = torch.zeros(3).double()
    for path in (orbit(photos, 24, focus), spiral(photos, 24, focus=focus)):
        to_focus = torch.nn.functional.normalize(-path.cameras.positions, dim=1)
        torch.testing.assert_close(path.cameras.c2w[:, :3, 2], to_focus)
        assert (path.photo == -1).all() and (path.ends[:, 0] != path.ends[:, 1]).all()
    radius = orbit(photos, 24, focus).cameras.positions.norm(dim=1)
    torch.testing.assert_close(radius, photos.positions.norm(dim=1).mean().expand(24), atol=1e-5, rtol=0)


@pytest.mark.parametrize("style", PATH_STYLES)
def test_every_style_returns_a_sound_path(style):
    photos = ring(4, 120)[0]
    path = PATH_STYLES[style](photos, 7)
    assert torch.isfinite(path.cameras.c2w).all() and torch.isfinite(path.cameras.K).all()
    assert path.ends.shape == (len(path), 2) and int(path.ends.max()) < 4 and int(path.ends.min()) >= 0
    assert float(path.position.min()) >= 0 and float(path.position.max()) <= 1
    covered = torch.cat(clips_of(path)).unique()
    assert torch.equal(covered, torch.arange(len(path)))


def test_path_at_photos_names_the_nearest_two():
    photos = ring(5, 120)[0]
    path = path_at(photos, photos[[1, 3]])
    assert path.ends[0].tolist()[path.position[0] > 0.5] == 1
    assert path.ends[1].tolist()[path.position[1] > 0.5] == 3
    torch.testing.assert_close(torch.minimum(path.position, 1 - path.position), torch.zeros(2), atol=1e-3, rtol=0)


def test_view_change_of_an_orbit_step_is_twice_the_angle():
    photos = ring(2, 10)[0]
    chord = 2 * math.sin(math.radians(5)) * 3 / math.hypot(3, 0.5)
    turn = math.acos(float(photos.c2w[0, :3, 2] @ photos.c2w[1, :3, 2]))
    change = view_change(photos, photos, torch.zeros(3))
    assert float(change[0, 1]) == pytest.approx(chord + turn, rel=1e-6)
    assert float(change[0, 0]) == pytest.approx(0, abs=1e-6)


def test_pytorch3d_form_comes_back():
    rotation, translation = to_pytorch3d(ring(4)[0].c2w)
    again = to_pytorch3d(from_pytorch3d(rotation, translation))
    torch.testing.assert_close(again, (rotation, translation), atol=1e-14, rtol=0)


def test_bad_input_is_named():
    photos = ring(3)[0]
    with pytest.raises(InputError, match="order must hold at least two"):
        path_between(photos, [0], False)
    with pytest.raises(InputError, match="frames_per_clip must be at least 2"):
        path_between(photos, [0, 1], False, 1)
    with pytest.raises(InputError, match="frames_per_clip must be at least 3"):
        PATH_STYLES["viewcrafter"](photos, 2)
