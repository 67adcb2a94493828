"""Train a 4-step student from a teacher, or a teacher from nothing.

    python scripts/train_distill.py --preset fvgen-stage1 --data SHARDS --teacher models/viewcrafter-512 --output ONE
    python scripts/train_distill.py --preset fvgen-stage2 --data SHARDS --teacher models/viewcrafter-512 --output TWO \\
        --init-student ONE/student

The preset's settings are the defaults of all others: see them with --preset NAME --help. On several GPUs
`accelerate launch --config_file scripts/accelerate/ddp.yaml` (or fsdp2.yaml) stands in place of `python`.
A run that was broken off goes on when the same command is started again: after a kill from its last checkpoint, after
SIGTERM from the step in which it came. `python` then leaves with 0.

Under `accelerate launch` send SIGTERM to the processes that it started, with `pkill -TERM -P PID_OF_ACCELERATE` (one of
them is enough): all save the same step, and the launcher leaves with 0. Sent to the launcher itself, SIGTERM is passed
on and all save, too, but the launcher leaves with 1, and kills what has not saved after 30 seconds
(TORCH_ELASTIC_SHUTDOWN_TIMEOUT). Where it started a single process (single.yaml) it passes nothing on: use `python`.
In a SLURM batch script:

    #SBATCH --signal=B:TERM@600
    accelerate launch ... & trap "pkill -TERM -P $!" TERM; wait $!; wait $!
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fvgen.checks import InputError, complaint, require
from fvgen.distillation.configs import PRESETS
from fvgen.distillation.options import FromNothing, FromTeacher, parse

if TYPE_CHECKING:
    from fvgen.data.shards import ShardDataset
    from fvgen.distillation.objectives.frame_matching import FrameMatching
    from fvgen.distillation.parallel import Processes
    from fvgen.distillation.start import Start


def main(options: FromTeacher | FromNothing) -> None:
    """Check everything, train, export.

    Raises:
        InputError: something does not fit together; no training was done.
        DivergedError, CheckpointError: see `fvgen.distillation.trainer.train`.
    """
    from fvgen.data.shards import ShardDataset
    from fvgen.diffusion.sampling import check_timesteps
    from fvgen.distillation.matching import check_clips, check_guidance
    from fvgen.distillation.memory_plan import clip_shape, memory_for, plan_memory
    from fvgen.distillation.optimizers import check_optimizers
    from fvgen.distillation.parallel import Processes
    from fvgen.distillation.previews import HeldOutPreview, decoder
    from fvgen.distillation.settings import identity
    from fvgen.distillation.start import start_roles
    from fvgen.distillation.trainer import train
    from fvgen.models.folder import model_fingerprint

    output = options.output
    require(output.is_dir() or not output.exists(), "output", "be a folder", f"the file {output}", "Name another one.")
    data = ShardDataset(options.data, views=options.views, crop=options.crop)
    processes = Processes.launched()
    processes.share(options.train.global_batch)
    check_optimizers(options.train, processes.sharded)
    start = _start(options, data, processes)
    clip = data.batch([0])
    check_clips(data.meta, clip, start.teacher, isinstance(options, FromTeacher) and options.other_size)
    recipe = asdict(options.objective)
    check_guidance(recipe, clip)
    matching = _frame_matching(options)
    roles = start_roles(options.objective, start, options.train.seed)
    roles.schedule.timesteps(options.train.sampling_steps)  # refuses what only the first preview would
    if isinstance(options, FromTeacher):
        check_timesteps(options.objective.timesteps, roles.schedule)
    plan = plan_memory(
        roles,
        options.train,
        clip_shape(clip, options.train.micro_batch),
        processes.world if processes.sharded else 1,
        matching,
    )
    if processes.main:
        print(plan.table(), flush=True)
    free = memory_for(roles, processes.device) if options.memory_gib is None else int(options.memory_gib * 2**30)
    plan.require_fit(free, str(processes.device))
    settings = identity(
        options.train,
        objective={"name": type(options.objective).__name__, **recipe},
        data={"config_hash": data.config_hash, "clips": len(data), "views": options.views, "crop": options.crop},
        start={name: model_fingerprint(folder) for name, folder in start.folders().items()},
        backbone={"kind": start.backbone, "adapter_rank": start.adapter_rank},
        **({"network": asdict(options.network)} if isinstance(options, FromNothing) else {}),
    )
    sampler: Any = "ddim" if isinstance(options, FromNothing) else "few_step"
    decode = decoder(start.teacher) if processes.main else None
    preview: Any = partial(
        HeldOutPreview, roles, data, options.train, output, processes, sampler=sampler, decode=decode
    )
    state = train(
        options.train,
        data,
        roles,
        options.objective,
        output=output,
        settings=settings,
        processes=processes,
        preview=preview,
        progress=_progress(options, processes),
    )
    if state.step < options.train.steps:
        if processes.main:
            print(f"Stopped at step {state.step}; the same command goes on from there.")
    else:
        del roles, preview, state  # the export has its own
        processes.on_main(lambda: _export(options, data, settings, start))
    processes.leave()


def _frame_matching(options: FromTeacher | FromNothing) -> FrameMatching | None:
    """How the recipe matches frames by an image model that fits; None where no image model is given."""
    from fvgen.distillation.image_model import check_image_model
    from fvgen.distillation.objectives.frame_matching import FrameMatching

    if not isinstance(options, FromTeacher) or options.frame_teacher is None:
        return None
    matching = getattr(options.objective, "matching", None)
    if not isinstance(matching, FrameMatching):
        rule = f"be left out for {options.preset}"
        raise InputError(complaint("frame_teacher", rule, options.frame_teacher, "It is avdm2's."))
    check_image_model(options.frame_teacher, matching, options.teacher)
    return matching


def _start(options: FromTeacher | FromNothing, data: ShardDataset, processes: Processes) -> Start:
    from fvgen.distillation.start import Start

    whole = re.fullmatch(r"\d+[KMGT]B", options.export_shard_size)
    require(whole is not None, "export_shard_size", "be like 5GB or 200MB", options.export_shard_size, "Mind the unit.")
    memory = options.memory_gib
    require(memory is None or memory > 0, "memory_gib", "be positive", memory, "Leave it out for what is free.")
    best = options.export != "best" or options.train.held_out > 0
    require(best, "export", "be last without held-out clips", options.export, "Keep some with --held-out.")
    if isinstance(options, FromNothing):
        folder = options.output / "untrained"
        processes.on_main(lambda: _write_untrained(options, data, folder))
        return Start(folder)
    preset = PRESETS[options.preset]
    require(
        preset.starts_from != "student" or options.init_student is not None,
        "init_student",
        f"be given for {options.preset}",
        None,
        "Name the student that the first stage exported.",
    )
    discriminator = options.init_discriminator
    if discriminator is None and options.init_student is not None:
        beside = options.init_student.parent / "discriminator"
        discriminator = beside if beside.is_dir() else None
    return Start(
        options.teacher,
        options.init_student,
        discriminator,
        options.frame_teacher,
        options.backbone,
        options.adapter_rank,
    )


def _write_untrained(options: FromNothing, data: ShardDataset, folder: Path) -> None:
    """The network that is asked for; once something was trained, it is the one that the run was started with."""
    from fvgen.distillation import checkpoint
    from fvgen.distillation.checkpoint import CHECKPOINTS
    from fvgen.distillation.export import writing
    from fvgen.distillation.untrained import write_untrained

    if folder.is_dir() and checkpoint.latest(options.output / CHECKPOINTS):
        return
    network = asdict(options.network)
    base_scale = network.pop("base_scale")
    with writing(folder):
        shutil.rmtree(folder, ignore_errors=True)
        shape = data.batch([0]).latents.shape
        write_untrained(folder, data.meta, shape, network, base_scale, options.train.seed)


def _progress(options: FromTeacher | FromNothing, processes: Processes):
    begin, first = time.monotonic(), -1

    def report(done: int, total: int, what: str) -> None:
        nonlocal first
        first = done - 1 if first < 0 else first
        if processes.main and done % options.train.meters.log_every == 0:
            seconds = (time.monotonic() - begin) / (done - first)
            print(
                f"step {done}/{total}, {seconds:.2f} s a step, {seconds * (total - done) / 60:.0f} min left", flush=True
            )

    return report


def _export(options: FromTeacher | FromNothing, data: ShardDataset, settings: dict[str, Any], start: Start) -> None:
    """The trained network, as it lies in the checkpoint, into a pipeline folder of its own."""
    import torch

    from fvgen.distillation import checkpoint
    from fvgen.distillation.averaging import averaged, start_average
    from fvgen.distillation.checkpoint import CHECKPOINTS
    from fvgen.distillation.export import ModelCard, export_pipeline, few_steps, writing
    from fvgen.distillation.meters import last_figures
    from fvgen.distillation.settings import config_hash
    from fvgen.distillation.start import start_roles
    from fvgen.files import whole_folder

    path = checkpoint.exported(options.output / CHECKPOINTS, options.export)
    roles = start_roles(options.objective, start, options.train.seed)
    trained = roles.trainable()
    state = checkpoint.TrainState(trained, {}, start_average(trained["student"], options.train.ema_decay))
    checkpoint.load(path, state, settings)
    with averaged(trained["student"], state.ema):
        network: Any = roles.student_network()
    clip = data.batch([0]).latents
    network.register_to_config(sample_frames=clip.shape[1], sample_size=tuple(clip.shape[3:]))
    student = isinstance(options, FromTeacher)
    sampling = few_steps(options.objective.timesteps) if student else "25 to 50 DDIM steps."
    card = ModelCard(
        name=f"{options.preset} {'student' if student else 'teacher'}",
        recipe=f"{type(options.objective).__name__} (preset {options.preset})",
        steps=state.step,
        sampling=sampling,
        settings=settings,
        config_hash=config_hash(settings),
        data={"folder": options.data.name, "clips": len(data), "hash": data.config_hash, **data.meta},
        teacher=start.teacher.name if student else None,
        metrics=last_figures(options.output, state.step),
    )
    if "discriminator" in trained:  # first: where there is a student, there is what its second stage needs
        beside = options.output / "discriminator"
        with writing(beside), whole_folder(beside) as folder:
            roles.discriminator.save_pretrained(folder)  # type: ignore[union-attr, operator]
    output = options.output / ("student" if student else "teacher")
    dtype = getattr(torch, options.export_dtype)
    sampler: Any = "few_step" if student else "ddim"
    with writing(output):
        export_pipeline(network, start.teacher, output, card, sampler, dtype, options.export_shard_size)
    print(f"Exported {path.name} to {output}")


def run() -> int:
    """The command."""
    from fvgen.distillation.checkpoint import CheckpointError
    from fvgen.distillation.faults import DivergedError

    try:
        main(parse(sys.argv[1:], __doc__ or ""))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except (DivergedError, CheckpointError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run())
