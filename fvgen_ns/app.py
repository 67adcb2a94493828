"""``fvgen app``: a page on this machine to choose photos, find their poses, train, watch and fetch the splat."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fvgen.checks import require
from fvgen.command import run

_REFRESH_SECONDS = 1.0


@dataclass
class App:
    """Open a page on this machine: choose photos or a video, train a splat, watch it, download it."""

    port: int = 7100
    """Port of the page, which only this machine can open."""
    output_dir: Path = Path("outputs")
    """Folder of runs and of uploaded photos."""


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """The command; see `fvgen.command.run`."""
    return run(App, _serve, arguments, program)


def _serve(config: App) -> None:
    require(0 < config.port < 65536, "--port", "lie between 1 and 65535", config.port, "Leave it out.")
    from fvgen_ns.app_page import AppPage  # takes seconds to load

    page = AppPage(config.port, config.output_dir)
    print(f"Open http://127.0.0.1:{page.port} in a browser. Ctrl-C ends it, and what it has started.", flush=True)
    try:
        while True:
            page.refresh()
            time.sleep(_REFRESH_SECONDS)
    except KeyboardInterrupt:
        page.stop()
