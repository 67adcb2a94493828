"""A pipeline folder -> an `FVGenPipeline` that is known to be complete."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fvgen.checks import InputError, complaint
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.models.folder import check_folder, check_loaded


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
