"""Pixels <-> latents: the Stable Diffusion autoencoder, a tiny autoencoder, and lossless space-to-depth.

A pipeline folder stores the plain diffusers component (`AutoencoderKL`, `AutoencoderTiny`, `SpaceToDepth`), so any of
them can stand in for another; `codec_for` wraps it in the one interface that everything else uses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import Tensor, nn

from fvgen.checks import require
from fvgen.devices import free_memory, out_of_memory
from fvgen.models.folder import component_classes, load_component, read_settings

if TYPE_CHECKING:
    from typing_extensions import Self


class Codec(Protocol):
    """Pixels <-> latents, frame by frame."""

    vae: Any
    """The diffusers component."""
    latent_channels: int
    """C of the latents."""
    downscale: int
    """H/h = W/w."""
    chunk: int | None
    """Frames at a time; None for all."""
    device: torch.device
    """Where it computes."""

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Latents [B, F, C, h, w] float32 of images [B, F, 3, H, W] in [0, 1].

        ``noise`` [B, F, C, h, w], standard normal, draws a sample of the posterior; without it the posterior's mean is
        returned. Codecs without a posterior take no notice of it.
        """

    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, F, 3, H, W] float32 in [0, 1] of latents [B, F, C, h, w]."""

    def replayed(self, record: Callable[[Callable[..., Tensor]], Callable[..., Tensor]]) -> Self:
        """The same codec with encoding and decoding of a chunk passed through ``record``."""


def _by_frames(function: Callable[..., Tensor], chunk: int | None, *clips: Tensor | None) -> Tensor:
    """Apply ``function`` to frames [n, ...] of clips [B, F, ...], at most ``chunk`` frames at a time."""
    batch = len(clips[0])  # type: ignore[arg-type]
    flat = [None if clip is None else rearrange(clip, "b f ... -> (b f) ...") for clip in clips]
    total = len(flat[0])  # type: ignore[arg-type]
    size = chunk or total
    parts = [function(*[None if f is None else f[i : i + size] for f in flat]) for i in range(0, total, size)]
    return rearrange(torch.cat(parts), "(b f) ... -> b f ...", b=batch)


class _FrameCodec:
    """What the codecs share: checks, chunks of frames, the component's device and dtype."""

    latent_channels: int
    downscale: int

    def __init__(self, vae: Any, chunk: int | None = None, device: torch.device | None = None) -> None:
        require(chunk is None or chunk >= 1, "chunk", "be at least 1 frame", chunk, "Give None for all at once.")
        self.vae = vae
        self.chunk = chunk
        # An offloaded component's device is meta; only its pipeline knows where it computes.
        self.device = device or vae.device
        self._on_encode: Callable[..., Tensor] = self._encode_frames
        self._on_decode: Callable[..., Tensor] = self._decode_frames

    def replayed(self, record: Callable[[Callable[..., Tensor]], Callable[..., Tensor]]) -> Self:
        """See `Codec.replayed`."""
        self._on_encode, self._on_decode = record(self._encode_frames), record(self._decode_frames)
        return self

    def _encode_frames(self, images: Tensor, noise: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _decode_frames(self, latents: Tensor) -> Tensor:
        raise NotImplementedError

    def _by_frames(self, function: Callable[..., Tensor], *clips: Tensor | None) -> Tensor:
        """In chunks; where a GPU's memory does not suffice, once more frame by frame."""
        there = [None if clip is None else clip.to(self.device) for clip in clips]
        try:
            return _by_frames(function, self.chunk, *there)
        except RuntimeError as error:
            if self.chunk == 1 or not out_of_memory(error):
                raise
        free_memory()  # not in the handler: the error holds what was allocated
        return _by_frames(function, 1, *there)

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """See `Codec.encode`.

        Raises:
            InputError: for another shape than [B, F, 3, H, W], H or W not divisible by ``downscale``, or noise of
                another shape than the latents.
        """
        require(
            images.ndim == 5 and images.shape[2] == 3 and images.shape[0] * images.shape[1] > 0,
            "images",
            "have shape [B, F, 3, H, W]",
            tuple(images.shape),
            "Stack RGB frames of one size.",
        )
        height, width = images.shape[-2:]
        require(
            height % self.downscale == 0 and width % self.downscale == 0,
            "images",
            f"have height and width divisible by {self.downscale}",
            (height, width),
            "Pad or crop them.",
        )
        shape = (*images.shape[:2], self.latent_channels, height // self.downscale, width // self.downscale)
        require(
            noise is None or noise.shape == shape,
            "noise",
            f"have the latents' shape {shape}",
            None if noise is None else tuple(noise.shape),
            "Draw it so.",
        )
        return self._by_frames(self._on_encode, images, noise)

    def decode(self, latents: Tensor) -> Tensor:
        """See `Codec.decode`.

        Raises:
            InputError: for another shape than [B, F, C, h, w].
        """
        require(
            latents.ndim == 5 and latents.shape[2] == self.latent_channels,
            "latents",
            f"have shape [B, F, {self.latent_channels}, h, w]",
            tuple(latents.shape),
            "Use latents made by this codec.",
        )
        return self._by_frames(self._on_decode, latents)


class KLCodec(_FrameCodec):
    """The Stable Diffusion autoencoder: a posterior per frame, latents multiplied by its scaling factor (0.18215)."""

    def __init__(self, vae: AutoencoderKL, chunk: int | None = None, device: torch.device | None = None) -> None:
        super().__init__(vae, chunk, device)
        self.latent_channels = vae.config.latent_channels
        self.downscale = 2 ** (len(vae.config.block_out_channels) - 1)

    def _encode_frames(self, images: Tensor, noise: Tensor | None) -> Tensor:
        posterior = self.vae.encode((images * 2 - 1).to(self.device, self.vae.dtype)).latent_dist
        mean = posterior.mean.float()
        z = mean if noise is None else mean + posterior.std.float() * noise.to(mean)
        return z * self.vae.config.scaling_factor

    def _decode_frames(self, latents: Tensor) -> Tensor:
        z = (latents / self.vae.config.scaling_factor).to(self.device, self.vae.dtype)
        return (self.vae.decode(z).sample.float() / 2 + 0.5).clamp(0, 1)


class TinyCodec(_FrameCodec):
    """A tiny autoencoder (TAESD) for the same latents: much faster, a little softer, no posterior."""

    def __init__(self, vae: AutoencoderTiny, chunk: int | None = None, device: torch.device | None = None) -> None:
        super().__init__(vae, chunk, device)
        self.latent_channels = vae.config.latent_channels
        self.downscale = vae.config.upsampling_scaling_factor ** (len(vae.config.encoder_block_out_channels) - 1)

    def _encode_frames(self, images: Tensor, noise: Tensor | None) -> Tensor:
        latents = self.vae.encode((images * 2 - 1).to(self.device, self.vae.dtype)).latents
        return latents.float() * self.vae.config.scaling_factor

    def _decode_frames(self, latents: Tensor) -> Tensor:
        z = (latents / self.vae.config.scaling_factor).to(self.device, self.vae.dtype)
        return (self.vae.decode(z).sample.float() / 2 + 0.5).clamp(0, 1)


class SpaceToDepth(ModelMixin, ConfigMixin):
    """Every patch of pixels becomes one latent pixel with all its values as channels: nothing to train, nothing lost.

    Args:
        patch_size: pixels along a patch's side; latents have ``3 * patch_size**2`` channels.

    The buffers ``pixel_mean`` and ``pixel_std`` [3] bring latents to about zero mean and unit deviation; they default
    to 0.5 (latents in [-1, 1]) and may be set to a training set's statistics before saving.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @register_to_config
    def __init__(self, patch_size: int = 8) -> None:
        super().__init__()
        require(patch_size >= 1, "patch_size", "be at least 1", patch_size, "8 is usual.")
        self.register_buffer("pixel_mean", torch.full((3,), 0.5))
        self.register_buffer("pixel_std", torch.full((3,), 0.5))

    def encode(self, images: Tensor) -> Tensor:
        """[N, 3p², H/p, W/p] of images [N, 3, H, W] in [0, 1]."""
        normal = (images - self.pixel_mean[:, None, None]) / self.pixel_std[:, None, None]
        return F.pixel_unshuffle(normal, self.config.patch_size)

    def decode(self, latents: Tensor) -> Tensor:
        """[N, 3, H, W] of latents [N, 3p², H/p, W/p]."""
        normal = F.pixel_shuffle(latents, self.config.patch_size)
        return normal * self.pixel_std[:, None, None] + self.pixel_mean[:, None, None]


class SpaceToDepthCodec(_FrameCodec):
    """`SpaceToDepth` behind the codec interface, always in float32: rounding would be the only loss."""

    def __init__(self, vae: SpaceToDepth, chunk: int | None = None, device: torch.device | None = None) -> None:
        super().__init__(vae, chunk, device)
        self.downscale = vae.config.patch_size
        self.latent_channels = 3 * self.downscale**2

    def _encode_frames(self, images: Tensor, noise: Tensor | None) -> Tensor:
        return self.vae.encode(images.to(self.device, torch.float32)).float()

    def _decode_frames(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents.to(self.device, torch.float32)).float().clamp(0, 1)


CODECS: dict[type[nn.Module], type[KLCodec] | type[TinyCodec] | type[SpaceToDepthCodec]] = {
    AutoencoderKL: KLCodec,
    AutoencoderTiny: TinyCodec,
    SpaceToDepth: SpaceToDepthCodec,
}
"""Component of a pipeline folder -> codec around it."""


def codec_for(vae: nn.Module, chunk: int | None = None, device: torch.device | None = None) -> Codec:
    """The codec for a diffusers component.

    Args:
        vae: an `AutoencoderKL`, `AutoencoderTiny` or `SpaceToDepth`.
        chunk: frames encoded or decoded at a time; None for all, 1 for the least memory.
        device: where it computes; None for where it lives.

    Raises:
        InputError: for another component.
    """
    matches = [codec for kind, codec in CODECS.items() if isinstance(vae, kind)]
    _require_known(bool(matches), type(vae).__name__)
    return matches[0](vae, chunk, device)  # type: ignore[arg-type]


def load_codec(folder: Path, chunk: int | None = 4) -> Codec:
    """The codec of a pipeline folder, without the rest of it.

    Args:
        folder: the pipeline's.
        chunk: see `codec_for`.

    Raises:
        InputError: the folder has no codec that is known, or not all of its weights.
    """
    _, name = component_classes(read_settings(folder)).get("vae", ("", "none"))
    kinds = {kind.__name__: kind for kind in CODECS}
    _require_known(name in kinds, name)
    return codec_for(load_component(kinds[name], folder / "vae").eval(), chunk)


def codec_name(component: str) -> str | None:
    """The name of the codec around a component of this class name; None for an unknown one."""
    return {kind.__name__: codec.__name__ for kind, codec in CODECS.items()}.get(component)


def _require_known(known: bool, given: str) -> None:
    require(known, "vae", f"be one of {[kind.__name__ for kind in CODECS]}", given, "Load the folder's own vae.")


def latent_fingerprint(vae: nn.Module) -> str:
    """Twelve hex digits of the weights that make a component's latents; its decoder may be any.

    They are taken as bfloat16 and without their names: a component is the same in every precision and layout.
    """
    made_by = [w for name, w in vae.state_dict().items() if not name.startswith(("decoder.", "post_quant_conv."))]
    bits = [w.to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes() for w in made_by]
    return hashlib.sha256(b"".join(sorted(hashlib.sha256(part).digest() for part in bits))).hexdigest()[:12]
