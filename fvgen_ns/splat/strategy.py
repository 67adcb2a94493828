"""Which Gaussians are split, copied and removed while a splat trains: gsplat's strategy by splatfacto's options."""

from __future__ import annotations

from gsplat.strategy import DefaultStrategy
from nerfstudio.models.splatfacto import SplatfactoModelConfig


def splat_strategy(config: SplatfactoModelConfig, num_photos: int) -> DefaultStrategy:
    """The strategy of a splat of so many photos; splatfacto counts all training images in their place, and generated
    views would postpone refinement for ever."""
    return DefaultStrategy(
        prune_opa=config.cull_alpha_thresh,
        grow_grad2d=config.densify_grad_thresh,
        grow_scale3d=config.densify_size_thresh,
        grow_scale2d=config.split_screen_size,
        prune_scale3d=config.cull_scale_thresh,
        prune_scale2d=config.cull_screen_size,
        refine_scale2d_stop_iter=config.stop_screen_size_at,
        refine_start_iter=config.warmup_length,
        refine_stop_iter=config.stop_split_at,
        reset_every=config.reset_alpha_every * config.refine_every,
        refine_every=config.refine_every,
        pause_refine_after_reset=num_photos + config.refine_every,
        absgrad=config.use_absgrad,
        verbose=False,
    )
