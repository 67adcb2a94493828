"""Several processes on the CPU, by accelerate as users start them."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

ACCELERATE = Path(__file__).parents[2] / "scripts/accelerate"


def two_processes(folder: Path, config: str) -> list[str]:
    """The command line before a script, under one of the shipped configurations; ``folder`` takes its CPU version."""
    file = folder / config
    text = (ACCELERATE / config).read_text()
    file.write_text(text if "use_cpu" in text else text + "use_cpu: true\n")
    options = ["--config_file", str(file), "--num_processes", "2", "--main_process_port", str(free_port())]
    return [sys.executable, "-m", "accelerate.commands.launch", *options]


def free_port() -> int:
    """A port that nobody listens on; accelerate looks for one itself (port 0) only in versions after 1.6."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
