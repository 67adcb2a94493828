"""FVGenPipeline: point renders and photos of one window -> its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPVisionModel

from fvgen.checks import require
from fvgen.clip import Conditions
from fvgen.conditioning.conditions import FPS, encode_conditions, insert_photos
from fvgen.conditioning.encoders import TokenEncoder
from fvgen.conditioning.prompts import PROMPT
from fvgen.conditioning.residual import ResidualSpace, WarpedClips, residual_condition, residual_condition_channels
from fvgen.devices import default_device, is_gpu
from fvgen.diffusion.denoising import conditional_denoiser
from fvgen.diffusion.noise import ClipNoise
from fvgen.diffusion.sampling import StepCallback, check_timesteps, sample_ddim, sample_few_step
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.generation.call_checks import check_clips, check_numbers, check_tensor, check_warps
from fvgen.generation.fit_size import Fit, SizeFit, fit_warps
from fvgen.generation.fixed_frames import check_frames, fixed_frames
from fvgen.generation.sampler_settings import SAMPLING, Sampler, Sampling, sampling_for
from fvgen.models.codec import Codec, SpaceToDepth, SpaceToDepthCodec, codec_for
from fvgen.models.folder import align_weights
from fvgen.models.image_projector import ImageProjector
from fvgen.models.recorded import Recorded
from fvgen.models.unet_3d import VideoUNet, VideoUNetOutput
from fvgen.types import Cameras, Progress, no_progress

StepEnd = Callable[[Any, int, int, dict[str, Tensor]], "dict[str, Tensor] | None"]
_POSTERIOR, _SAMPLER = 0, 1
"""Streams of noise, apart so that the choice of codec does not change what the sampler draws."""


def _lossless(codec: Codec) -> SpaceToDepthCodec:
    assert isinstance(codec, SpaceToDepthCodec)  # for mypy: a network that corrects warps is made with no other
    return codec


@dataclass
class FVGenOutput(BaseOutput):
    """What a call gives."""

    frames: Tensor
    """[B, F, 3, H', W'] float32 in [0, 1], on the CPU"""
    cameras: list[Cameras]
    """B times F cameras that belong to exactly these pixels"""
    latents: Tensor
    """[B, F, C, h, w] as sampled, of the padded or cropped size"""


class FVGenPipeline(DiffusionPipeline):
    """A video diffusion network that fills in point renders between photos.

    Args:
        unet: teacher or student.
        vae: `AutoencoderKL`, `AutoencoderTiny` or `SpaceToDepth` (see `fvgen.models.codec`).
        schedule: the one ``unet`` was trained with.
        image_encoder, image_projector: CLIP's image tower and what maps its tokens; both or neither.
        text_encoder: CLIP's text tower without its last block; None for networks trained without text.
        sampler: ``few_step`` for a distilled student, ``ddim`` for a teacher; saved with the pipeline.
        residual: fields of the `ResidualSpace` of a network that corrects warps; None for one that is shown renders
            alone, as ViewCrafter's is.
        timesteps: largest first, that a student was trained at; None for evenly spaced ones.
        frames: number of frames of the clips that ``unet`` was trained on; None takes its own ``sample_frames``.

    Attributes:
        codec_chunk: frames encoded or decoded at a time; None for all. Where a GPU's memory does not suffice, one at a
            time once.
        tokenizer_folder: a CLIP tokenizer, for prompts other than ViewCrafter's one.
    """

    _optional_components = ["image_encoder", "image_projector", "text_encoder"]  # noqa: RUF012 (read by diffusers)
    _exclude_from_cpu_offload = ["schedule"]  # noqa: RUF012 (read by diffusers)
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012 (read by diffusers)
    model_cpu_offload_seq = "text_encoder->image_encoder->image_projector->unet->vae"

    def __init__(
        self,
        unet: VideoUNet,
        vae: nn.Module,
        schedule: NoiseSchedule,
        image_encoder: CLIPVisionModel | None = None,
        image_projector: ImageProjector | None = None,
        text_encoder: CLIPTextModel | None = None,
        sampler: str = "ddim",
        residual: dict[str, float] | None = None,
        timesteps: list[int] | None = None,
        frames: int | None = None,
    ) -> None:
        super().__init__()
        require(sampler in SAMPLING, "sampler", f"be one of {get_args(Sampler)}", sampler, "Name one of them.")
        self.register_modules(
            unet=unet,
            vae=vae,
            schedule=schedule,
            image_encoder=image_encoder,
            image_projector=image_projector,
            text_encoder=text_encoder,
        )
        require(
            residual is None or isinstance(vae, SpaceToDepth),
            "vae",
            "be SpaceToDepth for a network that corrects warps",
            type(vae).__name__,
            "Load the folder's own.",
        )
        if timesteps is not None:
            check_numbers(None, timesteps, FPS)
            check_timesteps(timesteps, schedule)
        trained = unet.config.sample_frames if frames is None else frames
        self.register_to_config(sampler=sampler, residual=residual, timesteps=timesteps, frames=trained)
        self.residual = None if residual is None else ResidualSpace(**residual)
        self.tokenizer_folder: Path | None = None
        self.codec_chunk: int | None = 4  # frames at a time: a whole clip at 576x1024 would need tens of GiB
        self._tokens: TokenEncoder | None = None
        self._recorded: Recorded | None = None

    @classmethod
    def from_pretrained(cls, *args: Any, **options: Any) -> FVGenPipeline:
        """As diffusers loads a pipeline, with weights that give the same results as before they were saved.

        `fvgen.generation.load_pipeline` also checks them.
        """
        pipeline = super().from_pretrained(*args, **options)
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                align_weights(part)
        return pipeline

    def enable_low_memory(self) -> None:
        """Encode and decode one frame at a time and, on a GPU, keep only the layer at work in its memory."""
        self.codec_chunk = 1
        if is_gpu(default_device()):
            self.enable_sequential_cpu_offload()

    def prepare_for_gpu(self, graphs: bool = False) -> None:
        """Bring the networks into the form in which a GPU runs them fastest; results differ by rounding alone.

        Maps channels-last from the first convolution to the last, queries, keys and values by one product.

        Args:
            graphs: replay the UNet's kernels as a graph, recorded at the first call of each shape. Weights may then be
                changed in place only, and the memory of one call per shape stays taken.
        """
        for network in (self.unet, self.vae):
            network.to(memory_format=torch.channels_last)
        self.unet.join_projections()
        self._recorded = Recorded(lambda *inputs: self.unet(*inputs).sample) if graphs else None

    @property
    def codec(self) -> Codec:
        """Pixels <-> latents on the device the pipeline computes on."""
        return codec_for(self.vae, self.codec_chunk, self._execution_device)

    @property
    def multiple(self) -> int:
        """Height and width of images go through the networks in multiples of this."""
        return codec_for(self.vae).downscale * 2 ** (len(self.unet.config.channel_mult) - 1)

    def timesteps(self, steps: int | None = None) -> list[int]:
        """Timesteps of so many steps, largest first: those trained at, or evenly spaced ones of another number."""
        own = self.config.timesteps
        if own is not None and steps in (None, len(own)):
            return list(own)
        return self.schedule.timesteps(steps or SAMPLING[self.config.sampler].num_inference_steps)

    @property
    def fixed_frames(self) -> int | None:
        """Frames that a clip must have; None where any number goes (see `check_frames`)."""
        return fixed_frames(self.config.frames, self.image_projector is not None)

    def token_encoder(self) -> TokenEncoder:
        """The towers behind one call; what it has encoded is kept as long as the towers stay the same."""
        towers = (self.image_encoder, self.image_projector, self.text_encoder)
        known = self._tokens
        if known is None or (known.image_encoder, known.image_projector, known.text_encoder) != towers:
            known = TokenEncoder(
                *towers,
                context_dim=self.unet.config.context_dim,
                text_length=self.unet.config.text_context_length,
                tokenizer_folder=self.tokenizer_folder,
            )
            self._tokens = known
        return known

    def _check_networks(self, guided: bool) -> None:
        """Refuse a UNet of another codec, and guidance without anything to guide by."""
        codec = codec_for(self.vae)
        channels = codec.latent_channels
        condition = channels if self.residual is None else residual_condition_channels(_lossless(codec))
        expected = {"in_channels": channels + condition, "out_channels": channels}
        given = {name: self.unet.config[name] for name in expected}
        next_step = "Load unet and vae of one checkpoint."
        require(given == expected, "unet", f"have {expected} for this codec", given, next_step)
        guidable = not guided or self.token_encoder().has_conditions
        rule = "be 1 for a network without text and image towers"
        require(guidable, "guidance_scale", rule, "another", "Leave it out.")

    @torch.no_grad()
    def __call__(
        self,
        renders: Tensor,
        photos: Tensor,
        cameras: Cameras | Sequence[Cameras],
        *,
        warps: WarpedClips | None = None,
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
        cameras = [cameras] if isinstance(cameras, Cameras) else list(cameras)
        clips = list(range(len(renders))) if clips is None else list(clips)
        guided = how.guidance_scale != 1
        check_clips(renders, photos, cameras, clips)
        check_frames(renders.shape[1], self.fixed_frames)
        check_warps(renders, warps, corrects=self.residual is not None)
        self._check_networks(guided)

        device = self._execution_device  # diffusers looks through every module for it
        codec = codec_for(self.vae, self.codec_chunk, device)
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
            stack = residual_condition(fitted, self.residual, _lossless(codec))
            conditions = replace(conditions, render_latents=stack.to(conditions.render_latents))

        def step_end(step: int, t: int, x: Tensor) -> Tensor | None:
            progress(step + 1, len(timesteps), "denoise")
            if callback_on_step_end is None:
                return None
            return (callback_on_step_end(self, step, t, {"latents": x}) or {}).get("latents")

        noise = ClipNoise(seed, clips, frames, _SAMPLER, first_frame)
        latents = self.sample(conditions, timesteps, how, noise, step_end)
        if fitted is not None and self.residual is not None:
            images = self.residual.decode(latents, fitted, _lossless(codec))
        else:
            images = codec.decode(latents)
        images = size.restore(images.cpu())
        self.maybe_free_model_hooks()
        return FVGenOutput(frames=images, cameras=[size.cameras(c) for c in cameras], latents=latents.cpu())

    def _predict(self, *inputs: Any) -> VideoUNetOutput:
        return self.unet(*inputs) if self._recorded is None else VideoUNetOutput(sample=self._recorded(*inputs))

    def sample(
        self,
        conditions: Conditions,
        timesteps: list[int],
        how: Sampling,
        randn_like: ClipNoise,
        callback: StepCallback | None = None,
    ) -> Tensor:
        """Latents [B, F, C, h, w] from noise, by the pipeline's sampler.

        Args:
            conditions: encoded conditions of B clips.
            timesteps: largest first.
            how: guidance and eta.
            randn_like: source of the first noise and of what the sampler adds.
            callback: called after each step (see `fvgen.diffusion.sampling`).
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
        x_T = randn_like(conditions.render_latents[:, :, : self.unet.config.out_channels])
        run: dict[str, Any] = {"randn_like": randn_like, "callback": callback}
        if self.config.sampler == "few_step":
            return sample_few_step(denoise, x_T, timesteps, self.schedule, **run)
        return sample_ddim(denoise, x_T, timesteps, self.schedule, eta=how.eta, **run)
