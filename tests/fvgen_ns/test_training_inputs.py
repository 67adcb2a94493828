"""What training starts from: each photo decoded once, cameras that are exactly its own, damaged photos left out."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image, ImageFile

from fvgen.checks import InputError
from fvgen.data.capture import CaptureFrame
from fvgen.data.decoded_frame import DecodedFrame
from fvgen_ns.densify_config import DensifyConfig
from fvgen_ns.fvgen_datamanager import FVGenDataManager, FVGenDataManagerConfig
from fvgen_ns.fvgen_dataparser import FVGenDataParserConfig
from fvgen_ns.training_photo import TrainingCamera, TrainingPhoto


@pytest.fixture
def decoded(monkeypatch) -> Counter:
    """How often Pillow has decoded each file."""
    counts: Counter = Counter()
    load = ImageFile.ImageFile.load

    def counted(image):
        path = Path(image.filename)
        if image.tile and path.parent.name == "images":  # still to be decoded
            counts[path.name] += 1
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    return counts


def manager(capture: Path, cache: Path, parser: type = FVGenDataParserConfig) -> FVGenDataManagerConfig:
    densify = DensifyConfig(geometry="capture-depth", working_size=64, frames_per_clip=3, cache_dir=cache)
    return FVGenDataManagerConfig(data=capture, dataparser=parser(), image_size=64, densify=densify)


def photos_of(capture: Path) -> list[str]:
    return [path.name for path in (capture / "images").iterdir()]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_checks_geometry_and_training_decode_each_photo_once(capture, tmp_path, decoded, suffix):
    if suffix == ".jpg":
        for path in list((capture / "images").iterdir()):
            Image.open(path).save(path.with_suffix(suffix), quality=95)
            path.unlink()
        description = capture / "transforms.json"
        meta = json.loads(description.read_text())
        for frame in meta["frames"]:
            frame["file_path"] = frame["file_path"].replace(".png", suffix)
        for split in ("train", "val", "test"):
            meta[f"{split}_filenames"] = [name.replace(".png", suffix) for name in meta[f"{split}_filenames"]]
        description.write_text(json.dumps(meta))
        decoded.clear()
    config = manager(capture, tmp_path / "cache")
    config.read_inputs()
    datamanager = FVGenDataManager(config)
    for step in range(12):
        datamanager.next_train(step)
    assert datamanager.fixed_indices_eval_dataloader
    for index in range(len(datamanager.train_dataset)):
        datamanager.train_dataset[index]  # as the viewer reads all of them again
    assert {name: decoded[name] for name in photos_of(capture)} == dict.fromkeys(photos_of(capture), 1)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize("parser", [FVGenDataParserConfig, NerfstudioDataParserConfig])
def test_damaged_photos_are_left_out_and_named_in_one_note(capture, tmp_path, parser):
    meta = json.loads((capture / "transforms.json").read_text())
    for name in (meta["train_filenames"][1], meta["test_filenames"][0]):
        truncate(capture / name)
    config = manager(capture, tmp_path / "cache", parser)
    config.read_inputs()
    inputs = vars(config)["_inputs"]
    names = [frame.name for frame in inputs.training.frames]
    assert names == [Path(meta["train_filenames"][i]).name for i in (0, 2, 3)]
    assert (
        len(inputs.photos) == len(inputs.training.outputs.image_filenames) == len(inputs.training.outputs.cameras) == 3
    )
    (note,) = inputs.training.notes
    assert "Left out" in note and "truncated" in note and meta["train_filenames"][1] in note
    assert [frame.name for frame in inputs.held_out.frames] == [Path(meta["test_filenames"][1]).name]
    datamanager = FVGenDataManager(config)
    (of_both,) = (text for text in datamanager.notes if text.startswith("Left out: "))
    assert note in of_both and meta["test_filenames"][0] in of_both
    assert len(datamanager.eval_dataset) == 1


def test_a_capture_with_fewer_than_two_good_photos_is_refused_with_the_causes(capture, tmp_path):
    meta = json.loads((capture / "transforms.json").read_text())
    for name in meta["train_filenames"][1:]:
        truncate(capture / name)
    with pytest.raises(InputError, match=r"at least 2 photos to train on, got 1\. Left out: .*truncated"):
        manager(capture, tmp_path / "cache").read_inputs()


def test_settings_can_be_stored_after_the_capture_was_read(capture, tmp_path):
    import yaml

    config = manager(capture, tmp_path / "cache")
    config.read_inputs()
    assert vars(yaml.load(yaml.dump(config), Loader=yaml.Loader)).keys() == vars(manager(capture, tmp_path)).keys()


def frame_of(size: tuple[int, int], focal: float = 1.1, **more) -> CaptureFrame:
    K = np.array([[focal * max(size), 0, 0.52 * size[0]], [0, focal * max(size), 0.47 * size[1]], [0, 0, 1]])
    return CaptureFrame("photo", Path("photo.png"), np.eye(4), K, size, **more)


@given(
    st.tuples(st.integers(8, 6000), st.integers(8, 6000)).filter(lambda size: max(size) / min(size) < 8),
    st.integers(1, 2000),
)
def test_intrinsics_follow_each_side_of_the_shrunk_photo(size, image_size):
    camera = TrainingCamera.of(frame_of(size), image_size)
    width, height = camera.crop[2:]
    assert max(width, height) == min(image_size, max(size))
    angles = [
        (camera.K[0, 0] / width, camera.K[0, 2] / width, camera.K[1, 1] / height, camera.K[1, 2] / height),
        (1.1 * max(size) / size[0], 0.52, 1.1 * max(size) / size[1], 0.47),
    ]
    assert np.allclose(*angles, rtol=1e-9)  # the whole photo is in the picture, so the angles of view stay


@pytest.mark.parametrize("size", [(200, 133), (133, 200), (800, 533), (1209, 1600)])
@pytest.mark.parametrize("distortion", [(0.0,) * 5, (0.08, -0.02, 0.001, -0.002, 0.0)], ids=["pinhole", "lens"])
def test_a_spot_stays_where_the_camera_sees_it(size, distortion):
    frame = frame_of(size, distortion=distortion)
    points = np.array([[x, y, 3.0] for x in (-0.6, 0.2, 0.7) for y in (-0.5, 0.1, 0.6)])
    points[:, :2] *= np.array(size) / max(size)
    K = frame.K.copy()
    K[:2, 2] -= 0.5  # OpenCV's pixel centres are whole numbers
    uv = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, np.array(distortion))[0][:, 0]
    y, x = np.mgrid[: size[1], : size[0]]
    wide = 0.012 * max(size)
    for point, (u, v) in zip(points, uv, strict=True):
        spot = np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * wide**2))
        pixels = np.repeat(np.rint(255 * spot).astype(np.uint8)[..., None], 3, axis=2)
        picture = TrainingPhoto.of(DecodedFrame(frame, pixels, None, None), 160).image[..., 0].astype(float)
        camera = TrainingCamera.of(frame, 160)
        rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
        seen = np.array([(picture * columns).sum(), (picture * rows).sum()]) / picture.sum()
        expected = camera.K @ point / point[2]
        # 8 bits and resampling leave .03 of a pixel; one factor for both sides is off by up to .4
        assert np.abs(seen - expected[:2]).max() < 0.05


def test_nerfstudios_cameras_are_those_of_the_pictures(capture, tmp_path):
    meta = json.loads((capture / "transforms.json").read_text())
    meta |= {"k1": 0.1, "k2": -0.02}
    (capture / "transforms.json").write_text(json.dumps(meta))
    config = replace(
        manager(capture, tmp_path), image_size=61, densify=DensifyConfig(geometry="none", generator="none")
    )
    datamanager = FVGenDataManager(config, test_mode="test")
    for dataset in (datamanager.train_dataset, datamanager.eval_dataset):
        before = dataset.cameras.get_intrinsics_matrices()
        for index in range(len(dataset)):
            camera = dataset.cameras[index]
            assert dataset[index]["image"].shape[:2] == (int(camera.height), int(camera.width))
            assert camera.distortion_params is None
        datamanager.next_train(0)
        assert torch.equal(before, dataset.cameras.get_intrinsics_matrices())  # what ns-render shows is what is trained
