"""Photos and generated views as one Nerfstudio dataset, photos first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image
from torch import Tensor

from fvgen.data.photos import read_photo


@dataclass(frozen=True)
class ViewWeights:
    """How much a generated view counts in the loss; a photo's pixel counts 1."""

    covered: float
    """Weight of pixels where the point cloud was seen."""
    holes: float
    """Weight of pixels that the generator made up, times their confidence."""
    least: float = 0.01
    """No pixel counts less: where nothing is supervised at all, fog grows."""


class FVGenDataset(InputDataset):
    """`InputDataset` that reads any photo as its intrinsics mean it, shrinks each to ``image_size``, and gives
    generated views a weight map.

    The outputs' metadata holds, one entry per image: ``is_photo`` (bool) and ``trust_filenames`` (for a generated view
    the paths of its confidence map and of its coverage mask, greyscale PNGs; None counts it as a photo).
    """

    exclude_batch_keys_from_device = ["image", "mask", "weight", "confidence"]  # noqa: RUF012 (Nerfstudio's attribute)

    def __init__(self, dataparser_outputs: DataparserOutputs, image_size: int, weights: ViewWeights) -> None:
        """
        Args:
            dataparser_outputs: what to read.
            image_size: longest image side in pixels; larger images are shrunk, smaller ones left as they are.
            weights: of generated views.
        """
        # Transparency stays: the model puts its own background behind it. A colour put there now would be learnt.
        super().__init__(replace(dataparser_outputs, alpha_color=None))
        count = len(dataparser_outputs.image_filenames)
        self.is_photo: list[bool] = self.metadata.setdefault("is_photo", [True] * count)
        self._trust: list[tuple[Path, Path] | None] = self.metadata.setdefault("trust_filenames", [None] * count)
        self._view_weights = weights
        self._full_size = _sizes(self.cameras)
        longest = torch.maximum(self.cameras.width, self.cameras.height).float()
        self.cameras.rescale_output_resolution((image_size / longest).clamp(max=1))

    def _size(self, index: int) -> tuple[int, int]:
        return int(self.cameras.width[index]), int(self.cameras.height[index])

    def get_numpy_image(self, image_idx: int) -> np.ndarray:
        """[H, W, 3 or 4] uint8 at the size of the image's camera."""
        photo = read_photo(self.image_filenames[image_idx], self._full_size[image_idx])
        return _shrink(photo, self._size(image_idx))

    def get_data(self, image_idx: int, image_type: str = "float32") -> dict[str, Any]:
        data: dict[str, Any] = {"image_idx": image_idx, "is_photo": self.is_photo[image_idx]}
        data["image"] = self.get_image_uint8(image_idx) if image_type == "uint8" else self.get_image_float32(image_idx)
        masks = self._dataparser_outputs.mask_filenames
        if masks is not None and self.is_photo[image_idx] and masks[image_idx] is not None:
            data["mask"] = self._read_grey(masks[image_idx], image_idx) > 0.5
        trust = self._trust[image_idx]
        if trust is not None:
            confidence, covered = (self._read_grey(path, image_idx) for path in trust)
            weight = torch.where(
                covered > 0.5, self._view_weights.covered, self._view_weights.holes * confidence
            ).clamp_min(self._view_weights.least)
            data |= {"confidence": confidence, "weight": weight}
        return data

    def _read_grey(self, path: Path, index: int) -> Tensor:
        """[H, W, 1] in [0, 1]"""
        with Image.open(path) as file:
            grey = np.asarray(file.convert("L"))
        return torch.from_numpy(_shrink(grey, self._size(index))).float()[..., None] / 255


def _sizes(cameras: Cameras) -> list[tuple[int, int]]:
    """(width, height) of each camera."""
    return list(zip(cameras.width.flatten().tolist(), cameras.height.flatten().tolist(), strict=True))


def _shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """At (width, height); an array of its own, because torch warns of Pillow's, which cannot be written."""
    if (image.shape[1], image.shape[0]) == size:
        return image.copy()
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX))
