"""What cannot be placed, through ``fvgen poses`` and through ``ns-train --data``."""

from __future__ import annotations

import zipfile
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sliding_film import film

from fvgen.checks import InputError
from fvgen.poses.command import main
from fvgen.poses.options import PoseOptions
from fvgen_ns.fvgen_config import fvgen_splat_cpu
from fvgen_ns.posed_input import pose_photos


def store(folder: Path, pictures: list[np.ndarray]) -> Path:
    folder.mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def bad_input(room_photos, other_room, panorama, tmp_path):
    """``bad_input(name)``: a path to what cannot be placed."""

    def make(name: str) -> Path:
        room = [photo.rgb for photo in room_photos]
        wall = np.full_like(room[0], 180)
        wall[..., 0] += np.arange(wall.shape[1], dtype=np.uint8) // 8
        pictures = {
            "one photo": room[:1],
            "two equal photos": [room[0], room[0]],
            "photos of two places": [room[0], other_room[0].rgb],
            "blurred photos": [cv2.GaussianBlur(rgb, (0, 0), 12) for rgb in room[:2]],
            "a camera turned on the spot": [photo.rgb for photo in panorama[:2]],
            "bare walls": [wall, 250 - wall],
        }
        if name in pictures:
            return store(tmp_path / "photos", pictures[name])
        if name == "a video without motion":
            return film(tmp_path / "still.mp4", [0.0] * 60)
        if name == "a video cut off at once":
            whole = film(tmp_path / "whole.mp4", list(np.linspace(0, 400, 60))).read_bytes()
            (tmp_path / "cut.mp4").write_bytes(whole[:300])
            return tmp_path / "cut.mp4"
        assert name == "a zip archive without photos"
        with zipfile.ZipFile(tmp_path / "letters.zip", "w") as archive:
            archive.writestr("letter.txt", "Dear all")
        return tmp_path / "letters.zip"

    return make


REFUSED = {
    "one photo": ("at least 2 photos, got 1", "Take more photos"),
    "two equal photos": ("at least 2 different pictures", "a step further to the side"),
    "photos of two places": ("show one thing from at least 2 places", "Photograph what 0.png and 1.png show again"),
    "blurred photos": ("show something that can be recognised", "Take sharp photos"),
    "a camera turned on the spot": ("be taken from places that lie apart", "Step sideways"),
    "bare walls": ("be at least 2|show something that can be recognised", "Take"),
    "a video without motion": ("be filmed while walking", "walk sideways"),
    "a video cut off at once": ("be a video that PyAV reads", "Copy the file again"),
    "a zip archive without photos": ("hold photos or a video", "Give a folder or zip archive of photos"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_fvgen_poses_says_what_is_wrong_and_what_to_do(bad_input, tmp_path, capfd, name):
    source = bad_input(name)
    assert main([str(source), str(tmp_path / "out"), "--matcher", "sift"]) == 2
    text = " ".join(capfd.readouterr().err.split())
    rule, next_step = REFUSED[name]
    assert any(part in text for part in rule.split("|")) and next_step in text and "Traceback" not in text
    assert source.exists() and not (tmp_path / "out").exists()
    if "What the photos share" in text:
        with Image.open(tmp_path / "out_refused.png") as picture:
            assert picture.size == (1400, 600)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_ns_train_says_the_same(bad_input, tmp_path, name):
    config = deepcopy(fvgen_splat_cpu.config)
    config.data = config.pipeline.datamanager.data = bad_input(name)
    config.output_dir, config.timestamp = tmp_path / "outputs", "now"
    config.pipeline.datamanager.poses = PoseOptions(matcher="sift")
    if name == "a zip archive without photos":  # nothing that a camera has written: it may have been meant as a capture
        with pytest.raises(InputError, match=r"be a capture.*fvgen poses PHOTOS CAPTURE"):
            config.check()
    else:
        rule, next_step = REFUSED[name]
        with pytest.raises(InputError, match=f"({rule}).*{next_step}"):
            pose_photos(config)
    assert not list((tmp_path / "outputs").rglob("transforms.json"))
