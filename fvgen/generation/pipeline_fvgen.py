"""FVGenPipeline: point renders and photos of one window -> its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPVisionModel

from fvgen.checks import InputError, complaint, require
from fvgen.conditioning.conditions import FPS, encode_conditions, insert_photos
from fvgen.conditioning.encoders import TokenEncoder
from fvgen.conditioning.prompts import PROMPT
from fvgen.conditioning.residual import ResidualSpace, WarpedClips, residual_condition, residual_condition_channels
from fvgen.devices import default_device, is_gpu
from fvgen.diffusion.denoising import conditional_denoiser
from fvgen.diffusion.noise import ClipNoise
from fvgen.diffusion.sampling import StepCallback, check_timesteps, sample_ddim, sample_few_step
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.generation.call_checks import check_cameras, check_numbers, check_pixels, check_tensor
from fvgen.generation.fit_size import Fit, SizeFit, fit_warps
from fvgen.generation.sampler_settings import SAMPLING, Sampler, Sampling
from fvgen.models.codec import Codec, SpaceToDepth, SpaceToDepthCodec, codec_for
from fvgen.models.folder import align_weights, check_folder, check_loaded
from fvgen.models.image_projector import ImageProjector
from fvgen.models.unet_3d import VideoUNet
from fvgen.types import Cameras, Conditions, Progress, no_progress

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

    Attributes:
        codec_chunk: frames encoded or decoded at a time; None for all.
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
        self.register_to_config(sampler=sampler, residual=residual)
        self.residual = None if residual is None else ResidualSpace(**residual)
        self.tokenizer_folder: Path | None = None
        self.codec_chunk: int | None = 4  # frames at a time: a whole clip at 576x1024 would need tens of GiB
        self._tokens: TokenEncoder | None = None

    @classmethod
    def from_pretrained(cls, *args: Any, **options: Any) -> FVGenPipeline:
        """As diffusers loads a pipeline, with weights that give the same results as before they were saved."""
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

    @property
    def codec(self) -> Codec:
        """Pixels <-> latents on the device the pipeline computes on."""
        return codec_for(self.vae, self.codec_chunk, self._execution_device)

    @property
    def multiple(self) -> int:
        """Height and width of images go through the networks in multiples of this."""
        return codec_for(self.vae).downscale * 2 ** (len(self.unet.config.channel_mult) - 1)

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

    def _settings(self, **asked: float | None) -> Sampling:
        """The sampler's defaults with what was asked for in their place."""
        sampler = self.config.sampler
        require(
            sampler == "ddim" or asked["eta"] is None,
            "eta",
            f"be left out with the sampler {sampler}",
            asked["eta"],
            "It belongs to DDIM.",
        )
        usual = asdict(SAMPLING[sampler])
        if not self.token_encoder().has_conditions:
            usual["guidance_scale"] = 1.0  # without towers there is nothing to steer by
        return Sampling(**usual | {name: value for name, value in asked.items() if value is not None})

    def check_inputs(
        self, renders: Tensor, photos: Tensor, cameras: Sequence[Cameras], clips: Sequence[int], guided: bool
    ) -> None:
        """Refuse what cannot work before any work starts.

        Raises:
            InputError: names the argument, the rule and what was given.
        """
        require(
            renders.ndim == 5 and renders.shape[2] == 3 and renders.numel() > 0,
            "renders",
            "have shape [B, F, 3, H, W]",
            tuple(renders.shape),
            "Stack the RGB renders of each clip.",
        )
        batch, frames, _, height, width = renders.shape
        check_pixels("renders", renders)
        check_pixels("photos", photos)
        require(len(cameras) == batch, "cameras", f"hold {batch} clips", len(cameras), "Give one set per clip.")
        check_cameras(cameras)
        sizes = {(len(c), c.height, c.width) for c in cameras}
        require(
            sizes == {(frames, height, width)},
            "cameras",
            f"be {frames} per clip, for {height}x{width} images",
            sorted(sizes),
            "Render with the cameras you pass.",
        )
        require(len(clips) == batch, "clips", f"number {batch} clips", len(clips), "Give one number per clip.")
        codec = codec_for(self.vae)
        channels = codec.latent_channels
        condition = channels if self.residual is None else residual_condition_channels(_lossless(codec))
        expected = {"in_channels": channels + condition, "out_channels": channels}
        given = {name: self.unet.config[name] for name in expected}
        require(
            given == expected, "unet", f"have {expected} for this codec", given, "Load unet and vae of one checkpoint."
        )
        require(
            not guided or self.token_encoder().has_conditions,
            "guidance_scale",
            "be 1 for a network without text and image towers",
            "another",
            "Leave it out.",
        )

    def _check_warps(self, renders: Tensor, warps: WarpedClips | None) -> None:
        require(
            (warps is None) == (self.residual is None),
            "warps",
            "be given to a network that corrects warps, and to no other",
            warps is not None and "some",
            "Make them with fvgen.generation.warped_clip.",
        )
        if warps is not None:
            given, expected = tuple(warps.warp.shape), tuple(renders.shape)
            require(given == expected, "warps", f"have the renders' shape {expected}", given, "Use the same clips.")
            check_pixels("warps", warps.warp)
            check_pixels("warps.confidence", warps.confidence)

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
            renders: [B, F, 3, H, W] in [0, 1] point renders, black where nothing is seen. Any F, H and W.
            photos: [B, K, 3, H, W] in [0, 1] the photos that stand at ``photo_frames``.
            cameras: F cameras of each clip (one set for one clip).
            warps: of the same clips, for a network that corrects warps (see `fvgen.generation.warped_clip`), else None.
            photo_frames: which frames are photos. The clip's first frame is what the image tower sees.
            num_inference_steps: None for the sampler's default (4, or 50).
            timesteps: largest first, instead of evenly spaced ones.
            guidance_scale, guidance_rescale: see `guide`; None for the sampler's default.
            eta: of DDIM; None for the sampler's default.
            fps: frame rate label the network was trained with.
            prompt: text, if there is a text tower.
            seed: of the noise.
            clips: number of each clip within the run: noise depends on (seed, clip, frame) alone. None counts from 0.
            first_frame: number of the first frame, for a window of a longer clip.
            fit: to multiples of `multiple`: pad and crop back (cameras stay), or crop (cameras follow).
            callback_on_step_end: ``f(pipeline, step, timestep, {"latents": x})``; may return the same with another x.
            progress: told after each step.

        Raises:
            InputError: for inputs that do not fit each other or the networks.
        """
        check_tensor("renders", renders)
        check_tensor("photos", photos)
        check_numbers(
            num_inference_steps,
            timesteps,
            fps,
            guidance_scale=guidance_scale,
            guidance_rescale=guidance_rescale,
            eta=eta,
        )
        how = self._settings(
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            guidance_rescale=guidance_rescale,
            eta=eta,
        )
        timesteps = self.schedule.timesteps(how.num_inference_steps) if timesteps is None else list(timesteps)
        check_timesteps(timesteps, self.schedule)
        cameras = [cameras] if isinstance(cameras, Cameras) else list(cameras)
        clips = list(range(len(renders))) if clips is None else list(clips)
        guided = how.guidance_scale != 1
        self.check_inputs(renders, photos, cameras, clips, guided)
        self._check_warps(renders, warps)

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
            told = residual_condition(fitted, self.residual, _lossless(codec))
            conditions = replace(conditions, render_latents=told.to(conditions.render_latents))

        def step_end(step: int, t: int, x: Tensor) -> Tensor | None:
            progress(step + 1, len(timesteps), "denoise")
            if callback_on_step_end is None:
                return None
            return (callback_on_step_end(self, step, t, {"latents": x}) or {}).get("latents")

        latents = self._sample(
            conditions, timesteps, how, ClipNoise(seed, clips, frames, _SAMPLER, first_frame), step_end
        )
        if self.residual is not None and fitted is not None:
            images = self.residual.decode(latents, fitted, _lossless(codec))
        else:
            images = codec.decode(latents)
        images = size.restore(images.cpu())
        self.maybe_free_model_hooks()
        return FVGenOutput(frames=images, cameras=[size.cameras(c) for c in cameras], latents=latents.cpu())

    def _sample(
        self, conditions: Conditions, timesteps: list[int], how: Sampling, randn_like: ClipNoise, step_end: StepCallback
    ) -> Tensor:
        """Latents [B, F, C, h, w] from noise."""
        denoise = conditional_denoiser(
            self.unet,
            conditions,
            self.schedule,
            guidance_scale=how.guidance_scale,
            guidance_rescale=how.guidance_rescale,
            dtype=self.unet.dtype,
        )
        x_T = randn_like(conditions.render_latents[:, :, : self.unet.config.out_channels])
        run: dict[str, Any] = {"randn_like": randn_like, "callback": step_end}
        if self.config.sampler == "few_step":
            return sample_few_step(denoise, x_T, timesteps, self.schedule, **run)
        return sample_ddim(denoise, x_T, timesteps, self.schedule, eta=how.eta, **run)


def load_pipeline(folder: Path, dtype: torch.dtype | None = None) -> FVGenPipeline:
    """The pipeline in a folder, complete and on the CPU; nothing is downloaded.

    Args:
        folder: as `fvgen.models.find.find_model` finds it.
        dtype: what the networks are cast to; None for float32. The schedule's tables stay float32.

    Raises:
        InputError: the folder is no whole pipeline, or its weights do not fit its settings or are not finite.
    """
    # diffusers knows this argument by the name ``torch_dtype`` in all its versions, and calls that name old
    cast = {} if dtype in (None, torch.float32) else {"torch_dtype": dtype}
    check_folder(folder)
    try:
        pipeline = FVGenPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True, **cast)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        next_step = "Convert or save the pipeline again."
        text = complaint("model", "have weights that fit its settings", f"{folder} ({error})", next_step)
        raise InputError(text) from error
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            check_loaded(part, folder / name)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
