"""What several tests of captures and of training sets start from."""

from __future__ import annotations

import shutil

import pytest

from fvgen.data.read_capture import read_capture


@pytest.fixture
def frames(tiny_room):
    return read_capture(tiny_room).frames


@pytest.fixture
def points(tiny_room):
    return read_capture(tiny_room).points


@pytest.fixture
def photos(tiny_room, tmp_path):
    """A capture's folder with photos alone."""
    shutil.copytree(tiny_room / "images", tmp_path / "scan" / "images")
    return tmp_path / "scan"


@pytest.fixture(scope="module")
def shard_set(tmp_path_factory):
    """Shards of `clip_scenes.SCENES`; not to be written to."""
    from clip_scenes import SCENES

    from fvgen.data.clip_encodings import PixelEncoding
    from fvgen.data.precompute import precompute

    folder = tmp_path_factory.mktemp("shards")
    precompute(SCENES, PixelEncoding(), folder, {"frames": 3, "height": 32, "width": 48})
    return folder


@pytest.fixture
def shard_set_copy(shard_set, tmp_path):
    """A copy of the shards for a test to damage."""
    for path in shard_set.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path
