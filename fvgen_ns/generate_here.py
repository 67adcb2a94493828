"""Views from a photo to a place that the user chose, added to a splat in training.

They are drawn with the splat's own depth, tried on photos left out (`fvgen.generation.trials`), and kept in views
folders of the run (`fvgen.generation.views_folder`), which say where each comes from. What trains on them reads these
folders: now, and when the run is resumed.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import fvgen
from fvgen.data.working_size import make_capture
from fvgen.devices import free_memory
from fvgen.generation.trials import Addition, Trials, run_trials
from fvgen.geometry.photo_order import view_change
from fvgen.geometry.points import empty_cloud, voxel_thin
from fvgen.geometry.trajectory import path_between
from fvgen.types import CameraPath, Cameras, Capture, GeneratedViews, Progress, SceneGeometry
from fvgen_ns.capture_split import CaptureSplit
from fvgen_ns.densify import GeneratedFrames, read_generated
from fvgen_ns.parts import TRIAL_FRAMES
from fvgen_ns.produce import generator_of, store_view
from fvgen_ns.run_views import finished, writer_of
from fvgen_ns.splat.geometry import at_refined_poses, splat_geometry

if TYPE_CHECKING:
    from fvgen_ns.fvgen_datamanager import FVGenDataManager
    from fvgen_ns.fvgen_model import FVGenModel

FOLDER = "views_here"
"""Beside config.yml: a views folder for each path that the user asked for, numbered in that order."""
WITH, WITHOUT = "with the views", "without"
"""What is tried."""
_IF_FULL = "Free some space."


class Cancelled(Exception):
    """The user no longer wants the views."""


@dataclass(frozen=True)
class Added:
    """What became of a path."""

    count: int
    """Views that are trained on from now on: all that were drawn, or none."""
    photo: str
    """Name of the photo that the path starts from."""
    trials: Trials
    """Trials of `WITH` and `WITHOUT`; empty where there are too few photos to leave one out."""


class ViewsHere:
    """The views that the user asks for in one run."""

    def __init__(self, model: FVGenModel, manager: FVGenDataManager, lock: AbstractContextManager, run: Path) -> None:
        """
        Args:
            model: in training.
            manager: whose training set grows.
            lock: held by the training in each step.
            run: folder of the run.
        """
        self._model, self._manager, self._lock = model, manager, lock
        self.folder = run / FOLDER
        config = manager.config.densify
        self._config = replace(config, generator="warp" if config.generator == "none" else config.generator)

    def generate(self, poses: Tensor, step: int, progress: Progress) -> Added:
        """Draw views from the nearest photo through some poses, and train on them unless trials speak against it.

        Args:
            poses: [P, 4, 4] camera-to-world, OpenCV axes, in the dataparser's frame.
            step: of the training.
            progress: may raise `Cancelled`; then nothing is added.

        Raises:
            InputError: the generator's weights are missing, or the folder cannot be written.
        """
        self._config.find_weights()
        split = CaptureSplit.of(self._manager.train_dataparser_outputs)
        frames = split.frames[: self._model.num_photos]
        capture = make_capture(frames, self._config.working_size, progress=progress).to(self._model.device)
        capture = at_refined_poses(self._model, capture)
        geometry = splat_geometry(self._model, capture, self._lock, progress)
        generator = generator_of(self._config)
        fixed = getattr(generator, "fixed_frames", None)
        trials = self._try(capture, geometry, generator, poses, progress)
        path = path_through(capture.cameras, poses, fixed=fixed)
        photo = frames[int(path.photo[0])].name
        if trials.errors and trials.winner() == WITHOUT:
            return Added(0, photo, trials)
        views = generator.generate(capture, geometry, path, self._config.seed, progress)
        free_memory()
        progress(1, 1, "adding views")
        about = {
            "version": fvgen.__version__,
            "generator": self._config.generator,
            "seed": self._config.seed,
            "asked_for": poses.tolist(),
            "step": step,
            "trials": dict(trials.errors),
        }
        folder = self._write(split, geometry, path, views, about)
        return Added(self._add(folder), photo, trials)

    def undo(self) -> int:
        """Take the views of the last path away again; how many these were."""
        folders = finished(self.folder)
        if not folders:
            return 0
        count = len(self._read(folders[-1]).frames)
        with self._lock:
            self._manager.drop_views(count)
        last = folders[-1]
        (last / "transforms.json").unlink()  # a kill from here on leaves an unfinished folder, which nobody reads
        shutil.rmtree(last)
        return count

    def restore(self) -> int:
        """Train on the views that the run's folder holds; how many these are."""
        return sum(self._add(folder) for folder in finished(self.folder))

    def _try(
        self, capture: Capture, geometry: SceneGeometry, generator: Any, poses: Tensor, progress: Progress
    ) -> Trials:
        """Whether photos left out are drawn better with such views, made from the others alone, than without."""
        scale = self._model.scene_scale

        def make(part: Capture, known: SceneGeometry) -> dict[str, Addition]:
            pixel = scale / float(part.cameras.K[:, 0, 0].mean())
            points = voxel_thin(known.points, pixel)
            fixed = getattr(generator, "fixed_frames", None)
            path = path_through(part.cameras, poses, TRIAL_FRAMES, fixed=fixed)
            views = generator.generate(part, known, path, self._config.seed)
            return {WITH: Addition(points, views=views), WITHOUT: Addition(points)}

        return run_trials(capture, geometry, make, scene_scale=scale, seed=self._config.seed, progress=progress)

    def _write(
        self,
        split: CaptureSplit,
        geometry: SceneGeometry,
        path: CameraPath,
        views: GeneratedViews,
        about: dict[str, Any],
    ) -> Path:
        """Store the drawn frames with their provenance, in a new views folder."""
        folders = finished(self.folder)
        number = int(folders[-1].name) + 1 if folders else 0
        folder = self.folder / f"{number:03d}"
        writer = writer_of(folder, split.similarity, geometry, about, _IF_FULL)
        drawn = (~views.is_photo).nonzero()[:, 0].tolist()
        for place, i in enumerate(drawn):
            store_view(writer, place, views[i], self._config, path, i)
        writer.finish(len(drawn), empty_cloud())
        return folder

    def _read(self, folder: Path) -> GeneratedFrames:
        return read_generated(folder, CaptureSplit.of(self._manager.train_dataparser_outputs).similarity)

    def _add(self, folder: Path) -> int:
        """Train on the views of a folder; how many these are."""
        found = self._read(folder)
        batches, cameras = self._manager.read_views(found)
        with self._lock:
            self._manager.add_views(batches, cameras)
        return len(batches)


def path_through(
    photos: Cameras, poses: Tensor, frames_per_hop: int | None = None, *, fixed: int | None = None
) -> CameraPath:
    """A smooth path from the photo nearest to the first pose, which stands at the first frame, through all poses.

    Args:
        photos: V cameras, whose first one's intrinsics the poses get.
        poses: [P, 4, 4] camera-to-world, OpenCV axes.
        frames_per_hop: frames from a pose to the next, both counted; by default as many as the change of view asks for.
        fixed: frames of the whole path for a network that draws no other number, and wants a photo at both ends: the
            path goes on to the other photo that is nearest to the last pose.
    """
    poses = poses.to(photos.c2w)
    targets = Cameras(poses, photos.K[:1].expand(len(poses), 3, 3), photos.height, photos.width)
    change = view_change(photos, targets).cpu()
    first = int(change[:, 0].argmin())
    from_others = change[:, -1].clone()
    from_others[first] = torch.inf
    second = int(from_others.argmin())
    photos_at_ends = [first] if fixed is None else [first, second]
    ends = photos[photos_at_ends]
    stops = Cameras(
        torch.cat([ends.c2w[:1], poses, ends.c2w[1:]]),
        torch.cat([ends.K[:1], targets.K, ends.K[1:]]),
        photos.height,
        photos.width,
    )
    path = path_between(stops, list(range(len(stops))), closed=False, frames_per_clip=frames_per_hop)
    count = len(path) if fixed is None else fixed
    cameras = path.cameras[torch.linspace(0, len(path) - 1, count).round().long()]
    photo = torch.full((count,), -1)
    photo[0] = first
    if fixed is not None:
        photo[-1] = second
    return CameraPath(cameras, torch.tensor([[first, second]]).expand(count, 2), torch.linspace(0, 1, count), photo)
