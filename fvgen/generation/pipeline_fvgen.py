"""FVGenPipeline: point renders and photos of one window -> its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.utils import BaseOutput
from torch import Tensor

from fvgen.clip import Conditions
from fvgen.conditioning.conditions import FPS, encode_conditions, insert_photos
from fvgen.conditioning.prompts import PROMPT
from fvgen.conditioning.residual import WarpedClips, residual_condition
from fvgen.diffusion.denoising import conditional_denoiser
from fvgen.diffusion.noise import ClipNoise
from fvgen.diffusion.sampling import StepCallback, check_timesteps, sample_ddim, sample_few_step
from fvgen.generation.call_checks import check_clips, check_numbers, check_tensor, check_warps
from fvgen.generation.fit_size import Fit, SizeFit, fit_warps
from fvgen.generation.fixed_frames import check_frames
from fvgen.generation.pipeline_networks import PipelineNetworks, lossless
from fvgen.generation.restart import Restart, low_levels
from fvgen.generation.sampler_settings import Sampling, sampling_for
from fvgen.types import Cameras, Progress, no_progress

StepEnd = Callable[[Any, int, int, dict[str, Tensor]], "dict[str, Tensor] | None"]
_POSTERIOR, _SAMPLER = 0, 1
"""Streams of noise, apart so that the choice of codec does not change what the sampler draws."""


@dataclass
class FVGenOutput(BaseOutput):
    """What a call gives."""

    frames: Tensor
    """[B, F, 3, H', W'] float32 in [0, 1], on the CPU"""
    cameras: list[Cameras]
    """B times F cameras that belong to exactly these pixels"""
    latents: Tensor
    """[B, F, C, h, w] as sampled, of the padded or cropped size"""


class FVGenPipeline(PipelineNetworks):
    """A video diffusion network that fills in point renders between photos.

    `PipelineNetworks` says what it is made of.
    """

    _callback_tensor_inputs = ["latents"]  # noqa: RUF012 (read by diffusers)

    @torch.no_grad()
    def __call__(
        self,
        renders: Tensor,
        photos: Tensor,
        cameras: Cameras | Sequence[Cameras],
        *,
        warps: WarpedClips | None = None,
        restart: Restart | None = None,
        photo_frames: Sequence[int] = (0, -1),
        num_inference_steps: int | None = None,
        timesteps: Sequence[int] | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
        eta: float | None = None,
        fps: int = FPS,
        prompt: str = PROMPT,
        seed: int = 0,
        clips: Sequence[int] | None = None,
        first_frame: int = 0,
        fit: Fit = "pad",
        callback_on_step_end: StepEnd | None = None,
        progress: Progress = no_progress,
    ) -> FVGenOutput:
        """Generate the frames of B clips.

        Args:
            renders: [B, F, 3, H, W] in [0, 1] point renders, black where nothing is seen. Any H and W; any F for a
                network without an image tower, else `fixed_frames`.
            photos: [B, K, 3, H, W] in [0, 1] the photos that stand at ``photo_frames``.
            cameras: F cameras of each clip (one set for one clip).
            warps: the same clips' warps (see `fvgen.generation.warp.warped_clip`), for a network that corrects them.
            restart: pictures of one clip's F frames to start from, at the low levels of noise among the timesteps.
            photo_frames: which frames are photos. The clip's first frame is what the image tower sees.
            num_inference_steps: None for as many as it was trained with, else for the sampler's default (4, or 50).
            timesteps: largest first, instead of those of `timesteps`.
            guidance_scale, guidance_rescale: see `guide`; None for the sampler's default.
            eta: DDIM's eta; None for the sampler's default.
            fps: frame rate label the network was trained with.
            prompt: text, if there is a text tower.
            seed: random seed of the noise.
            clips: number of each clip within the run: noise depends on (seed, clip, frame) alone. None counts from 0.
            first_frame: number of the first frame, for a window of a longer clip.
            fit: to multiples of `multiple`: pad and crop back (cameras stay), or crop (cameras follow).
            callback_on_step_end: ``f(pipeline, step, timestep, {"latents": x})``; may return the same with another x.
            progress: called after each step.

        Raises:
            InputError: for inputs that do not fit each other or the networks.
        """
        check_tensor("renders", renders)
        check_tensor("photos", photos)
        asked = {"guidance_scale": guidance_scale, "guidance_rescale": guidance_rescale, "eta": eta}
        check_numbers(num_inference_steps, timesteps, fps, **asked)
        guidable = self.token_encoder().has_conditions
        how = sampling_for(self.config.sampler, guidable, num_inference_steps=num_inference_steps, **asked)
        timesteps = self.timesteps(num_inference_steps) if timesteps is None else list(timesteps)
        check_timesteps(timesteps, self.schedule)
        timesteps = timesteps if restart is None else low_levels(timesteps)
        cameras = [cameras] if isinstance(cameras, Cameras) else list(cameras)
        clips = list(range(len(renders))) if clips is None else list(clips)
        guided = how.guidance_scale != 1
        check_clips(renders, photos, cameras, clips)
        check_frames(renders.shape[1], self.fixed_frames)
        check_warps(renders, warps, corrects=self.residual is not None)
        self._check_networks(guided)

        device = self._execution_device  # diffusers looks through every module for it
        codec = self._codec_on(device)
        renders, photos = renders.to(device), photos.to(device)
        size = SizeFit.plan(renders.shape[-2], renders.shape[-1], self.multiple, fit)
        frames = renders.shape[1]
        seen = size.apply(insert_photos(renders, photos, photo_frames))
        conditions = encode_conditions(
            seen,
            codec,
            self.token_encoder(),
            device=device,
            posterior_noise=ClipNoise(seed, clips, frames, _POSTERIOR, first_frame),
            guidance=guided,
            prompt=prompt,
            fps=fps,
        )
        fitted = None if warps is None else fit_warps(warps, seen, size)
        if fitted is not None and self.residual is not None:
            stack = residual_condition(fitted, self.residual, lossless(codec))
            conditions = replace(conditions, render_latents=stack.to(conditions.render_latents))

        def step_end(step: int, t: int, x: Tensor) -> Tensor | None:
            progress(step + 1, len(timesteps), "denoise")
            if callback_on_step_end is None:
                return None
            return (callback_on_step_end(self, step, t, {"latents": x}) or {}).get("latents")

        def encode(images: Tensor) -> Tensor:
            if fitted is not None and self.residual is not None:
                return self.residual.encode(size.apply(images).to(fitted.warp), fitted, lossless(codec))
            return codec.encode(size.apply(images))

        noise = ClipNoise(seed, clips, frames, _SAMPLER, first_frame)
        first = None if restart is None else restart.latents(encode, self.schedule, timesteps[0], noise)
        latents = self.sample(conditions, timesteps, how, noise, step_end, first)
        if fitted is not None and self.residual is not None:
            images = self.residual.decode(latents, fitted, lossless(codec))
        else:
            images = codec.decode(latents)
        images = size.restore(images.cpu())
        self.maybe_free_model_hooks()
        return FVGenOutput(frames=images, cameras=[size.cameras(c) for c in cameras], latents=latents.cpu())

    def sample(
        self,
        conditions: Conditions,
        timesteps: list[int],
        how: Sampling,
        randn_like: ClipNoise,
        callback: StepCallback | None = None,
        first: Tensor | None = None,
    ) -> Tensor:
        """Latents [B, F, C, h, w] from noise, by the pipeline's sampler.

        Args:
            conditions: encoded conditions of B clips.
            timesteps: largest first.
            how: guidance and eta.
            randn_like: source of the first noise and of what the sampler adds.
            callback: called after each step (see `fvgen.diffusion.sampling`).
            first: latents at the first timestep; noise by default.
        """
        denoise = conditional_denoiser(
            self._predict,
            conditions,
            self.schedule,
            guidance_scale=how.guidance_scale,
            guidance_rescale=how.guidance_rescale,
            dtype=self.unet.dtype,
            prepare=self.unet.prepare_context,
        )
        like = conditions.render_latents[:, :, : self.unet.config.out_channels]
        x_T = randn_like(like) if first is None else first.to(like)
        run: dict[str, Any] = {"randn_like": randn_like, "callback": callback}
        if self.config.sampler == "few_step":
            return sample_few_step(denoise, x_T, timesteps, self.schedule, **run)
        return sample_ddim(denoise, x_T, timesteps, self.schedule, eta=how.eta, **run)
