"""Protocols against cases counted by hand, and scenes in the folders as they are published."""

import json

import numpy as np
import pytest
from PIL import Image

from fvgen.checks import InputError
from fvgen.data.read_capture import read_capture
from fvgen.evaluation.protocol import PROTOCOLS, Split, load_protocol
from fvgen.evaluation.scenes import find_scenes, prepare_scene


def names(count):
    return [f"{i:03d}.jpg" for i in range(count)]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_bundled_protocol_says_where_the_data_are_and_how_it_differs(name):
    protocol = load_protocol(name)
    assert protocol.name == name and protocol.about and protocol.get and protocol.differs


@pytest.mark.parametrize(
    ("count", "views", "train"),
    [(20, 3, (1, 10, 19)), (20, 6, (1, 4, 7, 12, 15, 19)), (62, 3, (1, 30, 61))],
)
def test_llff_tests_every_eighth_and_trains_evenly(count, views, train):
    split = load_protocol("llff").choose("fern", names(count), views)
    assert split.test == tuple(range(0, count, 8))
    assert split.train == train


@pytest.mark.parametrize(
    ("count", "train", "tests", "note"),
    [(61, (0, 15, 30, 45, 60), 56, ""), (121, (0, 30, 60, 90, 120), 56, ""), (33, (0, 8, 16, 24, 32), 28, "7 views")],
)
def test_five_photos_and_fourteen_views_between_each_two(count, train, tests, note):
    split = load_protocol("fvgen-5-to-56").choose("any", names(count))
    assert split.train == train
    assert len(split.test) == tests and not {*split.test} & {*train}
    assert split.note.startswith(note) and bool(split.note) == bool(note)


def test_two_photos_and_the_fourteen_between_them():
    split = load_protocol("fvgen-2-to-16").choose("any", names(20))
    assert split.train == (2, 17) and split.test == tuple(range(3, 17))


def test_blender_trains_on_the_listed_ids_and_tests_every_eighth():
    own = Split(tuple(range(100)), tuple(range(100, 300)))
    split = load_protocol("blender").choose("lego", names(300), own=own)
    assert split.train == (26, 86, 2, 55, 75, 93, 16, 73, 8)
    assert split.test == tuple(range(100, 300, 8)) and len(split.test) == 25


def test_names_of_a_users_file_decide(tmp_path):
    rule = {"rule": "names", "scenes": {"yard": {"train": ["003.jpg", "001.jpg"], "test": ["002.jpg"]}}}
    (tmp_path / "mine.json").write_text(json.dumps({"about": "mine", "split": rule}))
    protocol = load_protocol(str(tmp_path / "mine.json"))
    assert protocol.choose("yard", names(5)) == Split((3, 1), (2,))
    with pytest.raises(InputError, match=r"must have the photos that the protocol names, got 003.jpg"):
        protocol.choose("yard", names(3))


@pytest.mark.parametrize(
    ("protocol", "count", "views", "message"),
    [
        ("llff", 20, 4, "views must be 3, 6, 9, got 4"),
        ("llff", 20, None, "views must be 3, 6, 9, got none"),
        ("llff", 5, 9, "must leave 9 photos beside every 8th, got 5 photos"),
        ("fvgen-5-to-56", 8, None, "must have 5 photos and one between each two, got 8 photos"),
    ],
)
def test_photos_that_do_not_fit_the_rule_are_refused(protocol, count, views, message):
    with pytest.raises(InputError, match=message):
        load_protocol(protocol).choose("fern", names(count), views)


@pytest.fixture(autouse=True)
def _fast_matches(monkeypatch):
    monkeypatch.setattr("fvgen.evaluation.first_points.default_matcher", lambda: "sift")


def textured(height, width, seed):
    small = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def llff(tmp_path):
    """Nine photos of fern at 1/8 size, camera i at x = i, all looking along +z."""
    scene = tmp_path / "nerf_llff_data" / "fern"
    (scene / "images_8").mkdir(parents=True)
    rows = []
    for i in range(9):
        textured(48, 64, i).save(scene / "images_8" / f"IMG_{i}.png")
        right, down, forward = np.eye(3)
        matrix = np.stack([down, right, -forward, [i, 0, 0], [48 * 8, 64 * 8, 400]], axis=1)
        rows.append([*matrix.ravel(), 1.0, 9.0])
    np.save(scene / "poses_bounds.npy", np.array(rows))
    return scene.parent


def test_an_llff_scene_as_published_becomes_a_capture(llff, tmp_path):
    protocol = load_protocol("llff")
    (scene,) = find_scenes(protocol, llff)
    prepared = prepare_scene(protocol, scene, tmp_path / "out", 3)
    capture = read_capture(prepared.folder)
    assert prepared.split == Split((1, 4, 7), (0, 8))
    trained = [capture.frames[i] for i in capture.split("train")]
    assert [frame.c2w[0, 3] for frame in trained] == [1, 4, 7]
    for frame in trained:
        assert np.allclose(frame.c2w[:3, :3], np.eye(3)) and frame.size == (64, 48)
        assert np.allclose(frame.K, [[50, 0, 32], [0, 50, 24], [0, 0, 1]])
    assert [capture.frames[i].c2w[0, 3] for i in capture.split("test")] == [0, 8]


def test_blender_photos_are_shrunk_over_white(tmp_path):
    scene = tmp_path / "lego"
    for split, count in (("train", 94), ("test", 10)):
        (scene / split).mkdir(parents=True)
        frames = []
        for i in range(count):
            Image.new("RGBA", (40, 40), (10, 20, 30, 0)).save(scene / split / f"r_{i:03d}.png")
            pose = np.eye(4)
            pose[0, 3] = i
            frames.append({"file_path": f"./{split}/r_{i:03d}", "transform_matrix": pose.tolist()})
        text = json.dumps({"camera_angle_x": 0.7, "frames": frames})
        (scene / f"transforms_{split}.json").write_text(text)
    prepared = prepare_scene(load_protocol("blender"), scene, tmp_path / "out")
    capture = read_capture(prepared.folder)
    assert len(capture.split("train")) == 9 and len(capture.split("test")) == 2
    frame = capture.frames[0]
    assert frame.size == (20, 20) and np.asarray(Image.open(frame.photo)).min() == 255
    assert frame.K[0, 0] == pytest.approx(10 / np.tan(0.35))


def test_a_folder_without_scenes_says_where_to_get_them(tmp_path):
    with pytest.raises(InputError, match=r"must hold scenes of llff: fern.*nerf_llff_data"):
        find_scenes(load_protocol("llff"), tmp_path)
    with pytest.raises(InputError, match="protocol must be llff"):
        load_protocol("dtu")
