"""Wiring: Nerfstudio's pipeline with what fvgen adds to the viewer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig

from fvgen.checks import InputError
from fvgen_ns.commands import refuse_empty_box, refuse_short_path, refuse_unable, running_command
from fvgen_ns.fvgen_datamanager import FVGenDataManager, FVGenDataManagerConfig
from fvgen_ns.fvgen_model import FVGenModel, FVGenModelConfig
from fvgen_ns.fvgen_viewer import FVGenControl, serve_scripts_as_such
from fvgen_ns.refusal import refuse


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

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        super().load_pipeline(loaded_state, step)
        try:
            refuse_empty_box(self._command, cast(FVGenModel, self.model).means)
        except InputError as error:
            refuse(error)
