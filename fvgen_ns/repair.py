"""Repair: generated views are drawn once more from what the splat has become, and the better ones take their place.

At set steps of the training the generator is called again, with the splat's own depth in place of the geometry that it
started from. A network starts from the splat's renders, mixed with noise by their opacity, at its low levels of noise.
A view is replaced where the new one agrees better with the photos, each by its own depth. What is new lies in views
folders of the run, one for each step, which say what it replaces and why; a resumed run reads these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from nerfstudio.utils.rich_utils import CONSOLE

import fvgen
from fvgen.data.working_size import make_capture
from fvgen.devices import free_memory
from fvgen.files import read_json
from fvgen.generation.confidence import photo_agreement
from fvgen.generation.reprojection import PhotosBeside
from fvgen.generation.restart import Restart
from fvgen.generation.views_reading import load_views
from fvgen.geometry.points import empty_cloud
from fvgen.models.find import NEEDS_MODEL
from fvgen.types import CameraPath, Capture, GeneratedViews, SceneGeometry, no_progress
from fvgen_ns.capture_split import CaptureSplit
from fvgen_ns.densify import read_generated
from fvgen_ns.produce import generator_of, planned, store_view
from fvgen_ns.run_views import finished, writer_of
from fvgen_ns.splat.geometry import at_refined_poses, splat_geometry, splat_picture

if TYPE_CHECKING:
    from fvgen_ns.fvgen_datamanager import FVGenDataManager
    from fvgen_ns.fvgen_model import FVGenModel

FOLDER = "views_repaired"
"""Beside config.yml: a views folder for each step at which views were replaced."""
_FAINT = 0.05
"""Opacity below which a render has no colour worth starting from."""
_IF_FULL = "Free some space, then go on with --load-dir."


@dataclass(frozen=True)
class Replacement:
    """A view that takes an earlier one's place."""

    number: int
    """Number of the earlier one, among all generated views."""
    view: GeneratedViews
    """One frame."""
    at: CameraPath
    """Its place, one frame."""
    before: float
    """Agreement with the photos of the earlier one."""
    after: float
    """The same of the new one."""


class Repair:
    """The replaced views of one run."""

    def __init__(self, model: FVGenModel, manager: FVGenDataManager, run: Path) -> None:
        """
        Args:
            model: in training.
            manager: whose generated views are replaced.
            run: folder of the run.
        """
        self._model, self._manager = model, manager
        self.folder = run / FOLDER
        self._config = manager.config.densify

    def __call__(self, step: int) -> None:
        """Draw the views once more and replace those that get better, while no step runs.

        Raises:
            InputError: the folder cannot be written.
        """
        split = CaptureSplit.of(self._manager.train_dataparser_outputs)
        photos = split.frames[: self._model.num_photos]
        if len(split.frames) == len(photos):
            return  # the trials have left out all views
        earlier = self._earlier(split.frames[-1].photo.parents[1], step)
        capture = make_capture(photos, self._config.working_size).to(self._model.device)
        generator = generator_of(self._config)
        path, drawn = planned(capture.cameras, self._config, generator)
        capture = at_refined_poses(self._model, capture)
        geometry = splat_geometry(self._model, capture, nullcontext(), no_progress)
        again = {"restart": self._renders(path)} if self._config.generator in NEEDS_MODEL else {}
        views = generator.generate(capture, geometry, path, self._config.seed, **again)
        free_memory()
        count = self._write(split, geometry, step, self._better(capture, geometry, path, drawn, earlier, views))
        CONSOLE.log(f"Repair at step {step}: {count} of {len(drawn)} views replaced")

    def _better(
        self,
        capture: Capture,
        geometry: SceneGeometry,
        path: CameraPath,
        drawn: list[int],
        earlier: GeneratedViews,
        views: GeneratedViews,
    ) -> Iterator[Replacement]:
        """The views that agree better with the photos than the earlier ones, each by its own depth."""
        photos = PhotosBeside(capture, geometry, path.ends)
        for number, i in enumerate(drawn):
            before, after = (
                photo_agreement(view.rgb, photos.reprojected(view.depth, view.cameras, path.ends[i])[1])
                for view in (earlier[number], views[i])
            )
            if after > before:
                yield Replacement(number, views[i], path.part(torch.tensor([i])), before, after)

    def _write(
        self, split: CaptureSplit, geometry: SceneGeometry, step: int, replacements: Iterator[Replacement]
    ) -> int:
        """Store what is replaced, and train on it from now on; how many views these are."""
        about = {"version": fvgen.__version__, "generator": self._config.generator, "step": step}
        folder = self.folder / f"{step:06d}"
        writer = writer_of(folder, split.similarity, geometry, about, _IF_FULL)
        count = 0
        for one in replacements:
            more = {"replaces": one.number, "agreement": {"before": one.before, "after": one.after}}
            store_view(writer, count, one.view, self._config, one.at, 0, **more)
            count += 1
        writer.finish(count, empty_cloud())
        self._put(folder)
        return count

    def restore(self, step: int) -> int:
        """Replace again what the run's folder holds from before a step; how many views are others than at first."""
        return len({place for folder in repairs_before(self.folder, step) for place in self._put(folder)})

    def _earlier(self, first: Path, step: int) -> GeneratedViews:
        """The views that are trained on, as they were drawn: those of the folder ``first``, and replaced ones."""
        stored = load_views(first)
        views = stored[~stored.is_photo]
        for folder in repairs_before(self.folder, step):
            if places := _places(folder):
                newer = load_views(folder)
                for name in ("rgb", "depth", "pixel_confidence", "view_confidence", "covered"):
                    getattr(views, name)[places] = getattr(newer, name)
        return views.to(self._model.device)

    def _renders(self, path: CameraPath) -> Restart:
        """What the splat shows along the path; frames with a photo are not looked at."""
        rgb, opacity = [], []
        for i in range(len(path)):
            picture, alpha, _ = splat_picture(self._model, path.cameras[i])
            rgb.append((picture / alpha.clamp_min(_FAINT)).clamp(0, 1))
            opacity.append(alpha[None])
        return Restart(torch.stack(rgb), torch.stack(opacity))

    def _put(self, folder: Path) -> list[int]:
        """Train on the views of a folder in place of earlier ones; which ones these are."""
        places = _places(folder)
        if places:
            similarity = CaptureSplit.of(self._manager.train_dataparser_outputs).similarity
            batches, _ = self._manager.read_views(read_generated(folder, similarity))
            self._manager.replace_views(places, batches)
        return places


def repairs_before(views: Path, step: int) -> list[Path]:
    """The folders in ``views`` of repairs before a step."""
    return [folder for folder in finished(views) if int(folder.name) < step]


def _places(folder: Path) -> list[int]:
    """Which of the generated views the folder's frames replace."""
    frames = (read_json(folder / "transforms.json") or {"frames": []})["frames"]
    return [frame["fvgen"]["replaces"] for frame in frames]
