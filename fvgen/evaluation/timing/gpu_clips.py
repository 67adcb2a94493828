"""A student's clip at full size in every mode that users have, with two codecs.

Plain as the networks are loaded; eager as they are prepared for a GPU; the UNet replayed as a graph; compiled; and with
little memory.

`TINY` networks go the same way on a CPU, so that no line here first runs on an expensive machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from diffusers import AutoencoderTiny

from fvgen.devices import default_dtype, free_memory, plain_operations
from fvgen.evaluation.timing.clips import ClipShape, clip_work, random_pipeline, randomised, time_clip
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.models.convert_viewcrafter import Architecture

AIM_SECONDS, AIM_GIB = 0.25, 16.0
"""Aimed at on one H200: seconds of 16 frames at 320x512, encode to pixels, and GPU memory for any clip here."""
TINY = Architecture(
    unet={
        "model_channels": 16,
        "channel_mult": (1, 2),
        "num_res_blocks": 1,
        "attention_resolutions": (2,),
        "num_head_channels": 8,
        "context_dim": 16,
        "image_tokens_per_frame": 2,
        "initial_attention_heads": 1,
        "norm_num_groups": 8,
    },
    vae={
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
        "latent_channels": 4,
    },
    text={"vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    vision={"image_size": 28, "patch_size": 14, "width": 16, "head_width": 8, "layers": 1},
    clip_dim=16,
    projector={
        "dim": 16,
        "depth": 1,
        "dim_head": 8,
        "heads": 2,
        "num_queries": 2,
        "embedding_dim": 16,
        "output_dim": 16,
        "video_length": 2,
    },
)
_TINY_TAESD = {
    "encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8),
    "num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1),
}  # fmt: skip
Pipelines = dict[str, FVGenPipeline]


@dataclass(frozen=True)
class ClipTrials:
    """What is measured, and how."""

    device: torch.device
    tflops: float
    """measured rate of a matrix product there"""
    tiny: bool = False
    repeats: int = 5
    """timed runs per figure; the median counts"""
    backend: str = "inductor"
    """backend of torch.compile"""
    modes: tuple[str, ...] = ("plain", "eager", "compiled", "low-memory")
    """keys of `MODES`; "graph" runs on a GPU alone"""

    @property
    def shapes(self) -> tuple[ClipShape, ...]:
        """Shapes of the clips."""
        return (ClipShape(2, 16, 24),) if self.tiny else (ClipShape(16, 320, 512), ClipShape(16, 576, 1024))


def measure_clips(trials: ClipTrials) -> Iterator[dict[str, Any]]:
    """A row for each mode, size and codec; a failure is a row with ``error``, and the others are measured."""
    pipelines: Pipelines = {}
    for mode in trials.modes:
        try:
            pipelines = MODES[mode](trials, pipelines)
        except Exception as error:  # a missing package, the compiler, the allocator
            yield {"mode": mode, "error": _text(error)}
            continue
        for shape in trials.shapes:
            for codec, pipeline in pipelines.items():
                row: dict[str, Any] = {"mode": mode, **asdict(shape), "codec": codec}
                try:
                    work = clip_work(pipeline, shape)
                    row |= asdict(work) | {"floor_s": work.total / trials.tflops}
                    with plain_operations() if mode == "plain" else nullcontext():
                        row |= asdict(time_clip(pipeline, shape, trials.device, trials.repeats))
                except Exception as error:  # whatever the compiler, the allocator or a kernel raises
                    row["error"] = _text(error)
                free_memory()
                yield row


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def _eager(trials: ClipTrials, before: Pipelines) -> Pipelines:
    return _prepared(before or _plain(trials, {}))


def _graph(trials: ClipTrials, before: Pipelines) -> Pipelines:
    return _prepared(before or _plain(trials, {}), graphs=True)


def _prepared(pipelines: Pipelines, graphs: bool = False) -> Pipelines:
    for pipeline in pipelines.values():
        pipeline.prepare_for_gpu(graphs)
    return pipelines


def _plain(trials: ClipTrials, before: Pipelines) -> Pipelines:
    """A student with the Stable Diffusion autoencoder, and the same with TAESD."""
    dtype = default_dtype(trials.device)
    kl = random_pipeline(TINY if trials.tiny else Architecture(), "few_step", trials.device, dtype)
    with trials.device:
        taesd: Any = AutoencoderTiny(**(_TINY_TAESD if trials.tiny else {}))
    parts = {name: part for name, part in kl.components.items() if name != "vae"}
    tiny = FVGenPipeline(vae=randomised(taesd, trials.device, dtype), sampler="few_step", **parts)
    return {"kl": kl, "taesd": tiny}


def _compiled(trials: ClipTrials, before: Pipelines) -> Pipelines:
    before = _prepared(before or _plain(trials, {}))
    networks = [before["kl"].unet]
    networks += [half for pipeline in before.values() for half in (pipeline.vae.encoder, pipeline.vae.decoder)]
    for network in networks:
        network.compile(backend=trials.backend, dynamic=False)
    return before


def _low_memory(trials: ClipTrials, before: Pipelines) -> Pipelines:
    """Offloading rewires modules, and needs them on the CPU: with new ones."""
    before.clear()
    free_memory()
    pipeline = _plain(trials, {})["kl"].to("cpu")
    free_memory()
    pipeline.enable_low_memory()
    return {"kl": pipeline}


MODES: dict[str, Callable[[ClipTrials, Pipelines], Pipelines]] = {
    "plain": _plain,
    "eager": _eager,
    "graph": _graph,
    "compiled": _compiled,
    "low-memory": _low_memory,
}
"""How pipelines are prepared for each mode, from those of the mode before it."""


def described(row: dict[str, Any]) -> str:
    """One line about a row."""
    name = f"{row['mode']:10}"
    if "codec" in row:
        name += f" {row['frames']} frames {row['height']}x{row['width']} {row['codec']:5}"
    if "error" in row:
        return f"{name} FAILED: {row['error']}"
    memory = "" if row["peak_gib"] is None else f"  peak {row['peak_gib']:.2f} GiB"
    return (
        f"{name} encode {row['encode_s']:.4f}  UNet {row['unet_s']:.4f}  decode {row['decode_s']:.4f}"
        f"  clip {row['clip_s']:.4f} s  floor {row['floor_s']:.4f} s{memory}"
    )


def aims(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What was aimed at, against what was measured; nothing where it was not."""
    measured = [row for row in rows if "error" not in row]
    first = [row for row in measured if (row["frames"], row["height"], row["width"]) == (16, 320, 512)]
    peaks = [row["peak_gib"] for row in measured if row["peak_gib"] is not None]
    out: dict[str, Any] = {}
    if first:
        fastest = min(first, key=lambda row: row["clip_s"])
        out["seconds of 16 frames at 320x512"] = {
            "aim": AIM_SECONDS, "measured": fastest["clip_s"], "reached": fastest["clip_s"] <= AIM_SECONDS,
            "with": f"{fastest['codec']} {fastest['mode']}",
        }  # fmt: skip
    if peaks:
        out["peak GiB"] = {"aim": AIM_GIB, "measured": max(peaks), "reached": max(peaks) <= AIM_GIB}
    return out
