"""The report of a run that did not take place."""

from __future__ import annotations

import torch

from fvgen_ns.report.figures import ComparedPhoto, RunFigures
from fvgen_ns.report.page import Report

METRICS = {"psnr": 21.5, "ssim": 0.75, "st_lpips": 0.2, "psnr_affine": 22.0}


def figures(photos: str = "held-out photos", psnr: float = 21.5, notes: list[str] | None = None) -> RunFigures:
    counts = {"photos": 4, "generated views": 6, "steps": 40, "Gaussians": 1000}
    return RunFigures(photos, METRICS | {"psnr": psnr}, {"training": 12.3}, counts, notes or [])


def report(**changes) -> Report:
    compared = [ComparedPhoto("a<b>.png", torch.rand(3, 8, 12), torch.rand(3, 8, 12), METRICS)]
    viewer = "<script>splat</script>"
    given = {"title": "room", "figures": figures(), "compared": compared, "film": b"film", "viewer": viewer}
    return Report(**(given | {"commands": {"Look": "ns-viewer"}} | changes))
