"""Training on photos without poses: these are found first, once, and the capture made of them lies in the run's folder.

From there on the run is one on any other capture: its config.yml names the folder beside it, which holds all that
ns-eval, ns-render, ns-export and a resumed training read.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape

from fvgen.checks import InputError, complaint, require
from fvgen.data.capture import POSES_FILE
from fvgen.data.other_tools import of_another_tool
from fvgen.data.read_capture import has_poses
from fvgen.files import disk_errors, read_json, require_writable, whole_folder
from fvgen.poses.options import PoseOptions, check_options
from fvgen_ns.checkpoint import find_checkpoint
from fvgen_ns.progress_bars import progress_bars

if TYPE_CHECKING:
    from fvgen_ns.fvgen_datamanager import FVGenDataManagerConfig
    from fvgen_ns.fvgen_trainer import FVGenTrainerConfig

POSED_CAPTURE = "capture"
"""Folder beside config.yml."""
_OPTIONS = "--pipeline.datamanager.poses"
_IF_FULL = "Free some space or choose another folder."


def pose_photos(config: FVGenTrainerConfig) -> None:
    """Where ``--data`` holds photos and no poses, leave a capture in the run's folder and name it in their place.

    Captures are left as they are.

    Raises:
        InputError: options or photos that cannot be used, photos whose poses cannot be found safely, or a checkpoint
            that was not trained on these photos.
    """
    manager = cast("FVGenDataManagerConfig", config.pipeline.datamanager)
    source = Path(manager.data or manager.dataparser.data)
    if not holds_photos_alone(source):
        known = "stay as it is for a capture, whose poses are known"
        unused = manager.poses == PoseOptions() or not has_poses(source)  # what is neither is refused by its reader
        require(unused, _OPTIONS, known, manager.poses, "Leave its options out.")
        return
    geometry = manager.densify.geometry
    measured = "have depth in the capture"
    require(geometry != "capture-depth", "--geometry capture-depth", measured, "photos alone", "Choose plane-sweep.")
    check_options(manager.poses)
    config.experiment_name = config.experiment_name or source.stem
    target = config.get_base_dir() / POSED_CAPTURE
    require_writable("--output-dir", target, _IF_FULL)
    _make(config, source, manager.poses, target)
    config.data = manager.data = manager.dataparser.data = target
    manager.poses = PoseOptions()  # of the capture's making, which is done; its folder says how


def holds_photos_alone(path: Path) -> bool:
    """Whether a folder, archive or file holds photos or a video, and poses of no tool that is known."""
    from fvgen.poses.intake import holds_media

    return path.exists() and not has_poses(path) and of_another_tool(path) is None and holds_media(path)


def _make(config: FVGenTrainerConfig, source: Path, options: PoseOptions, target: Path) -> None:
    """The capture in ``target``: copied from the run that goes on, or that had the same photos; else made now."""
    from fvgen.poses.photos_to_capture import photos_to_capture, recipe

    wanted = recipe(source, options)
    checkpoint = find_checkpoint(config)
    if checkpoint is not None:
        found: Path | None = _trained_on(checkpoint.parent.parent, source, wanted, options)
    else:
        others = sorted(config.get_base_dir().parent.parent.glob(f"*/*/{POSED_CAPTURE}"))
        found = next((other for other in others if _recipe_of(other) == wanted), None)
    if found is None:
        cost = "Each pair of photos takes up to 4 s of a processor core; beyond 8 photos each is compared with about 5."
        CONSOLE.log(f"{escape(str(source))} holds no poses: finding them first, once. {cost}")
        with progress_bars() as progress:
            notes = photos_to_capture(source, target, options, progress)
        CONSOLE.log(f"{escape(notes[0])} Written to {escape(str(target))}")
    elif found != target:
        CONSOLE.log(f"Poses of these photos are known from {escape(str(found))}")
        with disk_errors("--output-dir", target, _IF_FULL), whole_folder(target) as folder:
            shutil.copytree(found, folder, dirs_exist_ok=True)


def _trained_on(run: Path, source: Path, wanted: dict[str, Any], options: PoseOptions) -> Path:
    """The capture that the run which goes on was trained on; other poses would not fit its splat.

    Raises:
        InputError: it was trained on something else than these photos with these options.
    """
    capture = run / POSED_CAPTURE
    made = _recipe_of(capture)
    if made is None or made["photos"] != wanted["photos"]:
        rule = "be what the checkpoint was trained on"
        step = f"Give the path in the line 'data:' of {run / 'config.yml'}."
        raise InputError(complaint("--data", rule, f"other photos, {source}", step))
    same = options == PoseOptions() or made["options"] == wanted["options"]
    require(same, _OPTIONS, "stay those of the run that goes on", options, "Leave its options out.")
    return capture


def _recipe_of(capture: Path) -> dict[str, Any] | None:
    """What a capture was made of; None where `fvgen.poses` has not made it."""
    return (read_json(capture / POSES_FILE) or {}).get("recipe")
