"""Train a 4-step student from a teacher, or a teacher from nothing.

    fvgen distill --preset fvgen-stage1 --data CLIPS --teacher models/viewcrafter-512 --output ONE
    fvgen distill --preset fvgen-stage2 --data CLIPS --teacher models/viewcrafter-512 --output TWO \\
        --init-student ONE/student

The preset's settings are the defaults of all others: see them with --preset NAME --help. On several GPUs
`accelerate launch --config_file scripts/accelerate/ddp.yaml -m fvgen_ns.cli distill` (or fsdp2.yaml) stands in place of
`fvgen distill`.
A run that was broken off goes on when the same command is started again: after a kill from its last checkpoint, after
SIGTERM from the step in which it came. The command then leaves with 0.

Under `accelerate launch` send SIGTERM to the processes that it started, with `pkill -TERM -P PID_OF_ACCELERATE` (one of
them is enough): all save the same step, and the launcher leaves with 0. Sent to the launcher itself, SIGTERM is passed
on and all save, too, but the launcher leaves with 1, and kills what has not saved after 30 seconds
(TORCH_ELASTIC_SHUTDOWN_TIMEOUT). Where it started a single process (single.yaml) it passes nothing on: start
`fvgen distill` itself.
In a SLURM batch script:

    #SBATCH --signal=B:TERM@600
    accelerate launch ... & trap "pkill -TERM -P $!" TERM; wait $!; wait $!
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fvgen.checks import InputError
from fvgen.distillation.options import FromNothing, FromTeacher, parse


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """The command; returns its exit code: 2 after bad input, 1 where training or saving failed.

    Args:
        arguments: the command line without the command; None for this process's.
        program: name of the command in its help; None for this process's.
    """
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments, __doc__ or "", program)
        return _distill(options)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


def _distill(options: FromTeacher | FromNothing) -> int:
    # After the command line: help need not wait for diffusers.
    from fvgen.distillation.checkpoint import CheckpointError
    from fvgen.distillation.faults import DivergedError
    from fvgen.distillation.run import distill

    try:
        distill(options)
    except (DivergedError, CheckpointError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
