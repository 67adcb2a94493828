"""The cameras in the viewer: photos, generated views and held-out photos, each kind with a colour and a toggle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import viser
import viser.transforms as vtf
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO
from PIL import Image
from scipy.spatial.distance import cdist

if TYPE_CHECKING:
    from fvgen_ns.fvgen_datamanager import FVGenDataManager

THUMBNAIL = 192
"""Longest side of the picture in a camera, in pixels."""
_INSIDE = 3.0
"""A camera is hidden from whoever stands within so many of a photo camera's sizes: its picture would fill the view."""


class Kind(Enum):
    """What a camera stands for: its name in the panel, and its colour."""

    PHOTO = ("Photos (blue)", (66, 133, 244))
    GENERATED = ("Generated views (orange)", (245, 130, 32))
    HELD_OUT = ("Held-out photos (green)", (52, 168, 83))

    def __init__(self, label: str, colour: tuple[int, int, int]) -> None:
        self.label, self.colour = label, colour

    @property
    def node(self) -> str:
        """Scene node above all cameras of this kind."""
        return f"/cameras/{self.name.lower()}"


@dataclass(frozen=True)
class SceneCamera:
    """A camera of the dataset, drawn in the viewer."""

    kind: Kind
    index: int
    """In the training set, or among the held-out photos."""
    camera: Cameras
    """A batch of one."""
    batch: dict[str, Any]
    """Nerfstudio's: ``image`` [H, W, 3 or 4] and, where it has them, ``mask`` and ``confidence`` [H, W, 1]."""

    @property
    def node(self) -> str:
        """Its scene node."""
        return f"{self.kind.node}/{self.index:05d}"

    @property
    def c2w(self) -> np.ndarray:
        """[3, 4], OpenGL axes."""
        return self.camera.camera_to_worlds[0].cpu().numpy()

    @property
    def position(self) -> np.ndarray:
        """[3] in the viewer's units."""
        return self.c2w[:, 3] * VISER_NERFSTUDIO_SCALE_RATIO

    @property
    def rotation(self) -> vtf.SO3:
        """Camera-to-world, OpenCV axes, as the viewer has it."""
        return vtf.SO3.from_matrix(self.c2w[:, :3]) @ vtf.SO3.from_x_radians(np.pi)

    @property
    def vertical_fov(self) -> float:
        """In radians."""
        return float(2 * np.arctan(float(self.camera.height) / 2 / float(self.camera.fy)))


def scene_cameras(manager: FVGenDataManager) -> list[SceneCamera]:
    """All cameras of a run; held-out photos that are training photos, too, are not listed twice."""
    held_out, pictures = manager.eval_dataset, manager.cached_train
    cameras = manager.train_cameras  # to which views may have been added
    found = [
        SceneCamera(Kind.PHOTO if is_photo else Kind.GENERATED, i, cameras[i : i + 1], pictures[i])
        for i, is_photo in enumerate(manager.is_photo)
    ]
    trained = set(manager.train_dataset.image_filenames)
    return found + [
        SceneCamera(Kind.HELD_OUT, i, held_out.cameras[i : i + 1], manager.cached_eval[i])
        for i, path in enumerate(held_out.image_filenames)
        if path not in trained
    ]


class DrawnCameras:
    """The cameras of a viewer.

    Three scene nodes above one another decide together whether a camera is seen: that of its kind (the toggles), its
    own (hidden from whoever stands in it) and the frustum itself (Nerfstudio's "Hide Train Cams").
    """

    def __init__(self, server: viser.ViserServer, scale: float, on_click: Callable[[SceneCamera], None]) -> None:
        """
        Args:
            server: the viewer's.
            scale: size of a photo's camera, in distances from a photo to the next one.
            on_click: called with a camera that was clicked, after the user was moved into it.
        """
        self._server, self._scale, self._on_click = server, scale, on_click
        self._size = 1.0
        self._places: dict[str, tuple[viser.FrameHandle, np.ndarray]] = {}
        self.kinds = {kind: server.scene.add_frame(kind.node, show_axes=False) for kind in Kind}

    def draw(self, cameras: list[SceneCamera], chosen: list[int]) -> dict[int, viser.CameraFrustumHandle]:
        """Draw the ``chosen`` training cameras and all held-out ones; the training cameras' frustums by index."""
        photos = np.stack([one.position for one in cameras if one.kind is Kind.PHOTO])
        self._size = self._scale * (typical_gap(photos) or 1.0)
        frustums = {}
        for one in cameras:
            if one.kind is Kind.HELD_OUT or one.index in chosen:
                frustum = self.add(one)
                if one.kind is not Kind.HELD_OUT:
                    frustums[one.index] = frustum
        return frustums

    def add(self, one: SceneCamera) -> viser.CameraFrustumHandle:
        """Draw one camera."""
        name = one.node
        frame = self._server.scene.add_frame(name, show_axes=False)
        frustum = self._server.scene.add_camera_frustum(
            f"{name}/frustum",
            fov=one.vertical_fov,
            aspect=float(one.camera.width) / float(one.camera.height),
            scale=self._size * (0.5 if one.kind is Kind.GENERATED else 1.0),
            color=one.kind.colour,
            image=thumbnail(one.batch["image"], THUMBNAIL),
            jpeg_quality=90,
            wxyz=one.rotation.wxyz,
            position=one.position,
        )

        @frustum.on_click
        def _(event: viser.SceneNodePointerEvent[viser.CameraFrustumHandle]) -> None:
            stand_in(event.client, one, float(np.linalg.norm(event.client.camera.look_at - one.position)))
            self._on_click(one)

        self._places[name] = frame, one.position
        return frustum

    def remove(self, one: SceneCamera) -> None:
        """Take one camera away again."""
        frame, _ = self._places.pop(one.node)
        frame.remove()

    def hide_around(self, positions: list[np.ndarray]) -> None:
        """Hide the cameras near which a user stands, of users at these [3] ``positions``."""
        for frame, place in list(self._places.values()):
            frame.visible = all(np.linalg.norm(place - user) > _INSIDE * self._size for user in positions)


def typical_gap(positions: np.ndarray) -> float:
    """Median distance of places [V, 3] to their nearest neighbour; 0 for a single one."""
    if len(positions) < 2:
        return 0.0
    distances = cdist(positions, positions) + np.diag(np.full(len(positions), np.inf))
    return float(np.median(distances.min(axis=1)))


def stand_in(client: viser.ClientHandle, one: SceneCamera, distance: float) -> None:
    """Move a user's view into a camera, turning from then on about what lies ``distance`` ahead of it."""
    with client.atomic():
        client.camera.fov = one.vertical_fov
        client.camera.position = one.position
        client.camera.look_at = one.position + max(distance, 1e-3) * one.rotation.as_matrix()[:, 2]
        client.camera.wxyz = one.rotation.wxyz  # keeps the distance, and finds the upward direction


def thumbnail(image: torch.Tensor, longest: int) -> np.ndarray:
    """[h, w, 3] uint8 of a picture [H, W, 3 or 4] of bytes or of floats in [0, 1]."""
    pixels = image if image.dtype == torch.uint8 else (255 * image).round().to(torch.uint8)
    picture = Image.fromarray(pixels[..., :3].cpu().numpy())
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(picture)
