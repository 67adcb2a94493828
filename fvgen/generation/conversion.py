"""The command that converts a ViewCrafter checkpoint to a pipeline folder, or back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fvgen.command import run
from fvgen.files import disk_errors
from fvgen.models.viewcrafter_variants import VariantName


@dataclass(frozen=True)
class ConversionOptions:
    """Convert a ViewCrafter checkpoint to a pipeline folder, or back."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CKPT")]
    """The .ckpt file; with --reverse the folder."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder to write; with --reverse the .ckpt file. Must not exist yet."""
    variant: VariantName | None = None
    """Release that the file is of. viewcrafter-512 is recognised; the other three look alike and must be named."""
    dtype: Literal["fp32", "fp16", "bf16"] | None = None
    """Precision to store the networks in; by default the one they have."""
    trust_pickle: bool = False
    """Open a file that holds more than tensors. This RUNS the code it carries: for files of trusted origin only."""
    reverse: bool = False
    """Write one .ckpt that ViewCrafter's own code loads from a pipeline folder."""


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """The command; see `fvgen.command.run`."""
    return run(ConversionOptions, convert, arguments, program)


def convert(options: ConversionOptions) -> None:
    """Convert, and print what became of the tensors.

    Raises:
        InputError: see `convert_checkpoint` and `revert_folder`; or the disk is full.
    """
    import torch  # after the command line: --help is instant

    from fvgen.generation.viewcrafter_checkpoint import convert_checkpoint, revert_folder

    dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, None: None}
    source, out, dtype = options.source, options.out, dtypes[options.dtype]
    with disk_errors("OUT", out, "Free disk space or name another place."):
        if options.reverse:
            count = revert_folder(source, out, dtype, progress=_print_progress)
            print(f"{count} tensors written to {out}")
            return
        report = convert_checkpoint(source, out, options.variant, dtype, options.trust_pickle, progress=_print_progress)
    print(f"{report.variant}: {report.used} tensors used, {len(report.dropped)} without use here")
    for reason in dict.fromkeys(report.dropped.values()):
        dropped = [name for name, its in report.dropped.items() if its == reason]
        print(f"  {len(dropped):3d}  {reason}")
        print(*(f"         {name}" for name in dropped), sep="\n")
    print(f"written to {out}")


def _print_progress(done: int, total: int, what: str) -> None:
    print(f"[{done}/{total}] {what}", flush=True)
