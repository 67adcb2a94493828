"""Poses found from photos alone, beside the poses that captures came with, and what the difference costs a splat.

The train photos of each capture are placed as ``fvgen poses`` does it. The held-out photos are then placed in that
reconstruction one by one, from matches with train photos: no held-out photo has a part in the others' poses. Both
captures, with found and with given poses, train one splat of the plugin at its defaults.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: processor time is then what one core takes

import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import tyro
from held_out_photos import chosen_captures
from reporting import write_json
from rich.console import Console
from rich.table import Table

from fvgen.checks import InputError
from fvgen.data.capture import CaptureFrame
from fvgen.data.read_capture import read_capture
from fvgen.files import read_json
from fvgen.poses.alignment import pose_difference
from fvgen.poses.camera_groups import sensor_points
from fvgen.poses.features import MATCHERS, Matcher, MatcherName
from fvgen.poses.intake import Photo, read_intake
from fvgen.poses.place import place_photos
from fvgen.poses.placement import Placement, PlacementRefusedError
from fvgen.poses.posed_capture import write_capture
from fvgen.poses.sensor_frame import SENSOR_WIDTH, SensorFrame
from fvgen.poses.two_view import SEED
from fvgen.types import no_progress

METHOD = "fvgen-splat-cpu"
DENSIFY = "pipeline.datamanager.densify"
PARTNERS = 2
"""Train photos, the nearest, that a held-out photo is matched with."""
FEWEST_INLIERS = 30
"""A held-out photo with fewer matches that fit its pose is left out, and counted as such."""


@dataclass
class Benchmark:
    """Find the poses of captures anew."""

    captures: Path
    """Folder of captures, each with train_filenames and test_filenames."""
    output: Path
    """JSON file to write; captures that it holds from an earlier call and that are not run now stay."""
    only: list[str] = field(default_factory=list)
    """Names of the captures to run; all by default."""
    matcher: MatcherName = "aliked"
    """Keypoints and matches."""
    splats: bool = True
    """Whether splats are trained."""
    pose_refinement: bool = False
    """Whether a third splat is trained, whose camera poses are optimised with it."""
    seeds: int = 1
    """Runs of each splat."""


def main(benchmark: Benchmark) -> None:
    """Run capture by capture; print the table and write the JSON after each.

    Raises:
        InputError: a capture cannot be used; said before work starts.
    """
    results: dict[str, Any] = (read_json(benchmark.output) or {}).get("captures", {})
    for name in chosen_captures(benchmark.captures, benchmark.only):
        results[name] = run_capture(benchmark, name)
        settings = {"matcher": benchmark.matcher, "method": METHOD}
        ordered = {one: results[one] for one in sorted(results)}
        write_json(benchmark.output, {"captures": ordered, "settings": settings})
        Console(width=140).print(_table(ordered))


def run_capture(benchmark: Benchmark, name: str) -> dict[str, Any]:
    """Place one capture's photos; errors, focal length, processor seconds and the splats' PSNR."""
    files = read_capture(benchmark.captures / name)
    train, test = ([files.frames[i] for i in files.split(split)] for split in ("train", "test"))
    matcher = MATCHERS[benchmark.matcher]()
    with tempfile.TemporaryDirectory() as scratch:
        photos = _photos(train, Path(scratch) / "train")
        start = time.process_time()
        try:
            placement = place_photos(photos, matcher, progress=no_progress)
        except PlacementRefusedError as error:
            return {"photos": len(train), "placed": 0, "refused": str(error), "seconds": time.process_time() - start}
        row = {"photos": len(train), "seconds": time.process_time() - start, **_errors(placement, train)}
        if benchmark.splats:
            held_out = _photos(test, Path(scratch) / "test")
            partners = [_nearest(frame, train, placement.model.placed) for frame in test]
            whole = _with_held_out(placement, matcher, held_out, partners)
            compared = [i for i in whole.model.placed if i >= len(photos)]
            found, given = Path(scratch) / "found", Path(scratch) / "given"
            write_capture(whole, found, compared)
            _with_test_photos(files.folder, [test[i - len(photos)].name for i in compared], given)
            row |= {"held_out": len(test), "held_out_placed": len(compared)}
            row |= _splats(benchmark, given, found, Path(scratch))
    return row


def _photos(frames: list[CaptureFrame], folder: Path) -> tuple[Photo, ...]:
    """Copies of photos without anything that gives away their poses, in the order of the frames."""
    folder.mkdir()
    copies = [folder / f"{i:03d}{frame.photo.suffix}" for i, frame in enumerate(frames)]
    for frame, copy in zip(frames, copies, strict=True):
        shutil.copyfile(frame.photo, copy)
    return read_intake(copies, folder, []).photos


def _errors(placement: Placement, train: list[CaptureFrame]) -> dict[str, Any]:
    """How far the placed photos are from where the capture has them, and their focal lengths' mean ratio."""
    model = placement.model
    own = [SensorFrame(*placement.matches.photos[i].size).upright_pose(model.c2w[i]) for i in model.placed]
    given = [train[i].c2w for i in model.placed]
    ratios = [model.lenses[i].focal * max(train[i].size) / SENSOR_WIDTH / train[i].K[0, 0] for i in model.placed]
    return {
        "placed": len(model.placed),
        "position_percent_of_span": 100 * _position_difference(own, given),
        "degrees": pose_difference(own, given).degrees,
        "focal_length_ratio": float(np.mean(ratios)),
        "notes": list(placement.notes),
    }


def _position_difference(own: list[np.ndarray], given: list[np.ndarray]) -> float:
    """The largest distance of a camera [4, 4] from where it should be, over the span of all, after the similarity that
    fits the positions best (Umeyama, PAMI 1991)."""
    a, b = (np.stack([pose[:3, 3] for pose in poses]) for poses in (own, given))
    span = np.linalg.norm(b[:, None] - b[None], axis=2).max()
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    u, sizes, vt = np.linalg.svd(b.T @ a)
    signs = np.array([1.0, 1.0, np.linalg.det(u @ vt)])
    scale = (sizes * signs).sum() / (a**2).sum()
    return float(np.linalg.norm(scale * a @ (u @ np.diag(signs) @ vt).T - b, axis=1).max() / span)


def _nearest(frame: CaptureFrame, train: list[CaptureFrame], placed: tuple[int, ...]) -> list[int]:
    """The placed train photos to match a held-out one with."""
    distance = {i: np.linalg.norm(train[i].c2w[:3, 3] - frame.c2w[:3, 3]) for i in placed}
    return sorted(placed, key=lambda i: distance[i])[:PARTNERS]


def _with_held_out(
    placement: Placement, matcher: Matcher, held_out: tuple[Photo, ...], partners: list[list[int]]
) -> Placement:
    """The placement with held-out photos after its own, as far as these can be placed in it."""
    model, count = placement.model, len(placement.matches.photos)
    c2w, lenses, point_of = dict(model.c2w), dict(model.lenses), dict(model.point_of)
    for i, (photo, others) in enumerate(zip(held_out, partners, strict=True), start=count):
        features = matcher.extract(photo.pixels())
        xy, xyz = [], []
        for other in others:
            same = matcher.match(features, placement.matches.looks[other].features)
            points = model.point_of[other][same[:, 1]]
            xy.append(sensor_points(photo, features.xy[same[points >= 0, 0]], None))
            xyz.append(model.xyz[points[points >= 0]])
        pose = _absolute_pose(np.concatenate(xy), np.concatenate(xyz), placement, others[0])
        if pose is not None:
            c2w[i], lenses[i] = pose, model.lenses[others[0]]
            point_of[i] = np.full(len(features), -1)
    matches = replace(placement.matches, photos=(*placement.matches.photos, *held_out))
    return replace(placement, matches=matches, model=replace(model, c2w=c2w, lenses=lenses, point_of=point_of))


def _absolute_pose(xy: np.ndarray, xyz: np.ndarray, placement: Placement, like: int) -> np.ndarray | None:
    """[4, 4] camera-to-world from points of the sensor frame and of space, with the lens of a train photo."""
    if len(xy) < FEWEST_INLIERS:
        return None
    lens = placement.model.lenses[like]
    params = [lens.focal, SENSOR_WIDTH / 2, lens.height / 2, lens.k1]
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=SENSOR_WIDTH, height=round(lens.height), params=params)
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.random_seed = SEED
    options.ransac.max_error = 4.0
    found = pycolmap.estimate_and_refine_absolute_pose(xy, xyz, camera, options)
    if found is None or found["num_inliers"] < FEWEST_INLIERS:
        return None
    pose = np.eye(4)
    pose[:3] = found["cam_from_world"].inverse().matrix()
    return pose


def _splats(benchmark: Benchmark, given: Path, found: Path, scratch: Path) -> dict[str, float]:
    """PSNR of a splat with the capture's poses and of one with found poses, on the same held-out photos: means over
    seeds, and standard errors under the score's name with ``_se``."""
    from plugin_run import dense_cloud, run_plugin

    refined = {"pipeline.model.camera_optimizer.mode": "SO3xR3"}
    runs: dict[str, tuple[Path, dict[str, Any]]] = {
        "psnr_given_poses": (given, {}),
        "psnr_found_poses": (found, {}),
        **({"psnr_refined_poses": (found, refined)} if benchmark.pose_refinement else {}),
    }
    scores: dict[str, float] = {"seeds": benchmark.seeds}
    for run, (capture, more) in runs.items():
        options = {f"{DENSIFY}.cache_dir": scratch / f"cache_{capture.name}", f"{DENSIFY}.geometry": "plane-sweep"}
        cloud = dense_cloud(capture, METHOD, options)
        results = [
            run_plugin(capture, scratch / run, method=METHOD, seed=seed, options=options | more, cloud=cloud)
            for seed in range(benchmark.seeds)
        ]
        for score in ("psnr", "psnr_affine"):
            values = np.array([result.scores[score] for result in results])
            name = run.replace("psnr", score)
            scores[name] = float(values.mean())
            if len(values) > 1:
                scores[f"{name}_se"] = float(values.std(ddof=1) / np.sqrt(len(values)))
    return scores


def _with_test_photos(capture: Path, names: list[str], copy: Path) -> Path:
    """The capture with no other held-out photos than these."""
    shutil.copytree(capture, copy)
    description = read_json(copy / "transforms.json") or {}
    description |= {"val_filenames": names, "test_filenames": names}
    (copy / "transforms.json").write_text(json.dumps(description))
    return copy


def _table(results: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="Poses from photos alone")
    for column in ("", "placed", "% of span", "degrees", "focal length", "CPU s", "held out", "given dB", "found dB"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in results.items():
        digits = {"position_percent_of_span": 2, "degrees": 2, "focal_length_ratio": 3, "seconds": 0}
        figures = [f"{row[key]:.{places}f}" if key in row else "-" for key, places in digits.items()]
        held = f"{row['held_out_placed']} of {row['held_out']}" if "held_out" in row else "-"
        splats = [f"{row[key]:.2f}" if key in row else "-" for key in ("psnr_given_poses", "psnr_found_poses")]
        table.add_row(name, f"{row['placed']} of {row['photos']}", *figures, held, *splats)
    return table


if __name__ == "__main__":
    try:
        main(tyro.cli(Benchmark))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
