"""The scene in the page of ``fvgen app``: the cameras of a capture, and the splat as it grows."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import torch
import viser
from nerfstudio.utils.rich_utils import CONSOLE

from fvgen.checks import InputError
from fvgen.data.photos import read_photo
from fvgen.devices import default_device
from fvgen.rendering.splat_rasterizer import resolve
from fvgen.splats.gaussians import Gaussians
from fvgen.types import Cameras
from fvgen_ns.capture_split import CaptureSplit
from fvgen_ns.fvgen_dataparser import FVGenDataParserConfig
from fvgen_ns.fvgen_model import VIEWER_GREY
from fvgen_ns.splat.trained import read_trained_splat
from fvgen_ns.viewer.cameras import DrawnCameras, Kind, SceneCamera, stand_in
from fvgen_ns.viewer.generation import pose_of

_HEIGHT = 400
"""Height of a picture, in pixels."""
_FRUSTUM = 0.2
"""Size of a camera, in distances from one to the next."""
_DISTANCE = 10.0
"""What a user turns about at first lies so far ahead, in the viewer's units."""
_LOOK_SECONDS = 1.0


class SplatScene:
    """Draws for each user what they see from where they stand; a thread of its own does it."""

    def __init__(self, server: viser.ViserServer) -> None:
        self._server = server
        self._cameras: list[SceneCamera] = []
        self._drawn: DrawnCameras | None = None
        self._folder: Path | None = None
        self._checkpoint: Path | None = None
        self._splat: Gaussians | None = None
        self._moved: set[int] = set()
        self._wake = threading.Event()
        server.on_client_connect(self._start_client)
        threading.Thread(target=self._work, daemon=True).start()

    def show_cameras(self, capture: Path) -> None:
        """Draw the cameras of a capture, and put everybody into the first.

        Raises:
            InputError: it cannot be read.
        """
        parser = FVGenDataParserConfig(data=capture).setup()
        parser.decodes = False  # headers are enough
        splits = {Kind.PHOTO: CaptureSplit.read(parser, "train"), Kind.HELD_OUT: CaptureSplit.read(parser, "val")}
        trained = {frame.photo for frame in splits[Kind.PHOTO].frames}
        self._cameras = [
            SceneCamera(kind, i, split.outputs.cameras[i : i + 1], {"image": torch.from_numpy(pixels.copy())})
            for kind, split in splits.items()
            for i, frame in enumerate(split.frames)
            if kind is Kind.PHOTO or frame.photo not in trained
            for pixels in [read_photo(frame.photo, frame.size, exif_ignored=frame.exif_ignored)]
        ]
        if self._drawn is not None:
            for frame in self._drawn.kinds.values():
                frame.remove()
        self._drawn = DrawnCameras(self._server, _FRUSTUM, lambda _: None)
        self._drawn.draw(self._cameras, [one.index for one in self._cameras])
        for client in self._server.get_clients().values():
            self._stand_in_first(client)

    def follow(self, run: Path) -> None:
        """Show the splat of a run from its first checkpoint on, and each newer one."""
        self._folder, self._splat, self._checkpoint = run, None, None
        self._wake.set()

    def _start_client(self, client: viser.ClientHandle) -> None:
        self._stand_in_first(client)
        client.camera.on_update(lambda _: self._on_move(client))
        self._on_move(client)

    def _stand_in_first(self, client: viser.ClientHandle) -> None:
        if self._cameras:
            stand_in(client, self._cameras[0], _DISTANCE)

    def _on_move(self, client: viser.ClientHandle) -> None:
        self._moved.add(client.client_id)
        self._wake.set()

    def _work(self) -> None:
        while True:
            self._wake.wait(_LOOK_SECONDS)
            self._wake.clear()
            try:
                self._draw_all(is_new=self._read_newest())
            except Exception:
                CONSOLE.print_exception()

    def _read_newest(self) -> bool:
        """Take over the newest checkpoint; whether there is another one than before."""
        run = self._folder
        found = [] if run is None else sorted((run / "nerfstudio_models").glob("step-*.ckpt"))
        if run is None or not found or found[-1] == self._checkpoint:
            return False
        try:
            read = read_trained_splat(run).gaussians
        except InputError:  # replaced by a newer one meanwhile
            return False
        self._splat = read[read.finite()].to(default_device())
        self._checkpoint = found[-1]
        return True

    def _draw_all(self, *, is_new: bool) -> None:
        clients, splat = self._server.get_clients(), self._splat
        if self._drawn is not None:
            self._drawn.hide_around([np.array(client.camera.position) for client in clients.values()])
        if splat is None:
            return
        for number, client in clients.items():
            if is_new or number in self._moved:
                self._moved.discard(number)
                client.scene.set_background_image(picture_of(splat, client.camera), format="jpeg", jpeg_quality=85)


def picture_of(splat: Gaussians, camera: viser.CameraHandle) -> np.ndarray:
    """[H, W, 3] uint8 what a user sees."""
    height, width = _HEIGHT, max(round(_HEIGHT * camera.aspect), 1)
    focal = height / 2 / np.tan(camera.fov / 2)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float32)
    pose = pose_of(camera.wxyz, camera.position)
    device = splat.means.device
    view = Cameras(pose[None], K[None], height, width).to(device)
    with torch.no_grad():
        drawn = resolve("auto", device).rasterize(
            splat.means,
            splat.quats,
            splat.scales.exp(),
            splat.opacities.sigmoid(),
            splat.sh,
            view,
            splat.degree,
            torch.tensor(VIEWER_GREY, device=device),
        )
    return (255 * drawn.rgb[0].clamp(0, 1)).round().to(torch.uint8).cpu().numpy()
