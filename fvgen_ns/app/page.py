"""The page of ``fvgen app``."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import viser

from fvgen.checks import InputError, require
from fvgen.data.capture import POSES_FILE
from fvgen.data.read_capture import has_poses, read_capture
from fvgen.devices import default_device, is_gpu
from fvgen.files import disk_errors, read_json, store
from fvgen.poses.intake import PHOTO_SUFFIXES, VIDEO_SUFFIXES, find_media
from fvgen_ns.app.run import Job, PoseSearch, Training
from fvgen_ns.app.thumbnails import thumbnails
from fvgen_ns.app.view import SplatScene
from fvgen_ns.export_splat import ExportSplat, export_splat
from fvgen_ns.posed_input import POSED_CAPTURE
from fvgen_ns.quality import QUALITIES, QualityName
from fvgen_ns.report.finish import FILM
from fvgen_ns.viewer.page_text import as_code, markdown_picture
from fvgen_ns.viewer.panel import serve_scripts_as_such

_ARCHIVE = ".zip"
_IF_FULL = "Free some space or choose another folder."


class AppPage:
    """The page. What it shows is kept here: whoever closes and opens it again finds it as it was."""

    def __init__(self, port: int, output: Path) -> None:
        """
        Args:
            port: where to serve it, on 127.0.0.1; the next free one if that is taken.
            output: folder of runs and of uploaded photos.
        """
        serve_scripts_as_such()
        self._output = output.resolve()
        self._uploads = self._output / "uploads" / _stamp()
        self._job: Job | None = None
        self._training: Training | None = None
        self._capture: Path | None = None
        self._message = ""
        self._server = viser.ViserServer(host="127.0.0.1", port=port, verbose=False)
        self.port = self._server.get_port()
        self._server.gui.configure_theme(control_layout="fixed", control_width="large", dark_mode=True)
        self._scene = SplatScene(self._server)
        self._add_input()
        self._add_training()
        self._add_downloads()

    def _add_input(self) -> None:
        gui = self._server.gui
        with gui.add_folder("1. Photos"):
            gui.add_markdown("Of one scene: name a folder, a video or a zip archive on this machine, or upload them.")
            self._source = gui.add_text("Folder or file", "")
            upload = gui.add_upload_button("Upload a photo, video or archive")
            look = gui.add_button("Show photos")
            self._pictures = gui.add_markdown("", image_root=Path.cwd())
            self._count = gui.add_markdown("")
            self._find = gui.add_button("Find poses", hint="Shows where the photos were taken. Training does it, too")
        look.on_click(lambda _: self._guarded(self._show_photos))
        upload.on_upload(lambda _: self._guarded(lambda: self._store_upload(upload.value.name, upload.value.content)))
        self._find.on_click(lambda _: self._guarded(self._find_poses))

    def _add_training(self) -> None:
        gui = self._server.gui
        with gui.add_folder("2. Splat"):
            first = "high" if is_gpu(default_device()) else "quick"
            self._quality = gui.add_dropdown("Quality", tuple(QUALITIES), initial_value=first)
            self._start = gui.add_button("Start")
            self._stop = gui.add_button("Stop", visible=False)
            self._bar = gui.add_progress_bar(0.0, visible=False)
            self._status = gui.add_markdown("")
        self._start.on_click(lambda _: self._guarded(self._begin))
        self._stop.on_click(lambda _: self.stop())

    def _add_downloads(self) -> None:
        gui = self._server.gui
        with gui.add_folder("3. Take it with you"):
            buttons = {
                "Download PLY": lambda training: self._exported(training, ".ply"),
                "Download HTML": lambda training: self._exported(training, ".html"),
                "Download film": lambda training: training.folder / FILM,
            }
            self._downloads = [self._add_download(label, make) for label, make in buttons.items()]

    def _add_download(self, label: str, make: Callable[[Training], Path]) -> viser.GuiButtonHandle:
        button = self._server.gui.add_button(label, disabled=True)

        @button.on_click
        def _(event: viser.GuiEvent[Any]) -> None:
            training, client = self._training, event.client
            if training is None or client is None:
                return

            def send() -> None:
                self._message = f"Writing {as_code(label.removeprefix('Download '))} ..."
                path = make(training)
                client.send_file_download(f"{training.source.stem}{path.suffix}", path.read_bytes())
                self._message = f"Sent {as_code(str(path))}."

            threading.Thread(target=self._guarded, args=(send,), daemon=True).start()

        return button

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do what a user asks for; a refusal is shown."""
        try:
            work()
        except InputError as error:
            self._message = as_code(str(error))

    def _store_upload(self, name: str, content: bytes) -> None:
        name = Path(name.replace("\\", "/")).name
        known = sorted({*PHOTO_SUFFIXES, *VIDEO_SUFFIXES, _ARCHIVE})
        suffix = Path(name).suffix.lower()
        require(suffix in known, "an upload", f"end in one of {' '.join(known)}", name, "Choose another file.")
        target = self._uploads / name
        with disk_errors("--output-dir", target, _IF_FULL):
            store(target, content)
        self._source.value = str(target if suffix == _ARCHIVE else self._uploads)
        self._show_photos()

    def _chosen(self) -> Path:
        text = self._source.value.strip()
        require(bool(text), "Folder or file", "be named", "nothing", "Name one, or upload photos.")
        source = Path(text).expanduser().resolve()
        require(source.exists(), "Folder or file", "exist on this machine", source, "Check the path.")
        return source

    def _show_photos(self) -> None:
        """Thumbnails of what is named, and its cameras where they are known."""
        self._message = self._pictures.content = self._count.content = ""
        source = self._chosen()
        if has_poses(source):
            photos = [frame.photo for frame in read_capture(source, decode=False).frames]
            self._show_thumbnails(photos, f"{len(photos)} photos with poses")
            self._show_cameras(source)
            return
        with tempfile.TemporaryDirectory(prefix="fvgen-app-") as scratch:  # for what an archive holds
            photos, videos, _, _ = find_media(source, Path(scratch))
            self._show_thumbnails(photos, f"{len(photos)} photos, {len(videos)} videos")

    def _show_thumbnails(self, photos: list[Path], count: str) -> None:
        self._count.content = count
        sheet = thumbnails(photos)
        if sheet is not None:
            self._pictures.content = markdown_picture(sheet, "photos")

    def _show_cameras(self, capture: Path) -> None:
        self._capture = capture
        self._scene.show_cameras(capture)
        placed = (read_json(capture / POSES_FILE) or {}).get("notes", [])
        self._message = as_code(placed[0]) if placed else ""

    def _find_poses(self) -> None:
        source = self._chosen()
        require(
            not self._is_busy, "Find poses", "wait until nothing else runs", "a command at work", "Press Stop first."
        )
        require(not has_poses(source), "Folder or file", "hold photos alone", "a capture with poses", "Press Start.")
        self._message = ""
        self._job = PoseSearch(source, self._output, _stamp())

    def _begin(self) -> None:
        source = self._chosen()
        require(not self._is_busy, "Start", "wait until nothing else runs", "a command at work", "Press Stop first.")
        self.stop()  # of the last one the viewer may be open still
        self._message = ""
        self._job = self._training = Training(source, self._output, _stamp(), cast(QualityName, self._quality.value))
        self._scene.follow(self._training.folder)

    @property
    def _is_busy(self) -> bool:
        job = self._job
        return job is not None and job.is_alive and not (isinstance(job, Training) and job.is_done)

    def stop(self) -> None:
        """End what was started."""
        for job in (self._job, self._training):
            if job is not None:
                job.stop()

    def close(self) -> None:
        """End the page, too."""
        self.stop()
        self._server.stop()

    def _exported(self, training: Training, suffix: str) -> Path:
        """The run's splat as a file: as ``fvgen export`` writes it."""
        path = training.folder / f"splat{suffix}"
        export_splat(ExportSplat(run=training.folder, output=path), quiet=True)
        return path

    def refresh(self) -> None:
        """Show how far the work is."""
        job, training, busy = self._job, self._training, self._is_busy
        self._start.visible, self._stop.visible = not busy, busy
        self._find.disabled = busy
        if training is not None:
            self._downloads[0].disabled = self._downloads[1].disabled = not training.has_checkpoint
            self._downloads[2].disabled = not (training.folder / FILM).is_file()
        share = job.progress() if job is not None and busy else None
        self._bar.visible = busy
        self._bar.value = 100 * (share or 0.0)
        lines = [self._message] if self._message else []
        if job is not None:
            lines += _report_of(job, busy)
            found = job.capture if isinstance(job, PoseSearch) else job.folder / POSED_CAPTURE  # type: ignore[attr-defined]
            if found != self._capture and (found / POSES_FILE).is_file():
                self._guarded(lambda: self._show_cameras(found))
        text = "\n\n".join(lines)
        if self._status.content != text:
            self._status.content = text


def _report_of(job: Job, busy: bool) -> list[str]:
    """How far a command is, and where its results are."""
    lines = []
    if job.was_stopped and not busy:
        lines.append("Stopped.")
    elif busy or job.exit_code not in (None, 0):
        lines.append(as_code(job.last_line()))
    elif isinstance(job, Training):
        lines.append("Done: the scene shows the finished splat.")
    if isinstance(job, Training):
        if job.has_viewer:
            lines.append(f"[Open Nerfstudio's viewer of this run]({job.viewer}): compare, steer, render")
        lines.append(f"Folder of this run: {as_code(str(job.folder))}")
    return lines


def _stamp() -> str:
    return time.strftime("%Y-%m-%d_%H%M%S")
