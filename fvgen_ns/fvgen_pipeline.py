"""Wiring: Nerfstudio's pipeline with the viewer's toggle for generated cameras."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig

from fvgen.checks import InputError
from fvgen_ns.fvgen_datamanager import FVGenDataManager, FVGenDataManagerConfig
from fvgen_ns.fvgen_model import FVGenModelConfig
from fvgen_ns.fvgen_trainer import refuse
from fvgen_ns.fvgen_viewer import GeneratedCamerasToggle


@dataclass
class FVGenPipelineConfig(VanillaPipelineConfig):
    """Configuration of the fvgen-splat pipeline."""

    _target: type = field(default_factory=lambda: FVGenPipeline)
    datamanager: FVGenDataManagerConfig = field(default_factory=FVGenDataManagerConfig)
    """Where images come from: the capture, geometry and generated views."""
    model: FVGenModelConfig = field(default_factory=FVGenModelConfig)
    """The Gaussian splat and its loss."""


class FVGenPipeline(VanillaPipeline):
    """`VanillaPipeline` plus viewer elements."""

    def __init__(self, *args, **kwargs) -> None:
        try:
            super().__init__(*args, **kwargs)
        except InputError as error:  # ns-eval and the like come here first: a capture that has moved, say
            refuse(error)
        self.fvgen = GeneratedCamerasToggle(cast(FVGenDataManager, self.datamanager).is_photo)
