"""config.yml: paths that hold from any folder, and the capture's in one line."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from fvgen.checks import InputError
from fvgen_ns.config_file import config_text, make_paths_absolute
from fvgen_ns.fvgen_config import fvgen_splat_cpu


def stored(data: Path, **more):
    config = deepcopy(fvgen_splat_cpu.config)
    config.data = config.pipeline.datamanager.data = data  # as ns-train does it
    for name, value in more.items():
        setattr(config, name, value)
    make_paths_absolute(config)
    return config


@pytest.mark.parametrize(("named", "expected"), [("capture", "capture"), ("./a/../capture", "capture"), (".", "")])
def test_paths_hold_from_any_folder(tmp_path, monkeypatch, named, expected):
    monkeypatch.chdir(tmp_path)
    config = stored(Path(named), load_dir=Path("models"))
    config.pipeline.datamanager.densify.cache_dir = Path("cache")
    make_paths_absolute(config)
    monkeypatch.chdir("/")
    read = yaml.load(config_text(config), Loader=yaml.Loader)
    manager = read.pipeline.datamanager
    assert read.data == manager.data == manager.dataparser.data == tmp_path / expected
    assert read.output_dir == tmp_path / "outputs" and read.load_dir == tmp_path / "models"
    assert manager.densify.cache_dir == tmp_path / "cache"
    read.set_experiment_name()
    assert read.get_checkpoint_dir().relative_to(read.get_base_dir()) == Path("nerfstudio_models")


def test_a_run_without_data_is_refused_whatever_the_folder_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(InputError, match=r"--data must be given, got nothing\. Give --data PATH"):
        stored(None)


def test_a_capture_that_moved_is_one_line_to_change(tmp_path):
    text = config_text(stored(tmp_path / "a capture: old"))
    lines = [i for i, line in enumerate(text.splitlines()) if "a capture: old" in line]
    assert len(lines) == 1 and text.splitlines()[lines[0]].startswith("data:")
    read = yaml.load(text.replace("a capture: old", "new"), Loader=yaml.Loader)
    assert read.pipeline.datamanager.data == read.pipeline.datamanager.dataparser.data == tmp_path / "new"
