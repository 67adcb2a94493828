"""Photos and generated views as one Nerfstudio dataset, photos first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image
from torch import Tensor

from fvgen.data.decoded_frame import decode_frame
from fvgen.generation.view_weights import ViewWeights
from fvgen_ns.capture_split import CaptureSplit
from fvgen_ns.training_photo import TrainingCamera, TrainingPhoto


class FVGenDataset(InputDataset):
    """`InputDataset` that reads any photo as its intrinsics mean it, at the size of training, without its lens's
    distortion, and gives generated views a weight map.

    The outputs' metadata holds, one entry per image: ``is_photo`` (bool) and ``confidence_filenames`` (for a generated
    view the paths of its confidence map and of its coverage mask, greyscale PNGs; None counts it as a photo).
    """

    exclude_batch_keys_from_device = ["image", "mask", "weight", "confidence"]  # noqa: RUF012 (Nerfstudio's attribute)

    def __init__(
        self,
        split: CaptureSplit,
        image_size: int,
        weights: ViewWeights,
        loaded: Mapping[int, TrainingPhoto] | None = None,
    ) -> None:
        """
        Args:
            split: photos, with or without generated views after them.
            image_size: longest image side in pixels; larger images are shrunk, smaller ones left as they are.
            weights: of generated views.
            loaded: photos by their index that were read before; the others are read when they are asked for.
        """
        outputs = split.outputs
        files, count = outputs.image_filenames, len(outputs.image_filenames)
        self.is_photo: list[bool] = outputs.metadata.get("is_photo", [True] * count)
        # Transparency stays: the model puts its own background behind it. A colour put there now would be learnt.
        super().__init__(replace(outputs, alpha_color=None, image_filenames=names_of_renders(files, self.is_photo)))
        self._files = files
        self._frames = split.frames
        self._confidences: list[tuple[Path, Path] | None] = outputs.metadata.get("confidence_filenames", [None] * count)
        self._view_weights = weights
        self._loaded = dict(loaded or {})
        self._cameras = [TrainingCamera.of(frame, image_size) for frame in split.frames]
        self._image_size = image_size
        self._set_cameras()

    def _set_cameras(self) -> None:
        """Nerfstudio's cameras follow the pictures that are trained on."""
        if not self._cameras:
            return
        K = torch.from_numpy(np.stack([camera.K for camera in self._cameras])).float()
        size = torch.tensor([camera.crop[2:] for camera in self._cameras])
        self.cameras.fx, self.cameras.fy = K[:, 0, 0, None], K[:, 1, 1, None]
        self.cameras.cx, self.cameras.cy = K[:, 0, 2, None], K[:, 1, 2, None]
        self.cameras.width, self.cameras.height = size[:, :1], size[:, 1:]
        self.cameras.distortion_params = None

    @property
    def image_filenames(self) -> list[Path]:
        """The images' files, in the order of the cameras."""
        return self._files

    def get_numpy_image(self, image_idx: int) -> np.ndarray:
        """[H, W, 3 or 4] uint8 of the size of the image's camera."""
        return self._load(image_idx).image

    def get_data(self, image_idx: int, image_type: str = "float32") -> dict[str, Any]:
        data: dict[str, Any] = {"image_idx": image_idx, "is_photo": self.is_photo[image_idx]}
        data["image"] = self.get_image_uint8(image_idx) if image_type == "uint8" else self.get_image_float32(image_idx)
        files = self._confidences[image_idx]
        if files is None and (mask := self._load(image_idx).mask) is not None:
            data["mask"] = torch.from_numpy(mask)[..., None]
        if files is not None:
            confidence, covered = (self._read_grey(path, image_idx) for path in files)
            data |= {"confidence": confidence, "weight": self._view_weights.of(covered > 0.5, confidence)}
        return data

    def _load(self, index: int) -> TrainingPhoto:
        """A photo is decoded once and kept; a generated view, of which there are many, is read again."""
        if index in self._loaded:
            return self._loaded[index]
        frame = replace(self._frames[index], depth=None)
        loaded = TrainingPhoto.of(decode_frame(frame, depth_unit=1.0, at_least=2 * self._image_size), self._image_size)
        if self.is_photo[index]:
            self._loaded[index] = loaded
        return loaded

    def _read_grey(self, path: Path, index: int) -> Tensor:
        """[H, W, 1] in [0, 1]"""
        with Image.open(path) as file:
            grey = np.asarray(file.convert("L"))
        return torch.from_numpy(self._cameras[index].picture(grey)).float()[..., None] / 255


def names_of_renders(files: list[Path], is_photo: list[bool]) -> list[Path]:
    """What ns-render calls its pictures by: generated views, which lie in a cache, in a folder beside the photos."""
    photos = [path.parent for path, photo in zip(files, is_photo, strict=True) if photo]
    if not photos:
        return files
    beside = Path(os.path.commonpath(photos)) / "generated"
    return [path if photo else beside / path.name for path, photo in zip(files, is_photo, strict=True)]
