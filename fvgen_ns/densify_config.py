"""What is added to a capture's photos before the splat trains: the options of geometry and generation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fvgen.generation.model_folder import NEEDS_MODEL, find_model


@dataclass
class DensifyConfig:
    """What is added to the photos before the splat trains."""

    geometry: Literal["auto", "capture-depth", "plane-sweep", "dust3r", "none"] = "auto"
    """Where dense points come from: the capture's measured depth, plane sweep stereo, an installed DUSt3R, or nowhere;
    auto takes measured depth when there is some, else plane sweep."""
    generator: Literal["none", "points", "warp", "student", "teacher"] = "warp"
    """What makes views between the photos: nothing, the rendered points, the points with holes filled from the photos,
    or a video diffusion model, distilled (student, 4 steps) or not (teacher, 50 steps)."""
    model: Path | None = None
    """Pipeline folder of the student or teacher, or tiny for the bundled ones; by default the student is tiny, and the
    teacher models/viewcrafter-512."""
    low_memory: bool = False
    """Let a student or teacher take less GPU memory and more time."""
    confidence_seeds: int = 0
    """Further samples of every view by a student or teacher; where they disagree, the view is trusted less."""
    path: Literal["between", "viewcrafter", "orbit", "spiral"] = "between"
    """Where the generated views stand: smoothly between the photos, as the ViewCrafter reference places them, or around
    what the photos look at."""
    frames_per_clip: int | None = None
    """Frames from one photo to the next, both counted; by default as many as the baseline asks for."""
    working_size: int = 480
    """Longest side of the photos that geometry works on, and of the generated views, in pixels."""
    seed_holes: Literal["auto", "always", "never"] = "auto"
    """Whether Gaussians also start where the points are missing, at the generated views' depth; auto leaves out
    photos to find out whether that helps."""
    seed: int = 0
    """Seed of everything random in generation."""
    cache_dir: Path | None = None
    """Where finished views are kept; by default fvgen in the user's cache folder."""
    views: Path | None = None
    """Folder of a Nerfstudio dataset in the capture's frame whose images are taken as the generated views."""

    def generates(self) -> bool:
        """Whether the generator is called at all."""
        return self.geometry != "none" and self.generator != "none" and self.views is None

    def find_weights(self) -> None:
        """Make ``model`` the full path of the chosen generator's weights; nothing for one that needs none.

        Raises:
            InputError: they are not on this machine (the text names the command that gets them), or not usable.
        """
        if self.generates() and self.generator in NEEDS_MODEL:
            self.model = find_model(self.generator, self.model).resolve()
