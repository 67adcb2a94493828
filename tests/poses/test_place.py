from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from room_photographs import photograph, store_photos

from fvgen.poses.agreement import photometric_agreement
from fvgen.poses.alignment import pose_difference
from fvgen.poses.camera_groups import focal_length_camera
from fvgen.poses.place import place_photos
from fvgen.poses.placement import PlacementRefusedError
from fvgen.poses.refusal import draw_refusal
from fvgen.types import Cameras


def check_poses(placement, known, upright_pose, position=0.01, degrees=0.6):
    placed = placement.model.placed
    difference = pose_difference(
        [upright_pose(placement, i) for i in placed], [known[i].camera.c2w[0].numpy() for i in placed]
    )
    assert difference.position < position
    assert difference.degrees < degrees


@pytest.fixture(scope="module")
def placed_room(room_photos, tmp_path_factory):
    """The five photos of the room, placed; not to be changed."""
    return place_photos(*store_photos(tmp_path_factory.mktemp("room"), room_photos))


def test_all_photos_of_a_room_are_placed_where_they_were_taken(room_photos, placed_room, upright_pose):
    placement = placed_room
    assert placement.notes[0] == "5 of 5 photos placed: 0.png, 1.png, 2.png, 3.png, 4.png."
    check_poses(placement, room_photos, upright_pose)
    focal = float(room_photos[0].camera.K[0, 0, 0])
    assert placement.model.lenses[0].focal * 240 / 1024 == pytest.approx(focal, rel=0.03)
    assert all(verdict.agreement > 0.1 for verdict in placement.verdicts)


def test_the_same_photos_give_the_same_poses(room_photos, placed_room, stored):
    again = place_photos(*stored(room_photos))
    assert again.model.placed == placed_room.model.placed
    for i in again.model.placed:
        assert np.array_equal(again.model.c2w[i], placed_room.model.c2w[i])


def test_portrait_and_landscape_share_a_camera(room_photos, stored, upright_pose):
    mixed = list(room_photos)
    for i in (1, 4):
        camera = room_photos[i].camera
        K = camera.K.clone()
        K[:, :2, 2] = torch.tensor([80.0, 120.0], dtype=K.dtype)
        mixed[i] = photograph(Cameras(camera.c2w, K, 240, 160))[0]
    photos, matcher = stored(mixed)
    placement = place_photos(photos, matcher)
    assert placement.model.placed == (0, 1, 2, 3, 4)
    assert len({placement.model.lenses[i].focal for i in range(5)}) == 1
    check_poses(placement, mixed, upright_pose)


def test_a_photo_of_another_size_has_its_own_camera(room_photos, stored, upright_pose):
    camera = room_photos[4].camera
    K = camera.K.clone()
    K[:, :2] *= 1.25
    K[:, 0, 2] = 140.0
    mixed = [*room_photos[:4], photograph(Cameras(camera.c2w, K, 200, 280))[0]]  # nearer, and cropped at its sides
    placement = place_photos(*stored(mixed))
    assert placement.model.placed == (0, 1, 2, 3, 4)
    assert placement.model.lenses[0].focal != placement.model.lenses[4].focal
    check_poses(placement, mixed, upright_pose, position=0.02, degrees=1.0)


def test_a_given_focal_length_stays(room_photos, stored, upright_pose):
    photos, matcher = stored(room_photos[1:4])
    focal = float(room_photos[0].camera.K[0, 0, 0])
    placement = place_photos(photos, matcher, focal_length_camera(focal, photos))
    assert placement.model.lenses[1].focal * 240 / 1024 == pytest.approx(focal, rel=1e-9)
    assert any("as given" in note for note in placement.notes)
    check_poses(placement, room_photos[1:4], upright_pose)


def test_an_equal_photo_and_photos_of_another_place_stay_out(room_photos, other_room, stored, upright_pose):
    known = [*room_photos[:4], room_photos[1], *other_room[:2]]
    photos, matcher = stored(known, scenes=[0] * 5 + [1, 1])
    placement = place_photos(photos, matcher)
    assert placement.model.placed == (0, 1, 2, 3)
    summary = placement.notes[0]
    assert summary.startswith("4 of 7 photos placed: 0.png, 1.png, 2.png, 3.png; not placed: ")
    assert "4.png because it is the same picture as 1.png" in summary
    assert "5.png" in summary and "6.png" in summary and "verified matches with the others" in summary
    assert "more with a second group: another place wants a folder of its own" in summary
    check_poses(placement, known, upright_pose)


def test_two_equal_photos_are_refused(room_photos, stored):
    photos, matcher = stored([room_photos[0], room_photos[0]])
    with pytest.raises(PlacementRefusedError, match=r"must be at least 2 different pictures.*Take more photos"):
        place_photos(photos, matcher)


def test_two_places_without_a_view_in_common_are_refused(room_photos, other_room, stored):
    photos, matcher = stored([room_photos[0], other_room[0]], scenes=[0, 1])
    with pytest.raises(PlacementRefusedError, match=r"show one thing from at least 2 places.*0 of 2 photos placed"):
        place_photos(photos, matcher)


def test_a_camera_turned_on_the_spot_is_refused(panorama, stored):
    photos, matcher = stored(panorama)
    with pytest.raises(PlacementRefusedError, match=r"taken from places that lie apart.*Step sideways"):
        place_photos(photos, matcher)


def test_bare_walls_are_refused(stored, room_photos):
    from oracle_matcher import KnownPhoto, OracleMatcher

    rng = np.random.default_rng(0)
    walls = []
    for i in range(3):
        rgb = np.clip(190 + 10 * i + rng.normal(0, 2, room_photos[0].rgb.shape), 0, 255).astype(np.uint8)
        walls.append(KnownPhoto(rgb, room_photos[i].depth, room_photos[i].camera))
    photos, _ = stored(walls)
    with pytest.raises(PlacementRefusedError, match="Take sharp photos of things with texture"):
        place_photos(photos, OracleMatcher(walls, points_per_photo=20))


def test_pixels_speak_against_wrong_poses(placed_room):
    placement = copy.deepcopy(placed_room)
    small = [placement.matches.looks[i].small for i in range(5)]
    right = photometric_agreement(small, placement.model)
    placement.model.c2w[2][:3, 3] += 0.3 * (placement.model.c2w[0][:3, 3] - placement.model.c2w[4][:3, 3])
    wrong = photometric_agreement(small, placement.model)
    assert right.share[2] > 3 * right.by_accident[2]
    assert wrong.share[2] < 0.3 * right.share[2]


def test_a_refusal_can_be_drawn(room_photos, other_room, stored, tmp_path):
    photos, matcher = stored([room_photos[0], room_photos[0], other_room[0]], scenes=[0, 0, 1])
    with pytest.raises(PlacementRefusedError) as refused:
        place_photos(photos, matcher)
    draw_refusal(refused.value, tmp_path / "why.png")
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.size == (1400, 600)
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 100


def test_two_photos_that_do_not_tell_their_focal_length_need_it_given(room_photos, stored):
    photos, matcher = stored([room_photos[0], room_photos[2]])
    with pytest.raises(PlacementRefusedError, match=r"say which focal length.*--focal-length"):
        place_photos(photos, matcher)
    focal = float(room_photos[0].camera.K[0, 0, 0])
    assert place_photos(photos, matcher, focal_length_camera(focal, photos)).model.placed == (0, 1)
