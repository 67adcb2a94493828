"""What fvgen adds to the viewer: cameras by kind, a start in the scene, support, comparisons and the run's state."""

from __future__ import annotations

import contextlib
import mimetypes
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import viser
from nerfstudio.utils.rich_utils import CONSOLE
from nerfstudio.viewer.viewer import Viewer
from nerfstudio.viewer.viewer_elements import ViewerControl

from fvgen_ns.splat.comparison import DIFFERENCE_GAIN, Comparison, evaluating
from fvgen_ns.viewer.cameras import DrawnCameras, Kind, SceneCamera, scene_cameras, stand_in
from fvgen_ns.viewer.page_text import markdown_picture
from fvgen_ns.viewer.run_state import RunState
from fvgen_ns.viewer.support import ViewerSupport

if TYPE_CHECKING:
    from fvgen_ns.fvgen_datamanager import FVGenDataManager
    from fvgen_ns.fvgen_model import FVGenModel
    from fvgen_ns.fvgen_pipeline import FVGenPipeline

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
"""MIME types of the files that the viewer's page is made of."""
_LEGEND = """Output **support** of a surface: `#1A61D9` seen by 3 or more photos, `#4D94F5` by 2, `#8CBFFA` by 1,
`#F58221` by generated views alone, `#808080` by nothing."""
_REFRESH_SECONDS = 2.0


class FVGenControl(ViewerControl):
    """The panel "FVGen" and all that belongs to it.

    Nerfstudio finds it as an attribute of the pipeline. Callbacks of the page only put work into a queue; one thread
    does it, and takes Nerfstudio's lock for one picture at a time, so neither page nor training waits.
    """

    def __init__(self, pipeline: FVGenPipeline) -> None:
        self._pipeline = pipeline
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue()
        self._cameras: list[SceneCamera] = []
        self._added: dict[int, viser.CameraFrustumHandle] = {}
        """Frustums of views that were added since the scene was drawn."""

    @property
    def _model(self) -> FVGenModel:
        return cast("FVGenModel", self._pipeline.model)

    @property
    def _manager(self) -> FVGenDataManager:
        return cast("FVGenDataManager", self._pipeline.datamanager)

    def _setup(self, viewer: Viewer) -> None:
        """Called by Nerfstudio's viewer when it is complete but for the cameras in its scene."""
        super()._setup(viewer)
        with evaluating(self._model):  # loads compiled code, which no two threads may do, nor one that is interrupted
            self._model.get_outputs(self._manager.train_dataset.cameras[:1].to(self._model.device))
        self._lock = viewer.train_lock or contextlib.nullcontext()
        self.support = self._model.viewer_support = ViewerSupport(self._model, self._is_shown)
        scale = viewer.config.camera_frustum_scale
        self._drawn = DrawnCameras(viewer.viser_server, scale, lambda one: self._jobs.put(lambda: self._compare(one)))
        self._state = RunState(self._model, self._manager, self._lock)
        self._add_panel(viewer)
        # Nerfstudio would draw all cameras alike, pixelated, and has no hook there.
        viewer.init_scene = self._init_scene  # type: ignore[method-assign]
        for button in (viewer.hide_images, viewer.show_images):
            button.on_click(lambda _: self._show_added())
        viewer.viser_server.on_client_connect(self._start_client)
        threading.Thread(target=self._work, daemon=True).start()

    def _add_panel(self, viewer: Viewer) -> None:
        gui = viewer.viser_server.gui
        with gui.add_folder("FVGen", order=viewer.stats_markdown.order + 0.5):
            self._state_text = gui.add_markdown("")
            for kind in Kind:
                self._add_toggle(kind)
            real_only = gui.add_checkbox("Real photos only", False, hint="Show only what a real photo has seen")
            gui.add_markdown(_LEGEND)
            with gui.add_folder("Compare"):
                self._compared_text = gui.add_markdown("Click a camera to compare its photo with the splat.")
                self._compared_picture = gui.add_markdown("", image_root=Path.cwd())
                enlarge = gui.add_button("Enlarge", visible=False)
                self._enlarge = enlarge
            from fvgen_ns.generate_here import ViewsHere  # they load numba and SciPy, which no ns-* command waits for
            from fvgen_ns.viewer.generation import GenerationPanel

            trainer = viewer.trainer
            run = None if trainer is None else ViewsHere(self._model, self._manager, self._lock, trainer.base_dir)
            self._generation = GenerationPanel(
                viewer.viser_server, run, lambda: self._step, lambda: self._jobs.put(self._draw_changed)
            )

        @real_only.on_update
        def _(_: Any) -> None:
            self.support.real_only = real_only.value
            viewer._trigger_rerender()

        @enlarge.on_click
        def _(_: Any) -> None:
            with gui.add_modal("Photo, splat and their difference") as modal:
                gui.add_markdown(self._compared_picture.content, image_root=Path.cwd())
                gui.add_button("Close").on_click(lambda _: modal.close())

    def _add_toggle(self, kind: Kind) -> None:
        box = self.viewer.viser_server.gui.add_checkbox(kind.label, True, hint="Show these cameras")

        @box.on_update
        def _(_: Any) -> None:
            self._drawn.kinds[kind].visible = box.value

    def _init_scene(
        self, train_dataset: Any, train_state: Literal["training", "paused", "completed"], eval_dataset: Any = None
    ) -> None:
        """In place of Nerfstudio's `Viewer.init_scene`, whose fields it fills."""
        viewer = self.viewer
        self._cameras = scene_cameras(self._manager)
        chosen = viewer._pick_drawn_image_idxs(len(self._manager.is_photo))
        viewer.camera_handles = self._drawn.draw(self._cameras, chosen)
        viewer.original_c2w = {one.index: one.c2w for one in self._cameras if one.index in viewer.camera_handles}
        viewer.train_state, viewer.train_util = train_state, 0.9
        self._state.start()
        self._hide_around()

    def _draw_changed(self) -> None:
        """Views have been added to the training, or taken away again."""
        before, self._cameras = self._cameras, scene_cameras(self._manager)
        known, now = ({id(one.batch): one for one in cameras} for cameras in (before, self._cameras))
        for key in known.keys() - now.keys():
            self._drawn.remove(known[key])
            del self._added[key]
        for key in now.keys() - known.keys():
            self._added[key] = self._drawn.add(now[key])
        self._show_added()
        self._hide_around()

    def _show_added(self) -> None:
        """As Nerfstudio's "Hide Train Cams" says. It goes through ``camera_handles``, which must not change while
        training reads them."""
        for frustum in list(self._added.values()):
            frustum.visible = self.viewer.hide_images.visible

    def _start_client(self, client: viser.ClientHandle) -> None:
        """Start in the first photo, and hide the cameras that a user stands in."""
        first = SceneCamera(Kind.PHOTO, 0, self._manager.train_dataset.cameras[:1], {})
        stand_in(client, first, self._model.scene_scale * 10)
        client.camera.on_update(lambda _: self._hide_around())  # which viser calls next, without its lock

    def _hide_around(self) -> None:
        clients = self.viewer.viser_server.get_clients().values()
        self._drawn.hide_around([np.array(client.camera.position) for client in clients])

    def _is_shown(self, output: str) -> bool:
        panel = self.viewer.control_panel
        return output == panel.output_render or (panel.split and output == panel.split_output_render)

    @property
    def _step(self) -> int:
        trainer = self.viewer.trainer
        return self.viewer.step if trainer is None else trainer.step

    @property
    def _is_training(self) -> bool:
        trainer = self.viewer.trainer
        return trainer is not None and trainer.training_state != "completed"

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_REFRESH_SECONDS)
            except queue.Empty:
                job = self._refresh
            try:
                job()
            except Exception:
                CONSOLE.print_exception()
                self._state_text.content = "The viewer's panel met an error: see the terminal."

    def _refresh(self) -> None:
        """Bring up to date what somebody looks at."""
        if not self._cameras or not self.viewer.viser_server.get_clients():
            return
        if self.viewer.trainer is not None and not self._is_training:
            self._generation.close()
        self._state.measure(self._cameras, self._step)
        self._state_text.content = self._state.text(self._step, self._is_training)
        if self.support.is_due(self._step):
            self.support.measure(self._cameras, self._lock, self._step)
            self.viewer._trigger_rerender()

    def _compare(self, one: SceneCamera) -> None:
        self._compared_text.content = "Comparing ..."
        with self._lock:
            found = Comparison.of(self._model, one.camera, one.batch)
        what = one.kind.label.split(" (")[0].removesuffix("s")
        self._compared_text.content = (
            f"{what}: PSNR {found.psnr:.2f} dB, SSIM {found.ssim:.3f}  \nphoto | splat | difference x {DIFFERENCE_GAIN}"
        )
        self._compared_picture.content = markdown_picture(found.strip().permute(2, 0, 1), "photo, splat, difference")
        self._enlarge.visible = True


def serve_scripts_as_such() -> None:
    """Give the viewer's page the types of its parts where the machine's own table lacks or misnames them.

    Browsers run no script that is served as plain text, and show a blank page.
    """
    for suffix, kind in _TYPES.items():
        mimetypes.add_type(kind, suffix)
