"""Where the original ViewCrafter's facts lie, beside the repository; the tests that need them are skipped elsewhere."""

from pathlib import Path

import pytest

_VIEWCRAFTER = Path(__file__).resolve().parents[3] / "shared" / "reference" / "viewcrafter"
VECTORS = _VIEWCRAFTER / "vectors"
"""Inputs and outputs of the original code: a .safetensors file per case and a .json with its settings."""
MANIFESTS = _VIEWCRAFTER / "manifests"
"""Names and shapes of the original checkpoint's tensors."""

needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason="the reference vectors are not beside this checkout")
