"""The ``config.yml`` of a run: it holds from any folder, and a capture that moved is one line to change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import yaml

from fvgen.checks import require
from fvgen.data.read_capture import has_poses

if TYPE_CHECKING:
    from fvgen_ns.fvgen_datamanager import FVGenDataManagerConfig
    from fvgen_ns.fvgen_trainer import FVGenTrainerConfig


def make_paths_absolute(config: FVGenTrainerConfig) -> None:
    """Make a run's paths hold from any folder; the capture's is one object, which YAML writes once.

    Raises:
        InputError: no capture is named, and the working folder is none; it may hold photos that nobody meant.
    """
    manager = cast("FVGenDataManagerConfig", config.pipeline.datamanager)
    is_named = manager.data is not None or manager.dataparser.data != Path()
    name_it = "Give --data PATH: a capture, a folder of photos, a video, or a zip archive of either."
    require(is_named or has_poses(Path()), "--data", "be given", "nothing", name_it)
    data = _absolute(manager.data or manager.dataparser.data)
    config.data = manager.data = manager.dataparser.data = data
    for owner, names in (
        (config, ("output_dir", "load_dir", "load_checkpoint")),
        (manager.densify, ("cache_dir", "views")),
    ):
        for name in names:
            if getattr(owner, name) is not None:
                setattr(owner, name, _absolute(getattr(owner, name)))


def _absolute(path: Path) -> Path:
    """Links stay as they are named, unless ``..`` may lead out of one."""
    path = Path(path)
    return path.resolve() if ".." in path.parts else path.absolute()


class _Dumper(yaml.Dumper):
    """Writes a path as one piece of text where PyYAML writes a line for each folder."""


def _write_path(dumper: yaml.Dumper, path: Path) -> yaml.Node:
    tag = f"tag:yaml.org,2002:python/object/apply:pathlib.{type(path).__name__}"
    return dumper.represent_sequence(tag, [str(path)], flow_style=True)


_Dumper.add_multi_representer(Path, _write_path)


def config_text(config: FVGenTrainerConfig) -> str:
    """``config`` as Nerfstudio's commands read it."""
    return yaml.dump(config, Dumper=_Dumper, width=float("inf"))
