"""A ViewCrafter checkpoint <-> a folder that ``FVGenPipeline.from_pretrained`` loads.

Everything is checked before anything is written. Networks are then taken one after the other from the memory-mapped
file, opened anew for each and let go after it, so that only the largest network is ever in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from fvgen.checks import require
from fvgen.diffusion.schedule import CHECKPOINT_BUFFERS, NoiseSchedule
from fvgen.files import whole_file
from fvgen.models.convert_viewcrafter import Architecture, Shapes, components
from fvgen.models.convert_viewcrafter_file import read_checkpoint
from fvgen.models.convert_viewcrafter_unet import check_layout
from fvgen.models.folder import load_component, new_folder, read_tensors, weight_files
from fvgen.models.viewcrafter_variants import VARIANTS, Variant, VariantName
from fvgen.types import Progress, no_progress

UNUSED_FILE = "viewcrafter_unused.safetensors"
"""Tensors of the checkpoint that the pipeline has no use for; `revert_folder` puts them back."""
_PIECE = "2GB"
"""Size of a saved piece: serialising copies it."""


@dataclass(frozen=True)
class ConversionReport:
    """What became of a checkpoint's tensors."""

    variant: VariantName
    used: int
    """Tensors in the pipeline's networks and schedule."""
    dropped: Mapping[str, str]
    """Name -> reason, for the others."""


def checkpoint_shapes(architecture: Architecture) -> Shapes:
    """Name and shape of every tensor of a ViewCrafter checkpoint."""
    shapes = {name: tuple(table.shape) for name, table in _schedule_tables(1.0).items()}
    for component in components(architecture):
        shapes |= {component.prefix + name: shape for name, shape in component.shapes(component.empty()).items()}
    return shapes


def convert_checkpoint(
    checkpoint: Path,
    folder: Path,
    variant: VariantName | None = None,
    dtype: torch.dtype | None = None,
    trust_pickle: bool = False,
    architecture: Architecture | None = None,
    progress: Progress = no_progress,
) -> ConversionReport:
    """Write the pipeline folder of a ViewCrafter checkpoint.

    Args:
        checkpoint: The .ckpt file, see `read_checkpoint`.
        folder: Where to write; must not exist yet.
        variant: A name in `VARIANTS`; None to recognise it by the schedule's tables, where only one variant has them.
        dtype: What the networks are stored in; None as they are. The schedule's tables stay float32.
        trust_pickle: See `read_checkpoint`.
        architecture: The networks' sizes; None for those of every release.
        progress: Called after each network.

    Raises:
        InputError: The file is not such a checkpoint in every name and shape, the variant does not fit it, or the
            folder exists. Nothing has been written then.
    """
    architecture = architecture or Architecture()
    _require_new(folder)
    tensors = read_checkpoint(checkpoint, trust_pickle)
    check_layout(tensors, checkpoint_shapes(architecture), "CKPT")
    variant = _variant_of(tensors, variant)
    total = len(tensors)
    del tensors
    parts = components(_trained_on(VARIANTS[variant], architecture))
    with new_folder(folder, sampler="ddim") as writer:
        writer.add("schedule", NoiseSchedule(base_scale=VARIANTS[variant].base_scale))
        reasons: dict[str, str] = {}
        for done, component in enumerate(parts):
            progress(done, len(parts), component.folder)
            mine = _below(read_checkpoint(checkpoint, trust_pickle), component.prefix)
            for name in mine:
                if (reason := component.reason_dropped(name)) is not None:
                    reasons[component.prefix + name] = reason
            network = component.empty()
            network.load_state_dict(component.convert(_cast(mine, dtype), network), assign=True)
            writer.add(component.folder, network, max_shard_size=_PIECE)
            del mine, network  # with its last tensor the file's mapping goes, too
        progress(len(parts), len(parts), UNUSED_FILE)
        tensors = read_checkpoint(checkpoint, trust_pickle)
        save_file({name: tensors[name].contiguous() for name in reasons}, writer.path / UNUSED_FILE)
    return ConversionReport(variant, total - len(reasons), reasons)


def revert_folder(
    folder: Path,
    checkpoint: Path,
    dtype: torch.dtype | None = None,
    architecture: Architecture | None = None,
    progress: Progress = no_progress,
) -> int:
    """Write one Lightning-style ViewCrafter checkpoint from a pipeline folder: the inverse of `convert_checkpoint`.

    Args:
        folder: A folder in the layout that `convert_checkpoint` writes.
        checkpoint: Where to write; must not exist yet.
        dtype: What the networks are stored in; None as they are.
        architecture: The networks' sizes; None for those of every release.
        progress: Called after each network.

    Returns:
        The number of tensors written.

    Raises:
        InputError: A part of the folder is missing or has other names or shapes, or the file exists.
    """
    architecture = architecture or Architecture()
    _require_new(checkpoint)
    require(
        (folder / UNUSED_FILE).is_file(),
        "FOLDER",
        f"hold {UNUSED_FILE}",
        folder,
        "Copy it from the folder of the converted ViewCrafter checkpoint: its loader asks for these tensors.",
    )
    schedule = load_component(NoiseSchedule, folder / "schedule")
    tensors = _schedule_tables(schedule.config["base_scale"])
    parts = components(architecture)
    for done, component in enumerate(parts):
        progress(done, len(parts), component.folder)
        network = component.empty()
        state: dict[str, Tensor] = {}
        for file in weight_files(folder / component.folder):
            state |= read_tensors(file)
        expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        check_layout(state, expected, f"FOLDER/{component.folder}")
        converted = component.revert(_cast(state, dtype), network)
        tensors |= {component.prefix + name: tensor.contiguous() for name, tensor in converted.items()}
    tensors |= _cast(read_tensors(folder / UNUSED_FILE), dtype)
    shapes = checkpoint_shapes(architecture)
    check_layout(tensors, shapes, "FOLDER")
    progress(len(parts), len(parts), checkpoint.name)
    with whole_file(checkpoint) as unfinished:
        torch.save({"state_dict": {name: tensors[name] for name in shapes}}, unfinished)
    return len(tensors)


def _schedule_tables(base_scale: float) -> dict[str, Tensor]:
    tables = NoiseSchedule(base_scale=base_scale).tables()
    return {name: tables[name] for name in CHECKPOINT_BUFFERS}


def _variant_of(tensors: Mapping[str, Tensor], variant: VariantName | None) -> VariantName:
    """The variant whose schedule the checkpoint's tables are: asked for, or recognised by them."""
    base_scale = round(tensors["scale_arr"][-1].item(), 4)
    fitting = [name for name, known in VARIANTS.items() if known.base_scale == base_scale]
    require(
        bool(fitting),
        "CKPT",
        f"have a base scale of {sorted({v.base_scale for v in VARIANTS.values()})}",
        base_scale,
        "No released variant has another.",
    )
    if variant is None and len(fitting) == 1:
        variant = fitting[0]
    require(
        variant in fitting,
        "--variant",
        f"be one of {fitting} for a checkpoint of base scale {base_scale}",
        variant,
        "Its tensors do not tell these apart: name the one you downloaded.",
    )
    assert variant is not None
    for name, table in _schedule_tables(base_scale).items():
        error = (tensors[name].float() - table).abs().max().item()
        require(
            error <= 1e-5 * max(1.0, table.abs().max().item()),
            f"CKPT's {name}",
            "be ViewCrafter's table",
            f"one that differs by {error:.1e}",
            "This is another model's schedule.",
        )
    return variant


def _trained_on(variant: Variant, architecture: Architecture) -> Architecture:
    """The architecture with the variant's clips written into the UNet's configuration."""
    clips = {"sample_frames": variant.frames, "sample_size": (variant.height // 8, variant.width // 8)}
    return replace(architecture, unet={**architecture.unet, **clips})


def _cast(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    return {name: tensor if dtype is None else tensor.to(dtype) for name, tensor in tensors.items()}


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _require_new(path: Path) -> None:
    require(not path.exists(), "OUT", "not exist yet", path, "Name another place or remove it first.")
