"""Kinds of heads of a `ClipDiscriminator`, for whom they are named without its networks."""

from __future__ import annotations

from typing import Literal

Head = Literal["pooled", "concatenated", "frames"]
"""How maps become a logit: each convolved in 3D and pooled (FVGen); concatenated and convolved once more (AVDM2); each
convolved within frames alone and pooled, as a classifier of images sees them (DMD2)."""
