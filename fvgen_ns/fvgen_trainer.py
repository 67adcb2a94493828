"""Nerfstudio's trainer with three promises more: bad captures are refused before anything is written, a checkpoint is
never half there, and learning rates fit the scene."""

from __future__ import annotations

import time
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import torch
import tyro
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils import writer
from nerfstudio.utils.decorators import check_main_thread
from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape

from fvgen.checks import InputError, require
from fvgen.devices import default_device, is_gpu
from fvgen.files import disk_errors, store, whole_file, write_json
from fvgen_ns.checkpoint import (
    check_fit,
    check_images,
    find_checkpoint,
    read_checkpoint,
    without_broken_gaussians,
)
from fvgen_ns.config_file import config_text, make_paths_absolute
from fvgen_ns.fvgen_datamanager import FVGenDataManager, FVGenDataManagerConfig
from fvgen_ns.fvgen_model import FVGenModel, FVGenModelConfig
from fvgen_ns.posed_input import pose_photos
from fvgen_ns.quality import FirstOptions, follow_quality
from fvgen_ns.refusal import refuse
from fvgen_ns.report.plain_words import plain
from fvgen_ns.schedules import follow_iterations
from fvgen_ns.stock_options import refuse_unused
from fvgen_ns.training_progress import stop_bar

NOTES_FILE = "fvgen_notes.json"
"""Beside config.yml: what a reader of the result should know, a list of sentences."""


@dataclass
class FVGenTrainerConfig(TrainerConfig, FirstOptions):
    """Configuration of an fvgen-splat run."""

    _target: type = field(default_factory=lambda: FVGenTrainer)
    schedule_iterations: tyro.conf.Suppress[int] = 600
    """Iterations that all settings which count them are meant for (`fvgen_ns.schedules.follow_iterations`)."""

    def print_to_terminal(self) -> None:
        """Print nothing: the options lie in ``config.yml``."""

    def save_config(self) -> None:
        """Check options, checkpoint and capture, then write ``config.yml``.

        What is refused leaves nothing behind but a picture that says why photos could not be placed.
        """
        try:
            make_paths_absolute(self)
            self.check()
            self._show_size()
            base_dir = self.get_base_dir()
            with disk_errors("--output-dir", base_dir, "Free some space or choose another folder."):
                store(base_dir / "config.yml", config_text(self).encode())
        except InputError as error:
            refuse(error)

    def check(self) -> None:
        """Refuse what could only fail later, find the poses of photos that have none, and read the capture.

        Raises:
            InputError: an option has no effect, is out of its range or does not fit the checkpoint; or the capture
                cannot be used.
        """
        refuse_unused(self)
        follow_quality(self)
        device = self.machine.device_type
        here = is_gpu(default_device()) or not is_gpu(device)
        require(here, "--machine.device-type", "be one that this machine has", device, "Use cpu.")
        cast(FVGenModelConfig, self.pipeline.model).check(device)
        iterations = self.max_num_iterations
        require(iterations >= 1, "--max-num-iterations", "be at least 1", iterations, "Ask for more.")
        follow_iterations(self)
        checkpoint = find_checkpoint(self)
        if checkpoint is not None:
            check_fit(read_checkpoint(checkpoint), self)
        manager = cast(FVGenDataManagerConfig, self.pipeline.datamanager)
        manager.check()
        pose_photos(self)
        manager.read_inputs()

    def _show_size(self) -> None:
        """What is chosen by hardware where the user does not, and the options that change it."""
        manager = cast(FVGenDataManagerConfig, self.pipeline.datamanager)
        CONSOLE.print(
            f"{self.method_name} on {self.machine.device_type}, --quality {self.quality}:"
            f" {self.max_num_iterations} steps (--max-num-iterations), images of up to {manager.image_size} px"
            f" (--image-size), geometry of up to {manager.densify.working_size} px (--working-size), up to"
            f" {manager.max_points} Gaussians to start from (--max-points).",
            soft_wrap=True,
            highlight=False,
        )


class FVGenTrainer(Trainer):
    """`Trainer` whose checkpoints survive a kill and load under ``torch.load(weights_only=True)``."""

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        try:
            manager = cast(FVGenDataManagerConfig, self.config.pipeline.datamanager)
            if not manager.has_inputs():  # a trainer that somebody's own code has made
                follow_quality(self.config)
                follow_iterations(self.config)
                manager.read_inputs()
            start = time.monotonic()
            super().setup(test_mode)
            self._seconds = {"points and views": time.monotonic() - start}
            self._restore_views()
        except InputError as error:  # a full disk, say: known only now
            refuse(error)

    def _restore_views(self) -> None:
        """Train again on the views that were repaired, or asked for, in the run that this one goes on from."""
        checkpoint = find_checkpoint(self.config)
        if checkpoint is None:
            return
        from fvgen_ns import generate_here, repair, run_views  # they load numba, which no ns-* command waits for

        source, start = checkpoint.parent.parent, self._start_step
        with disk_errors("--output-dir", self.base_dir, "Free some space or choose another folder."):
            repairs = repair.repairs_before(source / repair.FOLDER, start)
            run_views.copy_folders(repairs, self.base_dir / repair.FOLDER)
            asked_for = run_views.finished(source / generate_here.FOLDER)
            run_views.copy_folders(asked_for, self.base_dir / generate_here.FOLDER)
        model, manager = cast(FVGenModel, self.pipeline.model), cast(FVGenDataManager, self.pipeline.datamanager)
        repaired = repair.Repair(model, manager, self.base_dir).restore(start)
        count = generate_here.ViewsHere(model, manager, self.train_lock, self.base_dir).restore()
        if repaired:
            CONSOLE.print(f"{repaired} views that were repaired are trained on again.")
        if count:
            CONSOLE.print(f"{count} views that were generated in the viewer are trained on again.")

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
        path = find_checkpoint(self.config)
        if path is None:
            return
        state = without_broken_gaussians(read_checkpoint(path))
        check_images(state, self.pipeline.model)
        self._start_step = state["step"] + 1
        self.pipeline.load_pipeline(state["pipeline"], state["step"])
        self.optimizers.load_optimizers(state["optimizers"])
        if self.config.load_scheduler:
            self.optimizers.load_schedulers(state["schedulers"])
        self.grad_scaler.load_state_dict(state["scalers"])
        for name, parameter in self.pipeline.model.gauss_params.items():
            optimizer = self.optimizers.optimizers[name]
            (old,) = optimizer.param_groups[0]["params"]
            if old is not parameter:
                optimizer.param_groups[0]["params"] = [parameter]
                if old in optimizer.state:
                    optimizer.state[parameter] = optimizer.state.pop(old)
                self.optimizers.parameters[name] = [parameter]
        left = self.config.max_num_iterations - self._start_step
        going_on = f"Going on from {path}: {self._start_step} iterations are done, {left} to go."
        CONSOLE.print(going_on, soft_wrap=True, markup=False)

    def train(self) -> None:
        notes = cast(FVGenDataManager, self.pipeline.datamanager).notes
        for note in notes:
            CONSOLE.print(f"[yellow]Note: {escape(plain(note))}", soft_wrap=True)
        total = self.config.max_num_iterations
        self.config.max_num_iterations = total - self._start_step  # Nerfstudio's loop counts from where it starts
        try:
            write_json(self.base_dir / NOTES_FILE, notes)
            self._started = time.monotonic()
            from fvgen.numba_compile import threads_for_kernels  # numba is not loaded by commands that draw nothing

            with threads_for_kernels():
                super().train()
        finally:
            stop_bar()
            self.config.max_num_iterations = total

    def _check_viewer_warnings(self) -> None:
        """Nerfstudio says here that the viewer alone evaluates nothing; this plugin does, when training is done."""

    def _train_complete_viewer(self) -> None:
        """Nerfstudio's, which Ctrl-C ends without a traceback."""
        with suppress(KeyboardInterrupt):
            super()._train_complete_viewer()

    def _after_train(self) -> None:
        """Nerfstudio's, with the table and the report of this run in place of its panel."""
        from fvgen_ns.report.finish import finish

        stop_bar()
        self._seconds["training"] = time.monotonic() - self._started
        self.training_state = "completed"
        self.save_checkpoint(self.step)
        writer.write_out_storage()
        try:
            finish(self, self._seconds)
        except InputError as error:  # a full disk: the checkpoint is there
            refuse(error)
        for callback in self.callbacks:
            callback.run_callback_at_location(step=self.step, location=TrainingCallbackLocation.AFTER_TRAIN)
        if not self.config.viewer.quit_on_train_completion:
            self._train_complete_viewer()

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        final = self.checkpoint_dir / f"step-{step:09d}.ckpt"
        # outside the checkpoint folder: Nerfstudio takes every name in there for a checkpoint
        written = self.base_dir / final.name
        state = {
            "step": step,
            "pipeline": self.pipeline.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.optimizers.items()},
            "schedulers": {name: s.state_dict() for name, s in self.optimizers.schedulers.items()},
            "scalers": self.grad_scaler.state_dict(),
        }
        try:
            with disk_errors("--output-dir", self.base_dir, "Free some space, then go on with --load-dir."):
                with whole_file(written) as unfinished:
                    torch.save(without_numpy_scalars(state), unfinished)
                self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
                written.replace(final)
        except InputError as error:  # the last checkpoint before is still there
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
