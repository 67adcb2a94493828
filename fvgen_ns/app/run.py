"""What the page of ``fvgen app`` starts: ``fvgen poses`` and ``ns-train``, as processes of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from fvgen.files import disk_errors
from fvgen_ns.posed_input import POSED_CAPTURE
from fvgen_ns.quality import QUALITIES, QualityName

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_COUNT = re.compile(r"(\d+)/(\d+)")
_BARS = re.compile("[━╸╺─]+")
_TAIL = 8000
"""Bytes at the end of the log in which its last line is looked for."""
_PICTURES = 12
"""Checkpoints in a run, each of which the page shows."""


class Job:
    """A command that goes on whoever looks; it prints into a log as to a terminal, its bars included."""

    def __init__(self, line: list[str], log: Path) -> None:
        """Start it.

        Args:
            line: the command.
            log: file for all that it prints.

        Raises:
            InputError: the log cannot be written.
        """
        self.log = log
        self.was_stopped = False
        """Whether somebody has ended it."""
        with disk_errors("--output-dir", log.parent, "Free some space or choose another folder."):
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as file:
                # without this rich draws no bars into what is no terminal
                environment = {**os.environ, "FORCE_COLOR": "1"}
                self._process = subprocess.Popen(line, stdout=file, stderr=subprocess.STDOUT, env=environment)

    def stop(self) -> None:
        """End it, as Ctrl-C does. It heeds that where this process handles SIGINT, and does not ignore it."""
        if self.is_alive:
            self.was_stopped = True
            self._process.send_signal(signal.SIGINT)

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None as long as it runs."""
        return self._process.poll()

    def last_line(self) -> str:
        """The last line that it has printed; of a refusal the sentence, of a bar its numbers."""
        with self.log.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(log.tell() - _TAIL, 0))
            text = _ESCAPES.sub("", log.read().decode(errors="replace"))
        lines = [" ".join(_BARS.sub(" ", line).split()) for line in re.split(r"[\r\n]", text)]
        return next((line for line in reversed(lines) if line), "")

    def progress(self) -> float | None:
        """Share in [0, 1] of what it is doing now; None where it does not say."""
        found = _COUNT.search(self.last_line())
        return None if found is None else min(int(found[1]) / max(int(found[2]), 1), 1.0)


class PoseSearch(Job):
    """``fvgen poses``; ns-train takes what it has found for the same photos over."""

    def __init__(self, source: Path, output: Path, stamp: str) -> None:
        """
        Args:
            source: photos or a video.
            output: folder of runs.
            stamp: name that no other search has.
        """
        self.capture = output / source.stem / "poses" / stamp / POSED_CAPTURE
        line = [sys.executable, "-m", "fvgen_ns.cli", "poses", str(source), str(self.capture)]
        super().__init__(line, output / "logs" / f"{stamp}-poses.log")


class Training(Job):
    """``ns-train``, with a viewer of its own beside the page; its folder is like any other run's."""

    def __init__(self, source: Path, output: Path, stamp: str, quality: QualityName) -> None:
        """
        Args:
            source: photos, a video or a capture.
            output: folder of runs, as of ``ns-train --output-dir``.
            stamp: name that no other run has.
            quality: see `fvgen_ns.quality`.
        """
        method, port = "fvgen-splat", free_port()
        self.source = source
        self.folder = output / source.stem / method / stamp
        self.viewer = f"http://127.0.0.1:{port}"
        self._port = port
        arguments = {
            "--data": source,
            "--output-dir": output,
            "--experiment-name": source.stem,
            "--timestamp": stamp,
            "--quality": quality,
            "--steps-per-save": max(QUALITIES[quality].iterations // _PICTURES, 1),
            "--vis": "viewer",
            "--viewer.websocket-host": "127.0.0.1",
            "--viewer.websocket-port": port,
        }
        line = [sys.executable, "-m", "nerfstudio.scripts.train", method]
        line += [str(part) for pair in arguments.items() for part in pair]
        super().__init__(line, output / "logs" / f"{stamp}-training.log")

    @property
    def is_done(self) -> bool:
        """Whether it has trained to its end; its viewer may still be open."""
        return (self.folder / "report.html").is_file()

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to export."""
        return any((self.folder / "nerfstudio_models").glob("step-*.ckpt"))

    @property
    def has_viewer(self) -> bool:
        """Whether its viewer answers."""
        with socket.socket() as connection:
            connection.settimeout(0.5)
            return self.is_alive and connection.connect_ex(("127.0.0.1", self._port)) == 0


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        return int(connection.getsockname()[1])
