"""The viewer's part "Generate here": views from the nearest photo to where the user stands, or along the Render tab's
camera path, added to the training."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import torch
import viser
from nerfstudio.utils.rich_utils import CONSOLE
from nerfstudio.viewer.render_panel import CameraPath
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO

from fvgen.checks import InputError
from fvgen_ns.generate_here import WITH, WITHOUT, Added, Cancelled, ViewsHere
from fvgen_ns.viewer.page_text import as_code

_HINT = "Make views from the nearest photo to here and train on them, unless that makes photos left out worse"
_ALONG = "The same along the keyframes of the Render tab"
_NO_PATH = "The Render tab has no path: add at least two keyframes there."
_IDLE = "Only while a run trains: go on with `ns-train ... --load-dir`."


class GenerationPanel:
    """Buttons, a bar and a line of text. Callbacks start a thread, which does the work, one path at a time."""

    def __init__(
        self,
        server: viser.ViserServer,
        views: ViewsHere | None,
        step: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        """
        Args:
            server: the viewer's, to whose current folder the panel is added.
            views: of the run; None where nothing trains.
            step: of the training.
            changed: called when there are more or fewer views.
        """
        self._server, self._views, self._step, self._changed = server, views, step, changed
        self._cancelled = threading.Event()
        self._busy = threading.Lock()
        gui, idle = server.gui, views is None
        with gui.add_folder("Generate"):
            self._here = gui.add_button("Generate here", hint=_HINT, disabled=idle)
            self._along = gui.add_button("Generate along path", hint=_ALONG, disabled=idle)
            self._undo = gui.add_button("Undo", hint="Take the views of the last path away again", disabled=idle)
            self._cancel = gui.add_button("Cancel", visible=False)
            self._bar = gui.add_progress_bar(0.0, visible=False)
            self._text = gui.add_markdown(_IDLE if idle else "Fly to a place, then press.")
        self._here.on_click(self._on_here)
        self._along.on_click(self._on_along)
        self._undo.on_click(lambda _: self._in_thread(self._take_back))
        self._cancel.on_click(lambda _: self._cancelled.set())

    def close(self) -> None:
        """Training is done: nothing can be added any more."""
        self._views = None
        self._cancelled.set()
        self._here.disabled = self._along.disabled = self._undo.disabled = True

    def _on_here(self, event: viser.GuiEvent[Any]) -> None:
        if event.client is not None:
            camera = event.client.camera
            poses = pose_of(camera.wxyz, camera.position)[None]
            self._in_thread(lambda views: self._generate(views, poses))

    def _on_along(self, _: viser.GuiEvent[Any]) -> None:
        poses = path_poses(render_tab_path(self._server))
        if len(poses):
            self._in_thread(lambda views: self._generate(views, poses))
        else:
            self._text.content = _NO_PATH

    def _in_thread(self, work: Callable[[ViewsHere], None]) -> None:
        threading.Thread(target=self._alone, args=(work,), daemon=True).start()

    def _alone(self, work: Callable[[ViewsHere], None]) -> None:
        views = self._views
        if views is None or not self._busy.acquire(blocking=False):
            return
        self._cancelled.clear()
        self._show_busy(True)
        try:
            work(views)
        except Cancelled:
            self._text.content = "Cancelled: nothing was added."
        except InputError as error:
            self._text.content = as_code(str(error))
        except Exception:
            CONSOLE.print_exception()
            self._text.content = "This failed: see the terminal. Nothing was added."
        finally:
            self._show_busy(False)
            self._busy.release()

    def _show_busy(self, busy: bool) -> None:
        self._bar.value = 0.0
        self._here.visible = self._along.visible = self._undo.visible = not busy
        self._cancel.visible = self._bar.visible = busy

    def _generate(self, views: ViewsHere, poses: torch.Tensor) -> None:
        def progress(done: int, total: int, what: str) -> None:
            if self._cancelled.is_set():
                raise Cancelled
            self._bar.value = 100 * done / max(total, 1)
            self._text.content = f"{what}: {done} of {total}"

        self._text.content = outcome(views.generate(poses, self._step(), progress))
        self._changed()

    def _take_back(self, views: ViewsHere) -> None:
        self._text.content = f"{views.undo()} views were taken away again."
        self._changed()


def outcome(added: Added) -> str:
    """What became of a path, in a sentence or two."""
    if not added.trials.errors:
        tried = "There are too few photos to try them on one left out."
    else:
        gain, noise = added.trials.gain(WITH, WITHOUT)
        tried = f"Photos left out: AVGE {abs(gain):.1%} {'lower' if gain > 0 else 'higher'} with them, ± {noise:.1%}."
    photo = as_code(added.photo)
    if not added.count:
        return f"Nothing was added: views from {photo} to here make photos left out worse. {tried}"
    return f"{added.count} views from {photo} on are trained on now. {tried}"


def pose_of(wxyz: Any, position: Any) -> torch.Tensor:
    """[4, 4] float32 camera-to-world, OpenCV axes, in the dataparser's frame, of a pose in the viewer."""
    pose = torch.eye(4)
    pose[:3, :3] = torch.from_numpy(viser.transforms.SO3(wxyz).as_matrix())
    pose[:3, 3] = torch.as_tensor(position) / VISER_NERFSTUDIO_SCALE_RATIO
    return pose


def path_poses(path: CameraPath) -> torch.Tensor:
    """[P, 4, 4] as from `pose_of`, of the keyframes of a path, the first once more where it is closed; none of fewer
    than two keyframes."""
    times = path.compute_transition_times_cumsum()
    found = [path.interpolate_pose_and_fov_rad(time / max(times[-1], 1e-9)) for time in times]
    poses = [one[0] for one in found if one is not None]
    return (
        torch.stack([pose_of(pose.rotation().wxyz, pose.translation()) for pose in poses]) if poses else torch.empty(0)
    )


def render_tab_path(server: viser.ViserServer) -> CameraPath:
    """The camera path of Nerfstudio's Render tab, which keeps it where only the callbacks of its own buttons see it."""
    for handle in list(server.gui._gui_input_handle_from_id.values()):
        for callback in handle._impl.update_cb:
            path = inspect.getclosurevars(callback).nonlocals.get("camera_path")
            if isinstance(path, CameraPath):
                return path
    raise LookupError("Nerfstudio's Render tab has no camera path")
