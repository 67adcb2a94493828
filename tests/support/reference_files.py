"""Facts of the original ViewCrafter: a part of them is in the repository, all of them lie beside some checkouts."""

from __future__ import annotations

from pathlib import Path

import pytest

_TESTS = Path(__file__).resolve().parents[1]
_HELD = _TESTS / "data" / "reference"
_WHOLE = _TESTS.parents[1] / "shared" / "reference" / "viewcrafter"
_FACTS = _WHOLE if _WHOLE.is_dir() else _HELD

VECTORS = _FACTS / "vectors"
"""Inputs and outputs of the original code: a .safetensors file per case and a .json with its settings."""
VECTOR_FOLDERS = sorted({_HELD / "vectors", VECTORS})
"""The repository's, and all of them where they are."""
MANIFESTS = _FACTS / "manifests"
"""Names and shapes of the original checkpoint's tensors."""


def needs_vectors(*names: str) -> pytest.MarkDecorator:
    """For a test of vectors that the repository is too small for."""
    missing = [name for name in names if not (VECTORS / f"{name}.safetensors").is_file()]
    return pytest.mark.skipif(bool(missing), reason=f"not in the repository: {', '.join(missing)}")
