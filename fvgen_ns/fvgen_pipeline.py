"""Wiring: Nerfstudio's pipeline with what fvgen adds to the viewer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig

from fvgen.checks import InputError
from fvgen_ns.commands import refuse_empty_box, refuse_short_path, refuse_unable, running_command
from fvgen_ns.fvgen_datamanager import FVGenDataManager, FVGenDataManagerConfig
from fvgen_ns.fvgen_model import FVGenModel, FVGenModelConfig
from fvgen_ns.refusal import refuse
from fvgen_ns.viewer.panel import FVGenControl, serve_scripts_as_such


@dataclass
class FVGenPipelineConfig(VanillaPipelineConfig):
    """Configuration of the fvgen-splat pipeline."""

    _target: type = field(default_factory=lambda: FVGenPipeline)
    datamanager: FVGenDataManagerConfig = field(default_factory=FVGenDataManagerConfig)
    """Where images come from: the capture, geometry and generated views."""
    model: FVGenModelConfig = field(default_factory=FVGenModelConfig)
    """The Gaussian splat and its loss."""


class FVGenPipeline(VanillaPipeline):
    """`VanillaPipeline` plus fvgen's part of the viewer and refusals of what a splat cannot do."""

    def __init__(self, *args, **kwargs) -> None:
        command = running_command()
        try:
            refuse_unable(command)
            super().__init__(*args, **kwargs)
            manager = cast(FVGenDataManager, self.datamanager)
            refuse_short_path(command, len(manager.eval_dataset))
        except InputError as error:
            refuse(error)
        self._command = command
        self.fvgen = FVGenControl(self)
        serve_scripts_as_such()

    def get_training_callbacks(self, attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:  # type: ignore[override]
        callbacks = super().get_training_callbacks(attributes)
        manager, trainer = cast(FVGenDataManager, self.datamanager), attributes.trainer
        steps = manager.config.densify.repair_steps
        if steps and trainer is not None:
            from fvgen_ns.repair import Repair  # it loads numba, which no ns-* command waits for

            repair = Repair(cast(FVGenModel, self.model), manager, trainer.base_dir)

            def at(step: int) -> None:
                try:
                    repair(step)
                except InputError as error:  # a full disk
                    refuse(error)

            callbacks.append(TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], at, iters=steps))
        return callbacks

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        super().load_pipeline(loaded_state, step)
        try:
            refuse_empty_box(self._command, cast(FVGenModel, self.model).means)
        except InputError as error:
            refuse(error)
