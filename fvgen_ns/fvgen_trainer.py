"""Nerfstudio's trainer with three promises more: bad captures are refused before anything is written, a checkpoint is
never half there, and learning rates fit the scene."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import numpy as np
import torch
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils.decorators import check_main_thread
from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape

from fvgen.checks import InputError, complaint, require
from fvgen_ns.fvgen_datamanager import FVGenDataManager, FVGenDataManagerConfig

NOTES_FILE = "fvgen_notes.json"
"""Beside config.yml: what a reader of the result should know, a list of sentences."""


def refuse(error: InputError) -> NoReturn:
    """Say what is wrong with the input, without a traceback, and end the command."""
    CONSOLE.print(f"[bold red]{escape(str(error))}", soft_wrap=True)
    sys.exit(2)


@contextlib.contextmanager
def writing(name: str, folder: Path) -> Iterator[None]:
    """Turn what a full or read-only disk raises (torch's writer: RuntimeError) into an `InputError`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        next_step = "Free some space or choose another folder."
        raise InputError(
            complaint(name, "be writable, with room on its disk", f"{folder} ({cause})", next_step)
        ) from error


@dataclass
class FVGenTrainerConfig(TrainerConfig):
    """Configuration of an fvgen-splat run."""

    _target: type = field(default_factory=lambda: FVGenTrainer)

    def save_config(self) -> None:
        """Check the capture, then write ``config.yml``: what is refused leaves no output folder behind."""
        try:
            self._check_resume()
            cast(FVGenDataManagerConfig, self.pipeline.datamanager).read_inputs()
            with writing("--output-dir", self.output_dir):
                super().save_config()
        except InputError as error:
            refuse(error)

    def _check_resume(self) -> None:
        folder, file = self.load_dir, self.load_checkpoint
        require(
            folder is None or any(folder.glob("step-*.ckpt")),
            "--load-dir",
            "hold a checkpoint step-*.ckpt",
            folder,
            "It is the folder nerfstudio_models beside the config.yml of a run.",
        )
        require(file is None or file.is_file(), "--load-checkpoint", "be an existing file", file, "Check the path.")


class FVGenTrainer(Trainer):
    """`Trainer` whose checkpoints survive a kill and load under ``torch.load(weights_only=True)``."""

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        try:
            super().setup(test_mode)
        except InputError as error:  # a full disk, say: known only now
            refuse(error)

    def setup_optimizers(self) -> Optimizers:
        # A step of the means is a distance in the scene: in a scene twice as large it is twice as long (as in 3DGS).
        config = deepcopy(self.config.optimizers)
        scale = self.pipeline.model.scene_scale
        config["means"]["optimizer"].lr *= scale
        config["means"]["scheduler"].lr_final *= scale
        config["scales"]["optimizer"].lr *= self.pipeline.model.size_growth
        return Optimizers(config, self.pipeline.get_param_groups())

    def _load_checkpoint(self) -> None:
        """Load, then hand the optimizers the parameters that loading made: the number of Gaussians differs, so
        `SplatfactoModel.load_state_dict` replaces them, and stock optimizers would go on moving the old ones."""
        super()._load_checkpoint()
        for name, parameter in self.pipeline.model.gauss_params.items():
            optimizer = self.optimizers.optimizers[name]
            (old,) = optimizer.param_groups[0]["params"]
            if old is not parameter:
                optimizer.param_groups[0]["params"] = [parameter]
                if old in optimizer.state:
                    optimizer.state[parameter] = optimizer.state.pop(old)
                self.optimizers.parameters[name] = [parameter]

    def train(self) -> None:
        notes = cast(FVGenDataManager, self.pipeline.datamanager).notes
        (self.base_dir / NOTES_FILE).write_text(json.dumps(notes, indent=1))
        for note in notes:
            CONSOLE.log(f"[yellow]Note: {escape(note)}")
        super().train()

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        final = self.checkpoint_dir / f"step-{step:09d}.ckpt"
        # outside the checkpoint folder: Nerfstudio takes every name in there for a checkpoint
        unfinished = self.base_dir / f"{final.name}.unfinished"
        state = {
            "step": step,
            "pipeline": self.pipeline.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.optimizers.items()},
            "schedulers": {name: s.state_dict() for name, s in self.optimizers.schedulers.items()},
            "scalers": self.grad_scaler.state_dict(),
        }
        try:
            with writing("--output-dir", self.base_dir):
                torch.save(without_numpy_scalars(state), unfinished)
                unfinished.replace(final)
        except InputError as error:  # the last checkpoint before is still there
            unfinished.unlink(missing_ok=True)
            refuse(error)
        if self.config.save_only_latest_checkpoint:
            for other in self.checkpoint_dir.glob("*.ckpt"):
                if other != final:
                    other.unlink()


def without_numpy_scalars(state: Any) -> Any:
    """``state`` with numpy scalars (Nerfstudio's schedulers hold some) as Python numbers: safe loading takes those."""
    if isinstance(state, dict):
        return type(state)((key, without_numpy_scalars(value)) for key, value in state.items())
    if isinstance(state, (list, tuple)):
        return type(state)(without_numpy_scalars(value) for value in state)
    return state.item() if isinstance(state, np.generic) else state
