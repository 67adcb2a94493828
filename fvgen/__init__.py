"""FVGen: views between sparse photos from a few-step video diffusion model, and the trainer that distils it.

The names of `__all__` are the public interface. Each is imported on first use, so ``import fvgen`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fvgen.checks import InputError
    from fvgen.data.working_size import load_capture
    from fvgen.diffusion.sampling import sample_ddim, sample_few_step
    from fvgen.diffusion.schedule import NoiseSchedule
    from fvgen.distillation.configs import PRESETS
    from fvgen.distillation.roles import Roles
    from fvgen.distillation.start import build_roles
    from fvgen.distillation.trainer import train
    from fvgen.generation.load_pipeline import load_pipeline
    from fvgen.generation.pipeline_fvgen import FVGenPipeline
    from fvgen.generation.view_generator import VIEW_GENERATORS
    from fvgen.generation.views_folder import ViewsWriter
    from fvgen.generation.views_reading import load_views
    from fvgen.geometry.provider import GEOMETRY_PROVIDERS
    from fvgen.geometry.trajectory import PATH_STYLES
    from fvgen.models.unet_3d import VideoUNet
    from fvgen.rendering.splat_rasterizer import RASTERIZERS, resolve
    from fvgen.splats.gaussians import Gaussians
    from fvgen.splats.ply import read_splat, write_splat
    from fvgen.types import CameraPath, Cameras, Capture, GeneratedViews, PointCloud, SceneGeometry

__version__ = "0.2.0"

_MODULES = {
    "CameraPath": "types",
    "Cameras": "types",
    "Capture": "types",
    "FVGenPipeline": "generation.pipeline_fvgen",
    "GEOMETRY_PROVIDERS": "geometry.provider",
    "Gaussians": "splats.gaussians",
    "GeneratedViews": "types",
    "InputError": "checks",
    "NoiseSchedule": "diffusion.schedule",
    "PATH_STYLES": "geometry.trajectory",
    "PRESETS": "distillation.configs",
    "PointCloud": "types",
    "RASTERIZERS": "rendering.splat_rasterizer",
    "Roles": "distillation.roles",
    "SceneGeometry": "types",
    "VIEW_GENERATORS": "generation.view_generator",
    "VideoUNet": "models.unet_3d",
    "ViewsWriter": "generation.views_folder",
    "build_roles": "distillation.start",
    "load_capture": "data.working_size",
    "load_pipeline": "generation.load_pipeline",
    "load_views": "generation.views_reading",
    "read_splat": "splats.ply",
    "resolve": "rendering.splat_rasterizer",
    "sample_ddim": "diffusion.sampling",
    "sample_few_step": "diffusion.sampling",
    "train": "distillation.trainer",
    "write_splat": "splats.ply",
}
"""Public name -> module of this package that defines it."""

__all__ = [
    "GEOMETRY_PROVIDERS",
    "PATH_STYLES",
    "PRESETS",
    "RASTERIZERS",
    "VIEW_GENERATORS",
    "CameraPath",
    "Cameras",
    "Capture",
    "FVGenPipeline",
    "Gaussians",
    "GeneratedViews",
    "InputError",
    "NoiseSchedule",
    "PointCloud",
    "Roles",
    "SceneGeometry",
    "VideoUNet",
    "ViewsWriter",
    "__version__",
    "build_roles",
    "load_capture",
    "load_pipeline",
    "load_views",
    "read_splat",
    "resolve",
    "sample_ddim",
    "sample_few_step",
    "train",
    "write_splat",
]


def __getattr__(name: str) -> Any:
    """A public name, on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
