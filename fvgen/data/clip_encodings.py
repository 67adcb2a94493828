"""How a clip is stored: as pixels, encoded on reading by the lossless codec, or as latents of any codec."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.clip import Clip, Conditions, TrainBatch
from fvgen.conditioning.conditions import FPS, encode_conditions
from fvgen.conditioning.encoders import TokenEncoder
from fvgen.conditioning.residual import ResidualSpace, WarpedClips, residual_condition, residual_condition_channels
from fvgen.generation.view_generator import PointViews
from fvgen.generation.warp import warped_clip
from fvgen.models.codec import Codec, SpaceToDepth, SpaceToDepthCodec, latent_fingerprint
from fvgen.types import SceneGeometry

_STORED_CONFIDENCE = "trust"
"""What stored clips call the warp's confidence: sets that are there stay readable."""


@dataclass(frozen=True)
class EncodedClip:
    """A clip as it goes into a tar."""

    key: str
    extension: str
    content: bytes
    height: int
    width: int
    preview: tuple[Tensor, ...] = ()
    """[3, H, W] each: pictures of it for a contact sheet."""


@dataclass(frozen=True)
class View:
    """Which part of a stored clip is seen, and how."""

    mirrored: bool
    backwards: bool
    top: int
    left: int
    height: int
    width: int

    def of(self, values: np.ndarray) -> np.ndarray:
        """The part of values [F, C, H, W]; time is left as it is, because not every clip may run backwards."""
        part = values[..., self.top : self.top + self.height, self.left : self.left + self.width]
        return part[..., ::-1] if self.mirrored else part


class ClipEncoder(Protocol):
    """Clips -> bytes."""

    meta: dict[str, Any]
    """What reading the clips needs, and what tells one training set from another."""

    def encode(self, clip: Clip, geometry: SceneGeometry) -> EncodedClip:
        """The clip and its condition, made from ``geometry`` of its photos."""


class PixelEncoding:
    """Pixels of frames, renders and warps in bytes; read as residuals on the warp (`ResidualSpace`).

    Args:
        patch_size: pixels along a patch of the lossless codec.
        space: scale of the residuals; its defaults when not given.
        tokens: number of zero tokens that stand in for text and image.
        context_dim: channels of those tokens.
    """

    def __init__(
        self, patch_size: int = 4, space: ResidualSpace | None = None, tokens: int = 1, context_dim: int = 32
    ) -> None:
        self.codec = SpaceToDepthCodec(SpaceToDepth(patch_size))
        self.space, self.tokens, self.context_dim = space or ResidualSpace(), tokens, context_dim
        self.meta: dict[str, Any] = {
            "encoding": "pixels",
            "codec": {"name": "space-to-depth", "patch_size": patch_size, "downscale": patch_size},
            "residual": asdict(self.space),
            "latent_channels": self.codec.latent_channels,
            "condition_channels": residual_condition_channels(self.codec),
            "fps": FPS,
            "tokens": tokens,
            "context_dim": context_dim,
        }

    def encode(self, clip: Clip, geometry: SceneGeometry) -> EncodedClip:
        """See `ClipEncoder.encode`. Frames that are known are stored once."""
        warped = warped_clip(clip.capture, geometry, clip.path, clip.frames, clip.known)
        drawn = ~clip.known
        arrays = {
            "frames": _bytes(clip.frames),
            "render": _bytes(warped.render[0, drawn]),
            "warp": _bytes(warped.warp[0, drawn]),
            "covered": np.packbits(warped.covered[0, drawn].numpy()),
            _STORED_CONFIDENCE: _bytes(warped.confidence[0, drawn]),
            "known": clip.known.numpy(),
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        middle = len(clip.frames) // 2
        preview = [clip.frames[0], clip.frames[middle], warped.render[0, middle], warped.warp[0, middle]]
        preview += [mask[0, middle].float().expand(3, -1, -1) for mask in (warped.covered, warped.confidence)]
        preview.append((2 * (warped.warp[0, middle] - clip.frames[middle]).abs()).clamp_max(1))
        height, width = clip.frames.shape[2:]
        return EncodedClip(clip.name, "npz", buffer.getvalue(), height, width, tuple(preview))

    def read(self, content: bytes, view: View) -> tuple[Tensor, WarpedClips]:
        """Frames [1, F, 3, H, W] and what stands before the network, as seen in a view."""
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            known = stored["known"]
            drawn = (int((~known).sum()), 1, *stored["frames"].shape[2:])
            covered = np.unpackbits(stored["covered"], count=int(np.prod(drawn))).reshape(drawn)
            # Cut out as bytes: what is not seen is not made to floats.
            frames = view.of(stored["frames"])
            parts = {name: view.of(stored[name]) for name in ("render", "warp")}
            parts |= {"covered": view.of(covered), "confidence": view.of(stored[_STORED_CONFIDENCE])}
        step = -1 if view.backwards and known[0] and known[-1] else 1
        whole = {}
        for name, values in parts.items():
            everywhere = frames.copy() if values.shape[1] == 3 else np.full_like(frames[:, :1], 255)
            everywhere[~known] = values if name != "covered" else 255 * values
            whole[name] = _floats(everywhere[::step])[None]
        whole["covered"] = whole["covered"] > 0
        photo = torch.from_numpy(known[::step].copy())[None]
        return _floats(frames[::step])[None], WarpedClips(photo=photo, **whole)

    def decode(self, content: bytes, view: View) -> TrainBatch:
        """One clip as the trainer takes it."""
        images, warped = self.read(content, view)
        return TrainBatch(
            latents=self.space.encode(images, warped, self.codec),
            conditions=Conditions(
                render_latents=residual_condition(warped, self.space, self.codec),
                tokens=torch.zeros(1, self.tokens, self.context_dim),
                fps=torch.full((1,), FPS, dtype=torch.int64),
            ),
        )


class LatentEncoding:
    """Latents of frames and of renders, and tokens, of a full-size model's codec and towers; float16 in safetensors.

    Args:
        name: name of the model, for the index.
        codec: codec of the model.
        token_encoder: text and image towers of the model.
        device: where to encode.
        guidance: whether tokens of no text and a grey image are stored too.
    """

    def __init__(
        self, name: str, codec: Codec, token_encoder: TokenEncoder, device: torch.device, guidance: bool = True
    ) -> None:
        self.codec, self.token_encoder, self.device, self.guidance = codec, token_encoder, device, guidance
        self.meta: dict[str, Any] = {
            "encoding": "latents",
            "codec": {
                "name": name,
                "kind": type(codec).__name__,
                "downscale": codec.downscale,
                "scaling_factor": codec.vae.config.get("scaling_factor"),
                "fingerprint": latent_fingerprint(codec.vae),
            },
            "latent_channels": codec.latent_channels,
            "condition_channels": codec.latent_channels,
            "fps": FPS,
            "context_dim": token_encoder.context_dim,
            "guidance": guidance,
        }

    def encode(self, clip: Clip, geometry: SceneGeometry) -> EncodedClip:
        """See `ClipEncoder.encode`; posterior means, so that the same clip gives the same bytes."""
        from safetensors.torch import save

        drawn = PointViews().generate(clip.capture, geometry, clip.path).rgb.clamp(0, 1)
        renders = torch.where(clip.known[:, None, None, None], clip.frames, drawn)[None].to(self.device)
        known = encode_conditions(
            renders, self.codec, self.token_encoder, device=self.device, posterior_noise=None, guidance=self.guidance
        )
        tensors = {
            "latents": self.codec.encode(clip.frames[None].to(self.device)),
            "render_latents": known.render_latents,
            "tokens": known.tokens,
        }
        if known.unconditional_tokens is not None:
            tensors["unconditional_tokens"] = known.unconditional_tokens
        content = save({name: value.half().cpu().contiguous() for name, value in tensors.items()})
        middle = len(clip.frames) // 2
        preview = (clip.frames[0], clip.frames[middle], renders[0, middle].cpu())
        height, width = clip.frames.shape[2:]
        return EncodedClip(clip.name, "safetensors", content, height, width, preview)


class LatentDecoding:
    """Reads what `LatentEncoding` has written; needs no model."""

    def decode(self, content: bytes, view: View) -> TrainBatch:
        """One clip as the trainer takes it."""
        from safetensors.torch import load

        stored = {name: value.float() for name, value in load(content).items()}
        return TrainBatch(
            latents=stored["latents"],
            conditions=Conditions(
                render_latents=stored["render_latents"],
                tokens=stored["tokens"],
                fps=torch.full((1,), FPS, dtype=torch.int64),
                unconditional_tokens=stored.get("unconditional_tokens"),
            ),
        )


def decoder_for(meta: Mapping[str, Any]) -> PixelEncoding | LatentDecoding:
    """What reads the clips of a training set.

    Raises:
        InputError: they are stored in an unknown way.
    """
    require(
        meta.get("encoding") in ("pixels", "latents"),
        "encoding",
        "be pixels or latents",
        meta.get("encoding"),
        "Prepare the clips again with fvgen clips.",
    )
    if meta["encoding"] == "latents":
        return LatentDecoding()
    space = ResidualSpace(**meta["residual"])
    return PixelEncoding(meta["codec"]["patch_size"], space, meta["tokens"], meta["context_dim"])


def _bytes(values: Tensor) -> np.ndarray:
    return (255 * values.clamp(0, 1)).round().to(torch.uint8).cpu().numpy()


def _floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float() / 255
