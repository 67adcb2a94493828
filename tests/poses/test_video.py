from __future__ import annotations

import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from sliding_film import film

from fvgen.checks import InputError
from fvgen.poses.video import FEWEST_FRAMES, MOST_FRAMES, choose_frames, extract_frames, write_contact_sheet


def test_frames_lie_at_equal_steps_of_motion(tmp_path):
    # the camera stands still for half of the time
    offsets = [*np.linspace(0, 200, 60), *[200.0] * 60, *np.linspace(200, 400, 60)]
    frames = extract_frames(film(tmp_path / "a.mp4", offsets), tmp_path)
    seconds = [float(file.stem.split("_")[2][:-1]) for file in frames.files]
    assert FEWEST_FRAMES <= len(frames.files) <= MOST_FRAMES
    moved = np.interp(seconds, np.arange(180) / 20, offsets)
    steps = np.diff(moved)
    assert steps.min() > 0.3 * steps.mean()
    assert sum(3.2 < second < 5.8 for second in seconds) <= 1


def test_sharp_frames_are_taken(tmp_path):
    blurred = {i for i in range(120) if (i // 2) % 2}  # every second frame that is looked at
    frames = extract_frames(film(tmp_path / "a.mp4", list(np.linspace(0, 400, 120)), blurred), tmp_path)
    numbers = [round(20 * float(file.stem.split("_")[2][:-1])) for file in frames.files]
    assert not set(numbers) & blurred


def test_of_each_step_the_sharpest_is_chosen():
    sharpness = [1.0] * 100
    for i in range(5, 100, 10):
        sharpness[i] = 2.0
    assert choose_frames(sharpness, [0.012] * 100) == list(range(5, 100, 10))


def test_the_rotation_tag_stands_frames_upright(tmp_path):
    film(tmp_path / "a.mp4", list(np.linspace(0, 300, 60)))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90", "-i", str(tmp_path / "a.mp4")]
    subprocess.run([*command, "-c", "copy", str(tmp_path / "b.mp4")], check=True)
    for name in "ab":
        (tmp_path / name).mkdir()
    lying = extract_frames(tmp_path / "a.mp4", tmp_path / "a").files[0]
    upright = extract_frames(tmp_path / "b.mp4", tmp_path / "b").files[0]
    with Image.open(lying) as first, Image.open(upright) as second:
        difference = np.abs(np.rot90(np.asarray(first), 1).astype(int) - np.asarray(second))
    assert difference.mean() < 2


def test_a_video_without_motion_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"filmed while walking.*walk sideways"):
        extract_frames(film(tmp_path / "a.mp4", [0.0] * 60), tmp_path)


def test_a_video_that_breaks_off_is_used_up_to_there(tmp_path):
    film(tmp_path / "a.mp4", list(np.linspace(0, 400, 160)))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(tmp_path / "a.mp4"), "-c", "copy"]
    subprocess.run([*command, "-movflags", "faststart", str(tmp_path / "b.mp4")], check=True)
    data = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(data[: 6 * len(data) // 10])
    frames = extract_frames(tmp_path / "b.mp4", tmp_path)
    assert len(frames.files) >= FEWEST_FRAMES
    assert any("used up to there" in note for note in frames.notes)


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(InputError, match="be a video that PyAV reads"):
        extract_frames(tmp_path / "a.mp4", tmp_path)


def test_the_contact_sheet_shows_every_frame(tmp_path):
    files = []
    for i in range(7):
        files.append(tmp_path / f"{i}.png")
        Image.new("RGB", (120, 60), (30 * i, 0, 255 - 30 * i)).save(files[-1])
    write_contact_sheet({file: file == files[5] for file in files}, tmp_path / "sheet.jpg")
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.size == (5 * 240, 2 * 120)
        for i in range(7):
            red = sheet.getpixel((240 * (i % 5) + 120, 120 * (i // 5) + 60))[0]
            assert abs(red - 30 * i) < 6
