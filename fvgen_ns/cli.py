"""The command ``fvgen``: one table of sub-commands, each loaded when it is called.

The table stands on the plugin's side because it is the only package that may call both itself and the library: the
views' sub-command reads captures through Nerfstudio's dataparser, which `fvgen` never imports.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

from fvgen.checks import complaint


class Command(NamedTuple):
    """A sub-command."""

    module: str
    """Module whose ``main(arguments, program)`` runs it and returns the exit code."""
    about: str
    """One sentence for the help."""


COMMANDS: Mapping[str, Command] = {
    "views": Command("fvgen_ns.generate_views", "Write photos and generated views of a capture as a new dataset."),
    "poses": Command("fvgen.poses.command", "Find the camera poses of photos or a video."),
    "clips": Command("fvgen.data.prepare", "Prepare training clips from procedural scenes or from posed captures."),
    "app": Command("fvgen_ns.app.command", "Open a page in the browser to choose photos, train, watch and download."),
    "export": Command("fvgen_ns.export_splat", "Write a trained splat upright, as PLY, spz, sog or a web page."),
    "distill": Command(
        "fvgen.distillation.command", "Train a few-step student from a teacher, or a teacher from nothing."
    ),
    "download": Command(
        "fvgen.models.download", "Fetch a released ViewCrafter checkpoint or depth network, after asking."
    ),
    "convert": Command("fvgen.generation.conversion", "Turn a ViewCrafter checkpoint into a pipeline folder, or back."),
    "evaluate": Command("fvgen_ns.evaluate", "Measure generated views and splats by written protocols."),
    "parity": Command("fvgen.evaluation.parity.command", "Compare this code with reference vectors of ViewCrafter."),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command; its exit code, which is 2 after bad input and 130 after Ctrl-C.

    Args:
        arguments: the command line after ``fvgen``; the process's own when not given.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name not in COMMANDS:
        rule = f"be one of {', '.join(COMMANDS)}"
        print(complaint("COMMAND", rule, name or "none", "See fvgen --help."), file=sys.stderr)
        return 2
    # OpenMP reads it when torch is imported: threads that wait in a busy loop take the cores from whatever else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return import_module(COMMANDS[name].module).main(rest, f"fvgen {name}")
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130  # a shell's 128 + SIGINT


def _help() -> str:
    widest = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:{widest}}  {command.about}" for name, command in COMMANDS.items())
    return f"""usage: fvgen COMMAND [OPTIONS]

What surrounds the splat: generated views as a dataset, training clips, distillation, weights. The splat itself is
trained by ns-train fvgen-splat.

commands:
{rows}

fvgen COMMAND --help lists the options of a command."""


if __name__ == "__main__":
    sys.exit(main())
