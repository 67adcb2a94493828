"""How poses are found: the options that ``fvgen poses`` and ``ns-train`` share."""

from __future__ import annotations

from dataclasses import dataclass

from fvgen.checks import require
from fvgen.poses.features import MatcherName


@dataclass(frozen=True)
class PoseOptions:
    """How poses are found."""

    matcher: MatcherName | None = None
    """Keypoints and matches: aliked (learned) or sift; aliked where its packages are installed."""
    focal_length: float | None = None
    """Focal length of all photos in pixels, where it is known."""
    camera: str | None = None
    """Camera of all photos as COLMAP's cameras.txt has it, such as "SIMPLE_RADIAL 3072 2304 2559.8 1536 1152 -0.02"."""
    hold_out: int | None = None
    """Hold every n-th photo out of training, 0 for none; by default none of up to 5 photos, else every sixth."""


def check_options(options: PoseOptions) -> None:
    """Refuse options that exclude each other or cannot be, before any photo is read.

    Raises:
        InputError: see above.
    """
    from fvgen.poses.camera_groups import read_camera_line
    from fvgen.poses.features_aliked import require_packages

    both = options.focal_length is not None and options.camera is not None
    require(not both, "--camera", "not be given together with --focal-length", options.camera, "Give one of them.")
    require(
        options.hold_out is None or options.hold_out == 0 or options.hold_out >= 2,
        "--hold-out",
        "be 0, or 2 and more",
        options.hold_out,
        "6 holds every sixth photo out.",
    )
    if options.camera is not None:
        read_camera_line(options.camera)
    if options.matcher == "aliked":
        require_packages()
