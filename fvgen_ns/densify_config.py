"""The options of what is added to a capture's photos."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fvgen.checks import require
from fvgen.models.depth_anything import find_depth_model
from fvgen.models.find import NEEDS_MODEL, find_model
from fvgen_ns.capture_split import CaptureSplit
from fvgen_ns.short_forms import short_forms


@dataclass
@short_forms("seed")
class DensifyConfig:
    """What is added to the photos before the splat trains."""

    geometry: Literal["auto", "capture-depth", "plane-sweep", "dust3r", "none"] = "auto"
    """Where dense points come from: the capture's measured depth, plane sweep stereo, an installed DUSt3R, or nowhere.
    The choice auto takes measured depth when there is some, else plane sweep stereo."""
    geometry_completion: Literal["none", "depth-anything"] = "none"
    """What gives depth where one photo alone sees: nothing, or a depth network, fitted to the measured depth."""
    depth_model: Path | None = None
    """Folder of Depth Anything or Prompt Depth Anything in transformers' format. By default
    models/depth-anything-v2-small, which fvgen download fetches."""
    generator: Literal["none", "points", "warp", "student", "teacher"] = "warp"
    """What makes views between the photos: nothing, the rendered points, the points with holes filled from the photos,
    or a video diffusion model, distilled (student, 4 steps) or not (teacher, 50 steps)."""
    model: Path | None = None
    """Pipeline folder of the student or teacher, or tiny for a bundled one. By default the student is tiny, and the
    teacher models/viewcrafter-512."""
    low_memory: bool = False
    """Let a student or teacher take less GPU memory and more time."""
    tiny_codec: Path | None = None
    """Folder of a TAESD (AutoencoderTiny of diffusers), which encodes and decodes faster and more softly than a
    student's or teacher's own autoencoder. What that costs is measured on the photos, and printed."""
    confidence_seeds: int = 0
    """Further samples of every view by a student or teacher. Where they disagree, the view counts less."""
    sampling_steps: int | None = None
    """Sampling steps of a student or teacher. By default 4 for a student and 50 for a teacher; 1 or 2 suit a student
    that was trained so."""
    path: Literal["between", "viewcrafter", "orbit", "spiral"] = "between"
    """Where the generated views stand: smoothly between the photos, as the ViewCrafter reference places them, or around
    what the photos look at."""
    frames_per_clip: int | None = None
    """Frames from one photo to the next, both counted. By default the more, the further apart the photos stand. A
    model with image tokens draws as many as it was trained on, and the nearest of them are kept."""
    working_size: int = 480
    """Longest side of the photos that geometry works on, and of the generated views, in pixels."""
    seed_holes: Literal["auto", "always", "never"] = "auto"
    """Whether Gaussians also start where the points are missing, at the generated views' depth. The choice auto leaves
    that to the trials, and without these it means never."""
    background: bool = True
    """Whether faint Gaussians also start where the photos show what has no dense points: sky, table, lawn."""
    trials: bool = True
    """Whether quick fits on photos left out decide what is added to the photos; they take half a minute. All that is
    asked for stays unless less of it, or seeds in holes, is clearly better. Without trials it is added untried."""
    repair_steps: tuple[int, ...] = ()
    """Training steps before which all generated views are drawn once more, with the splat's own depth and renders, and
    replaced where that agrees better with the photos. None by default."""
    seed: int = 0
    """Seed of everything random in generation."""
    cache_dir: Path | None = None
    """Folder where finished views are kept. By default fvgen in the user's cache folder."""
    views: Path | None = None
    """Folder of a Nerfstudio dataset in the capture's frame whose images are taken as the generated views."""

    def generates(self) -> bool:
        """Whether the generator is called at all."""
        return self.geometry != "none" and self.generator != "none" and self.views is None

    def completes(self) -> bool:
        """Whether a depth network is called."""
        return self.geometry != "none" and self.geometry_completion != "none" and self.views is None

    def effective(self) -> DensifyConfig:
        """The settings that decide what is made: without a generator where it is not called."""
        return self if self.generates() else replace(self, generator="none")

    def find_weights(self) -> None:
        """Make ``model`` and ``depth_model`` the full paths of weights that are needed.

        Raises:
            InputError: they are not on this machine (the text names the command that gets them), or not usable.
        """
        if self.generates() and self.generator in NEEDS_MODEL:
            self.model = find_model(self.generator, self.model).resolve()
        if self.completes():
            self.depth_model = find_depth_model(self.depth_model)

    def check(self) -> None:
        """Refuse settings that could only fail after the geometry is made.

        Raises:
            InputError: a number out of its range, a path that the generator cannot draw, or missing weights.
        """
        clip, seeds = self.frames_per_clip, self.confidence_seeds
        both = "be at least 2, both photos counted"
        require(clip is None or clip >= 2, "--frames-per-clip", both, clip, "Ask for more.")
        require(self.working_size >= 16, "--working-size", "be at least 16 pixels", self.working_size, "Ask for more.")
        require(seeds >= 0, "--confidence-seeds", "not be negative", seeds, "Ask for 0.")
        steps = self.sampling_steps
        require(steps is None or steps >= 1, "--sampling-steps", "be at least 1", steps, "Ask for 1, or leave it out.")
        repairs, after = self.repair_steps, "come after the first step, and have a generator"
        can = not repairs or (min(repairs) >= 1 and self.generates())
        require(can, "--repair-steps", after, f"{repairs} with --generator {self.generator}", "Leave it out.")
        network = self.generates() and self.generator in NEEDS_MODEL
        require(
            not network or self.path not in ("orbit", "spiral"),
            "--path",
            f"be between or viewcrafter for the generator {self.generator}, which fills in between two photos",
            f"{self.path}, whose clips hold none",
            "Choose one of them, or the generator warp.",
        )
        tiny = self.tiny_codec
        require(
            tiny is None or (network and tiny.is_dir()),
            "--tiny-codec",
            "be the folder of a TAESD, for a student or teacher",
            f"{tiny} with --generator {self.generator}",
            "Leave it out.",
        )
        self.find_weights()

    def check_depth(self, training: CaptureSplit) -> None:
        """Refuse to take measured depth where there is none.

        Raises:
            InputError: so it is.
        """
        require(
            self.geometry != "capture-depth" or any(frame.depth for frame in training.frames),
            "--geometry capture-depth",
            "have depth in the capture",
            "no depth_file_path in any frame",
            "Choose plane-sweep or auto.",
        )
