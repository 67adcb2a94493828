"""What good depth of single photos would be worth in a splat (``--geometry-completion``), without a network's weights.

A stand-in takes the network's place: depth from ALL photos of a capture, held-out ones too (plane sweep, or measured),
gaps filled smoothly, bent by a scale and a shift per photo, blurred across edges, and wrong by some percent over wide
areas. So this says what the fusion does with good depth, not what Depth Anything does. Splats with and without it,
``fvgen-splat-cpu``, few photos:

    python benchmarks/learned_depth.py --captures FOLDER --output learned_depth.json
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from held_out_photos import chosen_captures
from plugin_run import dense_cloud, run_plugin
from reporting import write_json
from rich.progress import track
from sparse_captures import DENSIFY, METHODS, prepare
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

from fvgen import load_capture
from fvgen.files import read_json
from fvgen.geometry.provider import GEOMETRY_PROVIDERS
from fvgen.geometry.push_pull import push_pull
from fvgen.models.depth_anything import FILES
from fvgen.types import Progress, no_progress

SIZE = 256
"""Longest side of the photos, as in fvgen-splat-cpu."""
BLUR = 2.0
"""Deviation in pixels of the blur across edges."""
ERROR, AREAS = 0.05, 8
"""Relative error of inverse depth, and into how many areas along a side it is divided."""
SCORES = ("psnr", "psnr_affine", "ssim", "st_lpips", "avge", "psnr_covered", "psnr_uncovered")


@dataclass
class Options:
    """Compare splats with and without a stand-in for a depth network."""

    captures: Path
    """Folder of captures, each with train_filenames and test_filenames."""
    output: Path
    """JSON file to write. Captures that it holds already are kept, and not measured again."""
    only: list[str] = field(default_factory=list)
    """Names of the captures to run; all by default."""
    views: int = 3
    """Train photos to keep."""
    seeds: int = 1
    """Runs per capture and method."""


class StandIn:
    """Takes the place of `fvgen.models.depth_anything.DepthAnything`."""

    def __init__(self, inverse: Tensor) -> None:
        """``inverse`` [V, H, W] of the training photos, as good as it can be had."""
        random = torch.Generator().manual_seed(0)
        wide = torch.randn(len(inverse), 1, AREAS, AREAS, generator=random)
        wrong = functional.interpolate(wide, inverse.shape[1:], mode="bicubic", align_corners=False)[:, 0]
        bend = torch.rand(2, len(inverse), 1, 1, generator=random)
        soft = gaussian_blur(inverse[:, None].float(), [13, 13], [BLUR, BLUR])[:, 0]
        self._maps = (1 + 4 * bend[0]) * soft * (1 + ERROR * wrong) + bend[1]

    def inverse_depth(self, photos: Tensor, measured: Tensor, progress: Progress = no_progress) -> Tensor:
        """See `fvgen.geometry.completion.LearnedDepth`."""
        size = photos.shape[-2:]
        return functional.interpolate(self._maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def depth_of_all(capture: Path, training: list[str]) -> Tensor:
    """[V, H, W] inverse depth of the named photos, from all photos of a capture, without gaps."""
    whole, names = load_capture(capture, long_side=SIZE, split="all")
    depths = GEOMETRY_PROVIDERS["auto"]().reconstruct(whole).depths
    chosen = depths[[names.index(name) for name in training]]
    known = (chosen > 0)[:, None].float()
    return push_pull(torch.where(chosen > 0, 1 / chosen.clamp_min(1e-9), 0.0)[:, None].float(), known)[:, 0]


def run_capture(options: Options, name: str, scratch: Path) -> dict[str, dict[str, float]]:
    """Scores without and with the stand-in."""
    from fvgen_ns.produce import DEPTH_NETWORKS

    source = options.captures / name
    capture = prepare(source, scratch / name, options.views)
    training = load_capture(capture, long_side=SIZE)[1]
    DEPTH_NETWORKS["depth-anything"] = lambda _: StandIn(depth_of_all(source, training))
    network = scratch / "network"
    network.mkdir(exist_ok=True)
    for file in FILES:
        (network / file).write_text("a stand-in")
    shared: dict[str, Any] = {f"{DENSIFY}.cache_dir": scratch / "cache"}
    asked = {f"{DENSIFY}.geometry_completion": "depth-anything", f"{DENSIFY}.depth_model": network}
    cloud = dense_cloud(capture, "fvgen-splat-cpu", {**shared, **METHODS["dense_init"]})
    rows = {}
    for method, more in (("fvgen", {}), ("with_depth", asked)):
        runs = [
            run_plugin(
                capture, scratch, method="fvgen-splat-cpu", seed=seed, options={**shared, **more}, cloud=cloud
            ).scores
            for seed in range(options.seeds)
        ]
        rows[method] = {key: float(np.mean([run[key] for run in runs if key in run])) for key in SCORES}
    return rows


def main(options: Options) -> None:
    """Run, print, and write the JSON after each capture."""
    results: dict[str, dict[str, dict[str, float]]] = (read_json(options.output) or {}).get("captures", {})
    missing = [name for name in chosen_captures(options.captures, options.only) if name not in results]
    for name in track(missing, description="captures"):
        with tempfile.TemporaryDirectory() as scratch:
            results[name] = run_capture(options, name, Path(scratch))
        for method, scores in results[name].items():
            print(name, method, " ".join(f"{key} {scores[key]:.4f}" for key in SCORES), flush=True)
        methods = results[name]
        mean = {m: {k: float(np.mean([r[m][k] for r in results.values()])) for k in SCORES} for m in methods}
        settings = {"views": options.views, "seeds": options.seeds, "blur": BLUR, "error": ERROR, "areas": AREAS}
        write_json(options.output, {"captures": results, "mean": mean, "settings": settings})


if __name__ == "__main__":
    main(tyro.cli(Options))
