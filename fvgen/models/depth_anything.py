"""Depth that a network sees in one photo alone: Depth Anything, through transformers' own classes.

Such a network says what is nearer and what is farther, not how far: `fvgen.geometry.completion` fits it to measured
depth. Prompt Depth Anything is shown the measured depth, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.checks import InputError, complaint
from fvgen.types import Progress, no_progress

MODELS = Path("models")
"""Where ``fvgen download`` puts models that need no conversion."""


class DepthRelease(NamedTuple):
    """Released weights in transformers' format."""

    repository: str
    """Repository on the Hugging Face hub."""
    megabytes: int
    licence: str


RELEASES = {
    "depth-anything-v2-small": DepthRelease("depth-anything/Depth-Anything-V2-Small-hf", 99, "Apache-2.0"),
    "prompt-depth-anything-small": DepthRelease("depth-anything/prompt-depth-anything-vits-hf", 100, "Apache-2.0"),
}
"""Sizes whose licence allows any use; the larger ones are non-commercial."""
FIRST = "depth-anything-v2-small"
FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
"""What a folder must hold."""


def find_depth_model(folder: Path | None) -> Path:
    """The folder of a depth network, checked; by default that of `FIRST` in `MODELS`.

    Raises:
        InputError: it is not there; the text names the command that gets it, its size and its licence.
    """
    folder = MODELS / FIRST if folder is None else folder
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        release = RELEASES[FIRST]
        step = f"Get it with: fvgen download {FIRST} ({release.megabytes} MB, {release.licence}), or name its folder."
        rule = "be a folder of Depth Anything in transformers' format"
        raise InputError(complaint("--depth-model", rule, f"{folder} without {', '.join(missing)}", step))
    return folder.resolve()


@dataclass
class DepthAnything:
    """Depth Anything (Yang et al., "Depth Anything V2", NeurIPS 2024) or Prompt Depth Anything (Lin et al., 2025).

    Raises:
        InputError: the folder does not hold such a network.
    """

    folder: Path

    def __post_init__(self) -> None:
        from transformers import AutoConfig, AutoImageProcessor, AutoModelForDepthEstimation

        try:
            kind = AutoConfig.from_pretrained(self.folder).model_type
            self._processor: Any = AutoImageProcessor.from_pretrained(self.folder)
            self._network: Any = AutoModelForDepthEstimation.from_pretrained(self.folder, use_safetensors=True).eval()
        except (OSError, ValueError, KeyError) as error:
            reason, step = str(error).partition("\n")[0], "Download it again, or update transformers."
            raise InputError(
                complaint(str(self.folder), "be a network that transformers reads", reason, step)
            ) from error
        self._prompted = kind == "prompt_depth_anything"
        metric = getattr(self._network.config, "depth_estimation_type", "relative") == "metric"
        self._gives_depth = self._prompted or metric

    @torch.inference_mode()
    def inverse_depth(self, photos: Tensor, measured: Tensor, progress: Progress = no_progress) -> Tensor:
        """Inverse depth up to a scale and a shift of each photo, [V, H, W].

        Args:
            photos: [V, 3, H, W] in [0, 1].
            measured: [V, H, W] depth without gaps, which a prompted network is shown; a photo of zeros has none.
            progress: called with each photo.
        """
        network, found = self._network.to(photos.device), []
        for i, photo in enumerate(photos):
            progress(i, len(photos), "depth of single photos")
            pixels = (255 * photo).round().byte().permute(1, 2, 0).cpu().numpy()
            inputs = dict(self._processor(images=pixels, return_tensors="pt"))
            if self._prompted and bool((measured[i] > 0).all()):
                inputs["prompt_depth"] = measured[i][None, None].float()
            seen = network(**{name: value.to(photos.device) for name, value in inputs.items()}).predicted_depth
            seen = functional.interpolate(seen[:, None].float(), photo.shape[-2:], mode="bicubic", align_corners=False)
            found.append(seen[0, 0])
        progress(len(photos), len(photos), "depth of single photos")
        maps = torch.stack(found).to(photos)
        return 1 / maps.clamp_min(1e-6) if self._gives_depth else maps
