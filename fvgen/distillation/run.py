"""A training run: everything is checked, then trained, then exported."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fvgen.checks import InputError, complaint, require
from fvgen.data.shards import ShardDataset
from fvgen.diffusion.sampling import check_timesteps
from fvgen.distillation import checkpoint
from fvgen.distillation.averaging import averaged, start_average
from fvgen.distillation.checkpoint import CHECKPOINTS, TrainState
from fvgen.distillation.clip_checks import check_clips, check_guidance
from fvgen.distillation.configs import PRESETS
from fvgen.distillation.export import ModelCard, export_discriminator, export_pipeline, few_steps
from fvgen.distillation.image_model import check_image_model
from fvgen.distillation.memory_plan import clip_shape, memory_for, plan_memory
from fvgen.distillation.meters import last_figures
from fvgen.distillation.objectives.frame_matching import FrameMatching
from fvgen.distillation.optimizers import check_optimizers
from fvgen.distillation.options import FromNothing, FromTeacher
from fvgen.distillation.parallel import Processes
from fvgen.distillation.previews import HeldOutPreview, decoder
from fvgen.distillation.roles import Roles
from fvgen.distillation.settings import config_hash, identity
from fvgen.distillation.start import Start, start_roles
from fvgen.distillation.trainer import train
from fvgen.distillation.untrained import write_untrained
from fvgen.models.folder import model_fingerprint
from fvgen.types import Progress

Options = FromTeacher | FromNothing


def distill(options: Options) -> None:
    """Check everything, train, export.

    Raises:
        InputError: something does not fit together; no training was done.
        DivergedError, CheckpointError: see `fvgen.distillation.trainer.train`.
    """
    output = options.output
    require(output.is_dir() or not output.exists(), "output", "be a folder", f"the file {output}", "Name another one.")
    data = ShardDataset(options.data, views=options.views, crop=options.crop)
    processes = Processes.launched()
    processes.share(options.train.global_batch)
    check_optimizers(options.train, processes.sharded)
    start = _start(options, data, processes)
    step = _train(options, data, start, processes)
    if step == options.train.steps:
        processes.on_main(lambda: _export(options, data, start))
    elif processes.main:
        print(f"Stopped at step {step}; the same command goes on from there.")
    processes.leave()


def _start(options: Options, data: ShardDataset, processes: Processes) -> Start:
    """Where the run's networks come from."""
    if isinstance(options, FromNothing):
        folder = options.output / "untrained"
        processes.on_main(lambda: _write_untrained(options, data, folder))
        return Start(folder)
    require(
        PRESETS[options.preset].starts_from != "student" or options.init_student is not None,
        "init_student",
        f"be given for {options.preset}",
        None,
        "Name the student that the first stage exported.",
    )
    discriminator = options.init_discriminator
    if discriminator is None and options.init_student is not None:
        beside = options.init_student.parent / "discriminator"
        discriminator = beside if beside.is_dir() else None
    student_there = options.init_student is not None and options.init_student.is_dir()  # else that is what is wrong
    require(
        discriminator is not None
        or not student_there
        or PRESETS[options.preset].starts_from != "student"
        or "density_ratio" not in options.objective.needs,
        "init_discriminator",
        f"be given for {options.preset}",
        None,
        "Name the one that the first stage exported; it lies beside its student.",
    )
    return Start(
        options.teacher,
        options.init_student,
        discriminator,
        options.frame_teacher,
        options.backbone,
        options.adapter_rank,
    )


def _write_untrained(options: FromNothing, data: ShardDataset, folder: Path) -> None:
    """Make the network that the options describe, until something was trained: then it is the run's start for good."""
    if folder.is_dir() and checkpoint.latest(options.output / CHECKPOINTS):
        return
    network = asdict(options.network)
    base_scale = network.pop("base_scale")
    shape = data.batch([0]).latents.shape
    write_untrained(folder, data.meta, shape, network, base_scale, options.train.seed)


def _train(options: Options, data: ShardDataset, start: Start, processes: Processes) -> int:
    """Train, and free the networks: the steps that are done."""
    roles = _checked_roles(options, data, start, processes)
    decode = decoder(start.teacher) if processes.main else None
    timesteps = options.objective.timesteps or roles.schedule.timesteps(options.train.sampling_steps)
    state = train(
        options.train,
        data,
        roles,
        options.objective,
        output=options.output,
        settings=_identity(options, data, start),
        processes=processes,
        preview=lambda log: HeldOutPreview(
            roles, data, options.train, options.output, processes, timesteps, log, options.sampler, decode
        ),
        progress=_progress(options.train.meters.log_every, processes),
    )
    return state.step


def _checked_roles(options: Options, data: ShardDataset, start: Start, processes: Processes) -> Roles:
    """The networks, which fit the clips, the recipe and the memory."""
    clip = data.batch([0])
    check_clips(data.meta, clip, start.teacher, isinstance(options, FromTeacher) and options.other_size)
    check_guidance(asdict(options.objective), clip)
    matching = _frame_matching(options)
    roles = start_roles(options.objective, start, options.train.seed)
    roles.schedule.timesteps(options.train.sampling_steps)  # refuses what only the first preview would
    if isinstance(options, FromTeacher):
        check_timesteps(options.objective.timesteps, roles.schedule)
    shape = clip_shape(clip, options.train.micro_batch)
    plan = plan_memory(roles, options.train, shape, processes.world if processes.sharded else 1, matching)
    if processes.main:
        print(plan.table(), flush=True)
    free = memory_for(roles, processes.device) if options.memory_gib is None else int(options.memory_gib * 2**30)
    plan.require_fit(free, str(processes.device))
    return roles


def _frame_matching(options: Options) -> FrameMatching | None:
    """How the recipe matches frames by an image model that fits; None where no image model is given."""
    if not isinstance(options, FromTeacher) or options.frame_teacher is None:
        return None
    matching = options.objective.frame_matching
    if matching is None:
        rule = f"be left out for {options.preset}"
        raise InputError(complaint("frame_teacher", rule, options.frame_teacher, "It is avdm2's."))
    check_image_model(options.frame_teacher, matching, options.teacher)
    return matching


def _identity(options: Options, data: ShardDataset, start: Start) -> dict[str, Any]:
    """All that the run's weights depend on."""
    return identity(
        options.train,
        objective={"name": type(options.objective).__name__, **asdict(options.objective)},
        data={"config_hash": data.config_hash, "clips": len(data), "views": options.views, "crop": options.crop},
        start={name: model_fingerprint(folder) for name, folder in start.folders().items()},
        backbone={"kind": start.backbone, "adapter_rank": start.adapter_rank},
        **({"network": asdict(options.network)} if isinstance(options, FromNothing) else {}),
    )


def _progress(log_every: int, processes: Processes) -> Progress:
    """Print the seconds of a step and the time left with every record of the log."""
    begin, first = time.monotonic(), -1

    def report(done: int, total: int, what: str) -> None:
        nonlocal first
        first = done - 1 if first < 0 else first
        if processes.main and done % log_every == 0:
            seconds = (time.monotonic() - begin) / (done - first)
            left = seconds * (total - done) / 60
            print(f"step {done}/{total}, {seconds:.2f} s a step, {left:.0f} min left", flush=True)

    return report


def _export(options: Options, data: ShardDataset, start: Start) -> None:
    """The trained network, as it lies in the checkpoint, into a pipeline folder of its own."""
    path = checkpoint.exported(options.output / CHECKPOINTS, options.export)
    settings = _identity(options, data, start)
    roles = start_roles(options.objective, start, options.train.seed)
    trained = roles.trainable()
    state = TrainState(trained, {}, start_average(trained["student"], options.train.ema_decay))
    checkpoint.load(path, state, settings)
    with averaged(trained["student"], state.ema):
        network: Any = roles.student_network()
    clip = data.batch([0]).latents
    network.register_to_config(sample_frames=clip.shape[1], sample_size=tuple(clip.shape[3:]))
    student = isinstance(options, FromTeacher)
    card = ModelCard(
        name=f"{options.preset} {options.result}",
        recipe=f"{type(options.objective).__name__} (preset {options.preset})",
        steps=state.step,
        sampling=few_steps(options.objective.timesteps) if student else "25 to 50 DDIM steps.",
        settings=settings,
        config_hash=config_hash(settings),
        data={"folder": options.data.name, "clips": len(data), "hash": data.config_hash, **data.meta},
        teacher=start.teacher.name if student else None,
        metrics=last_figures(options.output, state.step),
    )
    if "discriminator" in trained:  # first: where there is a student, there is what its second stage needs
        export_discriminator(roles.discriminator, options.output / "discriminator")
    output = options.output / options.result
    dtype = getattr(torch, options.export_dtype)
    export_pipeline(network, start.teacher, output, card, options.objective.timesteps, dtype, options.export_shard_size)
    print(f"Exported {path.name} to {output}")
