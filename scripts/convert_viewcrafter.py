"""ViewCrafter checkpoint -> pipeline folder, or back with --reverse.

python scripts/convert_viewcrafter.py checkpoints/viewcrafter-512/model.ckpt models/viewcrafter-512
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fvgen.checks import InputError
from fvgen.models.viewcrafter_variants import VariantName


@dataclass(frozen=True)
class Options:
    """Convert a ViewCrafter checkpoint to a pipeline folder, or back."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CKPT")]
    """The .ckpt file; with --reverse the folder."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder to write; with --reverse the .ckpt file. Must not exist yet."""
    variant: VariantName | None = None
    """Which release the file is. viewcrafter-512 is recognised; the other three look alike and must be named."""
    dtype: Literal["fp32", "fp16", "bf16"] | None = None
    """Precision to store the networks in; as they are when not given."""
    trust_pickle: bool = False
    """Open a file that holds more than tensors. This RUNS the code it carries: for files of trusted origin only."""
    reverse: bool = False
    """From a pipeline folder to one .ckpt that ViewCrafter's own code loads."""


def _report(done: int, total: int, what: str) -> None:
    print(f"[{done}/{total}] {what}", flush=True)


def main(options: Options) -> None:
    """Convert, and say what became of the tensors."""
    import torch  # after the command line: --help is instant

    from fvgen.generation.viewcrafter_checkpoint import convert_checkpoint, revert_folder

    dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, None: None}
    dtype = dtypes[options.dtype]
    if options.reverse:
        count = revert_folder(options.source, options.out, dtype, progress=_report)
        print(f"{count} tensors written to {options.out}")
        return
    report = convert_checkpoint(
        options.source, options.out, options.variant, dtype, options.trust_pickle, progress=_report
    )
    names: dict[str, list[str]] = {}
    for name, reason in report.dropped.items():
        names.setdefault(reason, []).append(name)
    print(f"{report.variant}: {report.used} tensors used, {len(report.dropped)} without use here")
    for reason, dropped in names.items():
        print(f"  {len(dropped):3d}  {reason}")
        print(*(f"         {name}" for name in dropped), sep="\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except InputError as error:
        sys.exit(str(error))
