"""How long one clip takes, encode to pixels, and the arithmetic below which no version of it can go.

Weights are random: no figure depends on them.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fvgen.conditioning.conditions import encode_conditions
from fvgen.devices import free_memory, peak_memory, reset_peak_memory
from fvgen.diffusion.noise import ClipNoise
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.evaluation.timing.machine import Clock, median_seconds
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.generation.sampler_settings import SAMPLING, Sampler
from fvgen.models.convert_viewcrafter import Architecture, components
from fvgen.types import Cameras


@dataclass(frozen=True)
class ClipShape:
    """Shape of the clip that is timed."""

    frames: int
    height: int
    width: int


@dataclass(frozen=True)
class ClipTimes:
    """Seconds, warm and synchronised."""

    encode_s: float
    """pixels to conditions: codec, image tower and projector (texts are cached)"""
    unet_s: float
    """all steps of the sampler"""
    decode_s: float
    """latents to pixels"""
    clip_s: float
    """a call of the pipeline, start to end, measured by itself"""
    peak_gib: float | None
    """GPU memory held at most during that call, weights included; None on a CPU"""


@dataclass(frozen=True)
class ClipWork:
    """Floating-point operations, 1e12; a multiplication and an addition count as two."""

    encode_tflop: float
    unet_tflop: float
    decode_tflop: float

    @property
    def total(self) -> float:
        """Operations of the whole clip, without the image tower (under 1 %)."""
        return self.encode_tflop + self.unet_tflop + self.decode_tflop


def random_pipeline(
    architecture: Architecture, sampler: Sampler, device: torch.device, dtype: torch.dtype
) -> FVGenPipeline:
    """A pipeline with all components of the architecture, its weights drawn on ``device``."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {}
    for component in components(architecture):
        with device:
            network = component.build()
        parts[component.folder] = randomised(network, device, dtype)
    return FVGenPipeline(schedule=NoiseSchedule(base_scale=0.7), sampler=sampler, **parts)


def randomised(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The network on ``device`` with weights that are nowhere zero: zeros would run faster than real ones."""
    nn.Module.to(network, device, dtype)  # diffusers' own `to` warns of layers to be kept in float32: there are none
    network.eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.02)
    return network


def time_clip(
    pipeline: FVGenPipeline,
    shape: ClipShape,
    device: torch.device,
    repeats: int = 3,
    clock: Clock = time.perf_counter,
) -> ClipTimes:
    """Time the stages of one clip and the whole call, each by itself.

    Args:
        pipeline: its own sampler's steps are taken.
        shape: frames, height and width; the latter two in the pipeline's multiples.
        device: where the pipeline computes.
        repeats: runs per stage beside a first one to warm up; the median counts.
        clock: see `median_seconds`.
    """
    pipeline.register_to_config(frames=shape.frames)  # random weights were trained on no other number
    generator = torch.Generator().manual_seed(0)
    clip = torch.rand(1, shape.frames, 3, shape.height, shape.width, generator=generator).to(device)
    identity = torch.eye(4).repeat(shape.frames, 1, 1)
    cameras = Cameras(identity, identity[:, :3, :3], shape.height, shape.width)
    with torch.no_grad():
        encode, sample, decode = _stages(pipeline, clip, device)
        encode_s, unet_s, decode_s = (
            median_seconds(stage, device, repeats, clock) for stage in (encode, sample, decode)
        )
        free_memory()
        reset_peak_memory(device)
        whole = median_seconds(lambda: pipeline(clip, clip[:, [0, -1]], cameras), device, repeats, clock)
    peak = peak_memory(device)
    return ClipTimes(encode_s, unet_s, decode_s, whole, None if peak is None else peak / 2**30)


def _stages(pipeline: FVGenPipeline, clip: Tensor, device: torch.device) -> list[Callable[[], object]]:
    """Encode, sample and decode clip [1, F, 3, H, W] with the pipeline's own parts and settings."""
    how, frames = SAMPLING[pipeline.config.sampler], clip.shape[1]
    guided = how.guidance_scale != 1

    def encode():
        noise = ClipNoise(0, [0], frames, 0)
        towers = pipeline.token_encoder()
        return encode_conditions(clip, pipeline.codec, towers, device=device, posterior_noise=noise, guidance=guided)

    conditions = encode()
    timesteps = pipeline.timesteps()

    def sample():
        return pipeline.sample(conditions, timesteps, how, ClipNoise(0, [0], frames, 1))

    latents = torch.rand_like(conditions.render_latents)
    return [encode, sample, lambda: pipeline.codec.decode(latents)]


@torch.no_grad()
def clip_work(pipeline: FVGenPipeline, shape: ClipShape) -> ClipWork:
    """Count the arithmetic of one clip without doing it (torch's counter, on the meta device).

    Attention is counted as it is, also where a fused kernel does it.
    """
    how = SAMPLING[pipeline.config.sampler]
    calls = len(pipeline.timesteps()) * (1 if how.guidance_scale == 1 else 2)
    with torch.device("meta"):
        unet, vae = _empty_like(pipeline.unet), _empty_like(pipeline.vae)
        codec = pipeline.codec
        height, width = shape.height // codec.downscale, shape.width // codec.downscale
        channels, config = codec.latent_channels, unet.config
        sample = torch.empty(1, shape.frames, 2 * channels, height, width)
        tokens = config.text_context_length + shape.frames * config.image_tokens_per_frame
        step = _count(unet, sample, torch.empty(1), torch.empty(1, tokens, config.context_dim))
        encode = decode = 0.0
        if isinstance(vae, (AutoencoderKL, AutoencoderTiny)):
            encode = shape.frames * _count(vae.encoder, torch.empty(1, 3, shape.height, shape.width))
            decode = shape.frames * _count(vae.decoder, torch.empty(1, channels, height, width))
    return ClipWork(encode, calls * step, decode)


def _empty_like(part: Any) -> Any:
    """A diffusers component of the same settings; settings that are no arguments are derived ones."""
    known = inspect.signature(type(part).__init__).parameters
    return type(part)(**{name: value for name, value in part.config.items() if name in known}).eval()


def _count(network: nn.Module, *inputs: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops() / 1e12


@torch.no_grad()
def matmul_tflops(device: torch.device, dtype: torch.dtype, size: int, repeats: int = 10) -> float:
    """Measured rate of a large matrix product, 1e12 operations a second: the ceiling for all arithmetic."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
    return 2 * size**3 / median_seconds(lambda: a @ b, device, repeats) / 1e12
