"""The methods that ``ns-train`` lists. Every ns-* command imports this file: it must stay light and cannot fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nerfstudio.configs.base_config import LoggingConfig, MachineConfig, ViewerConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.plugins.types import MethodSpecification

from fvgen.devices import default_device, is_gpu
from fvgen_ns.fvgen_datamanager import FVGenDataManagerConfig
from fvgen_ns.fvgen_model import FVGenModelConfig
from fvgen_ns.fvgen_pipeline import FVGenPipelineConfig
from fvgen_ns.fvgen_trainer import FVGenTrainerConfig
from fvgen_ns.quality import QUALITIES, QualityName, set_sizes
from fvgen_ns.schedules import set_schedule
from fvgen_ns.training_progress import TrainingProgressConfig

DEVICE: Any = default_device().type


@dataclass
class FusedAdamConfig(AdamOptimizerConfig):
    """Adam in one kernel for all its arithmetic: on a CPU several times as fast as the plain one."""

    fused: bool = True
    """Whether the fused kernel is used."""


def _optimizers() -> dict[str, Any]:
    """Learning rates of 3D Gaussian splatting."""

    def constant(lr: float) -> dict[str, Any]:
        return {"optimizer": FusedAdamConfig(lr=lr, eps=1e-15), "scheduler": None}

    def decaying(lr: float, final: float) -> dict[str, Any]:
        scheduler = ExponentialDecaySchedulerConfig(lr_final=final)
        return {"optimizer": FusedAdamConfig(lr=lr, eps=1e-15), "scheduler": scheduler}

    return {
        "means": decaying(1.6e-4, 1.6e-6),
        "features_dc": constant(2.5e-3),
        "features_rest": constant(2.5e-3 / 20),
        "opacities": constant(0.05),
        "scales": constant(5e-3),
        "quats": constant(1e-3),
        "photo_colours": decaying(1e-3, 1e-4),
        "camera_opt": decaying(1e-4, 5e-7),
    }


def _method(name: str, description: str, quality: QualityName) -> MethodSpecification:
    config = FVGenTrainerConfig(
        quality=quality,
        sizes_of=quality,
        method_name=name,
        steps_per_save=500,
        steps_per_eval_batch=0,
        steps_per_eval_image=500,
        mixed_precision=False,
        pipeline=FVGenPipelineConfig(
            datamanager=FVGenDataManagerConfig(),
            model=FVGenModelConfig(
                num_downscales=0,
                stop_screen_size_at=0,
                cull_alpha_thresh=0.005,
                use_absgrad=False,
                densify_grad_thresh=2e-4,
                num_random=20_000,
                background_color="random",  # what nothing covers must not pass for a colour of the scene
            ),
        ),
        optimizers=_optimizers(),
        logging=LoggingConfig(local_writer=TrainingProgressConfig(), profiler="none"),
        machine=MachineConfig(device_type=DEVICE),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15, websocket_host="127.0.0.1"),
        vis="viewer",
    )
    set_sizes(config, QUALITIES[quality])
    set_schedule(config, QUALITIES[quality].iterations)
    return MethodSpecification(config=config, description=description)


fvgen_splat = _method(
    "fvgen-splat", "Gaussian splat from 2-20 photos (FVGen).", "high" if is_gpu(DEVICE) else "standard"
)
fvgen_splat_cpu = _method("fvgen-splat-cpu", "FVGen at 256 px: a first look in a minute on two CPU cores.", "quick")
