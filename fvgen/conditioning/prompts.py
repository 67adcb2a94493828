"""Text for the text tower. ViewCrafter was only ever given one prompt, so its token ids are here and no vocabulary."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fvgen.checks import InputError, complaint, require

PROMPT = "Rotating view of a scene"
CONTEXT_LENGTH = 77


def _padded(*ids: int) -> tuple[int, ...]:
    return ids + (0,) * (CONTEXT_LENGTH - len(ids))


PROMPT_IDS = _padded(49406, 32265, 1093, 539, 320, 3562, 49407)
"""CLIP's byte-pair ids of `PROMPT`: start, five words, end, zeros."""
EMPTY_IDS = _padded(49406, 49407)
"""CLIP's ids of no text."""

_KNOWN = {PROMPT: PROMPT_IDS, "": EMPTY_IDS}


def token_ids(text: str, tokenizer_folder: Path | None = None) -> Tensor:
    """[1, 77] int64 ids of ``text``, zeros after its end.

    Args:
        text: `PROMPT` and no text need nothing else.
        tokenizer_folder: a CLIP tokenizer's ``vocab.json`` and ``merges.txt`` for any other text.

    Raises:
        InputError: for another text without a tokenizer, or one that is too long; or the folder has no tokenizer.
    """
    if text in _KNOWN:
        return torch.tensor([_KNOWN[text]])
    if tokenizer_folder is None:
        next_step = "Give a folder with its vocab.json and merges.txt."
        raise InputError(complaint("prompt", f"be {PROMPT!r} without a tokenizer", repr(text), next_step))
    missing = [name for name in ("vocab.json", "merges.txt") if not (tokenizer_folder / name).is_file()]
    where = f"{tokenizer_folder} without {' and '.join(missing)}"
    require(not missing, "tokenizer_folder", "hold a CLIP tokenizer", where, "Name another folder.")
    from transformers import CLIPTokenizer

    ids = CLIPTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)(text)["input_ids"]
    require(len(ids) <= CONTEXT_LENGTH, "prompt", f"fit in {CONTEXT_LENGTH} tokens", len(ids), "Shorten it.")
    return torch.tensor([_padded(*ids)])
