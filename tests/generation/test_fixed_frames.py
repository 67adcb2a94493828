"""Networks with image tokens draw clips of one length; every network needs photos on its path."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from fvgen.checks import InputError
from fvgen.generation.fixed_frames import fixed_frames_of, thinned
from fvgen.generation.load_pipeline import load_pipeline
from fvgen.generation.view_generator import VIEW_GENERATORS
from fvgen.geometry.trajectory import PATH_STYLES, clips_of, path_between


def test_the_length_is_read_from_the_folder(tiny_model, tmp_path):
    assert fixed_frames_of(tiny_model("student")) is None
    assert fixed_frames_of(tiny_model("teacher")) == 4
    folder = shutil.copytree(tiny_model("teacher"), tmp_path / "model")
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"frames": 7}))
    assert fixed_frames_of(folder) == load_pipeline(folder).fixed_frames == 7


@pytest.mark.parametrize("frames", [3, 6])
def test_another_length_is_refused_with_the_reason(frames, plane, tiny_model):
    capture, geometry = plane
    path = path_between(capture.cameras, range(4), False, frames)
    generator = VIEW_GENERATORS["teacher"](model=tiny_model("teacher"), steps=1)
    words = rf"a clip must have the 4 frames the network knows, got {frames}\. Its image tokens"
    with pytest.raises(InputError, match=words):
        generator.generate(capture, geometry, path)
    renders = torch.rand(1, frames, 3, 16, 16)
    with pytest.raises(InputError, match=words):
        generator.pipeline(renders, renders[:, [0, -1]], path.cameras[torch.arange(frames)].resized(16, 16))


@pytest.mark.parametrize("kind", ["student", "teacher"])
@pytest.mark.parametrize("style", ["orbit", "spiral"])
def test_paths_without_photos_are_refused(kind, style, plane, tiny_model):
    capture, geometry = plane
    path = PATH_STYLES[style](capture.cameras, 4)
    with pytest.raises(InputError, match=r"must hold a photo, got none\. Use the path between or viewcrafter"):
        VIEW_GENERATORS[kind](model=tiny_model(kind)).generate(capture, geometry, path)


@pytest.mark.parametrize("wanted", [2, 5, 9, 16, 25])
def test_frames_are_left_out_evenly_and_photos_stay(wanted, plane):
    cameras = plane[0].cameras
    drawn, like = (path_between(cameras, range(4), False, count) for count in (16, wanted))
    kept = thinned(drawn, like)
    assert [len(clip) for clip in kept] == [min(wanted, 16)] * 3
    for clip, whole in zip(kept, clips_of(drawn), strict=True):
        assert clip[0] == whole[0] and clip[-1] == whole[-1]
        steps = clip.diff()
        assert int(steps.max() - steps.min()) <= 1
