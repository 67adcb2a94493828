"""Checkpoints: found, read safely, and compared with the options of the run that goes on from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from fvgen.checks import InputError, complaint, require

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

GAUSSIANS = "_model.gauss_params."
"""Start of the names of the Gaussians' parameters in a pipeline's state."""
_OF_EACH = (GAUSSIANS, "_model.is_background", "_model.is_guess")
"""Starts of the names of all that it holds of each Gaussian."""
_AS_THEN = "Name the options of the run that the checkpoint is of, or train from the start without --load-dir."


def find_checkpoint(config: TrainerConfig) -> Path | None:
    """The checkpoint that a run goes on from; None when it starts from nothing.

    Raises:
        InputError: it is not there.
    """
    folder, file, step = config.load_dir, config.load_checkpoint, config.load_step
    if folder is None:
        require(file is None or file.is_file(), "--load-checkpoint", "be an existing file", file, "Check the path.")
        return file
    steps = {int(path.stem.removeprefix("step-")): path for path in sorted(folder.glob("step-*.ckpt"))}
    require(
        bool(steps),
        "--load-dir",
        "hold a checkpoint step-*.ckpt",
        folder,
        "It is the folder nerfstudio_models beside the config.yml of a run.",
    )
    chosen = max(steps) if step is None else step
    require(chosen in steps, "--load-step", f"be one of {sorted(steps)}", step, "Leave it out for the last one.")
    return steps[chosen]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, mapped from the file where that is possible.

    Raises:
        InputError: it is damaged, or of another method.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch's reader raises errors of many kinds on damaged files
        cause = " ".join(str(error).split())[:200]
        raise InputError(
            complaint("the checkpoint", "be a whole one of fvgen-splat", f"{path} ({cause})", "Take an earlier one.")
        ) from error
    known = isinstance(state, dict) and {"step", "pipeline", "optimizers", "schedulers", "scalers"} <= state.keys()
    require(
        known and f"{GAUSSIANS}means" in state["pipeline"],
        "the checkpoint",
        "be of fvgen-splat",
        f"{path} of something else",
        "Name the folder nerfstudio_models of such a run.",
    )
    return state


def check_fit(state: Mapping[str, Any], config: TrainerConfig) -> None:
    """Refuse options that do not fit the checkpoint.

    Args:
        state: from `read_checkpoint`.
        config: of the run that goes on.

    Raises:
        InputError: naming the option.
    """
    done, pipeline, model = state["step"] + 1, state["pipeline"], cast(Any, config.pipeline.model)
    require(
        config.max_num_iterations > done,
        "--max-num-iterations",
        f"be more than the {done} that the checkpoint has done",
        config.max_num_iterations,
        "This total is reached: ask for a larger one, or go on with ns-eval, ns-export or ns-viewer.",
    )
    colours = pipeline.get("_model.photo_colours")
    degree = math.isqrt(pipeline[f"{GAUSSIANS}features_rest"].shape[1] + 1) - 1
    moved = "_model.camera_optimizer.pose_adjustment" in pipeline
    then = {
        "photo-colour": ("off" if colours is None else "affine", model.photo_colour),
        "sh-degree": (degree, model.sh_degree),
        "camera-optimizer.mode": ("SO3xR3 or SE3" if moved else "off", model.camera_optimizer.mode),
    }
    for option, (expected, now) in then.items():
        rule = f"be {expected} as in the checkpoint"
        require(str(now) in str(expected).split(" or "), f"--pipeline.model.{option}", rule, now, _AS_THEN)
    if config.load_scheduler:
        for name in state["optimizers"]:
            expected, now = name in state["schedulers"], config.optimizers[name]["scheduler"] is not None
            rule = f"{'not ' if expected else ''}be None as in the checkpoint"
            require(now == expected, f"--optimizers.{name.replace('_', '-')}.scheduler", rule, now, _AS_THEN)


def whole_gaussians(parameters: Mapping[str, Tensor]) -> Tensor:
    """[N] bool: whether all numbers of a Gaussian are finite and it has an orientation.

    Args:
        parameters: means, scales, quats, features_dc, features_rest and opacities, each [N, ..].
    """
    finite = [torch.isfinite(value).flatten(1).all(dim=1) for value in parameters.values()]
    return torch.stack([*finite, parameters["quats"].norm(dim=1) > 0]).all(dim=0)


def without_broken_gaussians(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint whose Gaussians, and what the optimizers know of each, are whole."""
    names = [name.removeprefix(GAUSSIANS) for name in state["pipeline"] if name.startswith(GAUSSIANS)]
    whole = whole_gaussians({name: state["pipeline"][GAUSSIANS + name] for name in names})
    if bool(whole.all()):
        return state
    pipeline = {k: v[whole] if k.startswith(_OF_EACH) else v for k, v in state["pipeline"].items()}
    optimizers = {k: _rows(v, whole) if k in names else v for k, v in state["optimizers"].items()}
    return state | {"pipeline": pipeline, "optimizers": optimizers}


def usable_splat(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """A model's state with whole Gaussians alone, and which were left out; "" for none.

    Checkpoints of older versions do not say which Gaussians are of the background.
    """
    prefix = "gauss_params."
    whole = whole_gaussians({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    known = {"is_background": torch.zeros_like(whole), **state}
    known = {"is_guess": known["is_background"], **known}
    if bool(whole.all()):
        return known, ""
    of_each = (prefix, "is_background", "is_guess")
    kept = {k: v[whole] if k.startswith(of_each) else v for k, v in known.items()}
    return kept, f"{int((~whole).sum())} of the checkpoint's {len(whole)} Gaussians"


def _rows(optimizer: dict[str, Any], chosen: Tensor) -> dict[str, Any]:
    """An optimizer's state with the chosen rows of its one parameter."""

    def part(value: Any) -> Any:
        return value[chosen] if isinstance(value, Tensor) and value.ndim and len(value) == len(chosen) else value

    moments = {index: {k: part(v) for k, v in moment.items()} for index, moment in optimizer["state"].items()}
    return optimizer | {"state": moments}


def check_images(state: Mapping[str, Any], model: nn.Module) -> None:
    """Refuse a checkpoint that has learnt colours or poses of other training images.

    Raises:
        InputError: their number differs.
    """
    learnt = {
        "photo_colours": "the number of photos that --data gives",
        "camera_optimizer.pose_adjustment": "the number of photos and generated views",
    }
    for name, what in learnt.items():
        then = state["pipeline"].get(f"_model.{name}")
        if then is not None:
            now = len(model.get_parameter(name))
            require(now == len(then), what, f"be {len(then)} as in the checkpoint", now, _AS_THEN)
