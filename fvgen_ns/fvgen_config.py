"""The methods that ``ns-train`` lists. Every ns-* command imports this file: it must stay light and cannot fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.plugins.types import MethodSpecification

from fvgen.devices import default_device, is_gpu
from fvgen_ns.densify import DensifyConfig
from fvgen_ns.fvgen_datamanager import FVGenDataManagerConfig
from fvgen_ns.fvgen_model import FVGenModelConfig
from fvgen_ns.fvgen_pipeline import FVGenPipelineConfig
from fvgen_ns.fvgen_trainer import FVGenTrainerConfig

DEVICE: Any = default_device().type


@dataclass
class FusedAdamConfig(AdamOptimizerConfig):
    """Adam in one kernel for all its arithmetic: on a CPU several times as fast as the plain one."""

    fused: bool = True
    """Whether the fused kernel is used."""


def _optimizers(iterations: int) -> dict[str, Any]:
    """Learning rates of 3D Gaussian splatting, with schedules that end when the run does."""

    def constant(lr: float) -> dict[str, Any]:
        return {"optimizer": FusedAdamConfig(lr=lr, eps=1e-15), "scheduler": None}

    def decaying(lr: float, final: float) -> dict[str, Any]:
        scheduler = ExponentialDecaySchedulerConfig(lr_final=final, max_steps=iterations)
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


def _method(name: str, description: str, iterations: int, image_size: int, max_points: int) -> MethodSpecification:
    config = FVGenTrainerConfig(
        method_name=name,
        max_num_iterations=iterations,
        steps_per_save=500,
        steps_per_eval_batch=0,
        steps_per_eval_image=500,
        steps_per_eval_all_images=iterations,
        mixed_precision=False,
        pipeline=FVGenPipelineConfig(
            datamanager=FVGenDataManagerConfig(
                image_size=image_size,
                max_points=max_points,
                # geometry a little finer than what is trained on; finer still only takes time
                densify=DensifyConfig(working_size=min(480, image_size + 64)),
            ),
            model=FVGenModelConfig(
                num_downscales=0,
                warmup_length=iterations // 6,
                refine_every=max(iterations // 12, 50),
                stop_split_at=iterations // 2,
                reset_alpha_every=iterations,  # never: a short run does not recover from it
                stop_screen_size_at=0,
                sh_degree_interval=max(iterations // 4, 1),
                cull_alpha_thresh=0.005,
                use_absgrad=False,
                densify_grad_thresh=2e-4,
                dropout_rise=iterations,
                size_growth=max(1600 / iterations, 1.0),
                num_random=20_000,
                background_color="random",  # what nothing covers must not pass for a colour of the scene
            ),
        ),
        optimizers=_optimizers(iterations),
        machine=MachineConfig(device_type=DEVICE),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15, websocket_host="127.0.0.1"),
        vis="viewer",
    )
    return MethodSpecification(config=config, description=description)


fvgen_splat = (
    _method("fvgen-splat", "Gaussian splat from 2-20 photos (FVGen).", 7000, image_size=1600, max_points=500_000)
    if is_gpu(DEVICE)
    else _method("fvgen-splat", "Gaussian splat from 2-20 photos (FVGen).", 2000, image_size=480, max_points=80_000)
)

fvgen_splat_cpu = _method(
    "fvgen-splat-cpu", "FVGen at 256 px: a first look in a minute on two CPU cores.", 600, 256, max_points=30_000
)
