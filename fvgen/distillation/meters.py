"""What a run logs: a plain JSONL, TensorBoard, Weights & Biases when asked, and pictures."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fvgen.checks import InputError, complaint
from fvgen.distillation.health import Watch, accuracies, clip_statistics, compared_with_data
from fvgen.distillation.parallel import Processes
from fvgen.distillation.settings import MeterConfig
from fvgen.files import disk_errors, whole_file

LOG = "log.jsonl"
HISTOGRAM_BINS = 30
GENERATED = "generated"
"""Name under which an objective hands over the student's clips [B, F, C, h, w]."""


class UpdateMeters:
    """The figures of one update, from all of its micro-batches and over all processes.

    Tensors of an objective's dictionary with no axis are averaged over clips, those with one [B] are pooled, and
    ``generated`` [B, F, C, h, w] is measured against the data.
    """

    def __init__(self, global_batch: int) -> None:
        self._global_batch = global_batch
        self._sums: dict[str, Tensor] = {}
        self._pools: dict[str, list[Tensor]] = {}

    def add(self, values: Mapping[str, Tensor], real: Tensor) -> None:
        """Take in one micro-batch's dictionary; ``real`` [B, F, C, h, w] are its clips."""
        count = len(real)
        for name, value in values.items():
            value = value.detach()
            if name == GENERATED:
                for kind, clips in (("generated", value), ("real", real)):
                    for key, figure in clip_statistics(clips).items():
                        self._add(f"{kind}/{key}", figure, count)
            elif value.ndim == 0:
                self._add(name, value.float(), count)
            else:
                self._pools.setdefault(name, []).append(value.float().flatten().cpu())

    def _add(self, name: str, value: Tensor, count: int) -> None:
        part = value.cpu() * (count / self._global_batch)
        self._sums[name] = self._sums[name] + part if name in self._sums else part

    def totals(self, processes: Processes) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Named figures, and pooled values [n] by name; all processes must ask."""
        sums = {name: processes.sum(value) for name, value in self._sums.items()}
        pools = {name: processes.gather(torch.cat(values)) for name, values in self._pools.items()}
        figures = {name: float(value) for name, value in sums.items() if "/" not in name}
        if "generated/mean" in sums:
            sides = [
                {k.split("/")[1]: v for k, v in sums.items() if k.startswith(f"{s}/")} for s in ("generated", "real")
            ]
            figures |= compared_with_data(*sides)
        figures |= accuracies(pools)
        for name, values in pools.items():
            figures[f"{name}_mean"] = float(values.mean())
            if len(values) > 1:  # one clip has no spread, and 0 would look like clips that are all alike
                figures[f"{name}_spread"] = float(values.std(unbiased=False))
        return figures, pools


@dataclass
class StepFigures:
    """What one step logs."""

    detailed: bool
    """Whether more is logged of this step than the norms of its gradients."""
    numbers: dict[str, float] = field(default_factory=dict)
    pools: dict[str, Tensor] = field(default_factory=dict)
    """Values [n] of single clips."""

    def add(self, phase: str, meters: UpdateMeters, processes: Processes) -> None:
        """Take in the meters of an update of this phase, summed over processes; all processes must call."""
        numbers, pools = meters.totals(processes)
        self.numbers |= {f"{phase}/{name}": value for name, value in numbers.items()}
        self.pools |= {f"{phase}/{name}": values for name, values in pools.items()}


class Log:
    """The run's records; only the main process writes.

    Args:
        folder: of the run.
        config: how often and where to.
        step: records after this step belong to an unbroken run's future and are dropped (a killed run did them).
        settings: of the run, for Weights & Biases.

    Raises:
        InputError: the folder cannot be written, or a board that was asked for is not installed.
    """

    def __init__(self, folder: Path, config: MeterConfig, step: int, settings: Mapping[str, Any]) -> None:
        self._path = folder / LOG
        self._watch = Watch()
        self._started = time.perf_counter()
        next_step = "Free disk space, or use another --output; then start the same command again."
        with disk_errors("output", folder, next_step):
            folder.mkdir(parents=True, exist_ok=True)
            self._drop_after(step)
            self._board = _tensorboard(folder, step) if config.tensorboard else None
        self._wandb = _wandb(folder, settings) if config.wandb else None

    def _drop_after(self, step: int) -> None:
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        kept = [line for line in lines if _step(line) <= step]
        if kept != lines:
            with whole_file(self._path) as unfinished:
                unfinished.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def note(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures that are not of every record: of held-out clips."""
        try:
            self._append({"step": step, **figures})
            self._show(step, figures, {})
        except OSError as error:
            warnings.warn(f"step {step}: not logged, {error}", stacklevel=2)

    def write(self, step: int, figures: Mapping[str, float], pools: Mapping[str, Tensor]) -> None:
        """One record, with a warning where a sign is bad."""
        histograms = {name: _histogram(values) for name, values in pools.items()}
        record: dict[str, Any] = {"step": step, **figures, "seconds": round(time.perf_counter() - self._started, 3)}
        found = self._watch.warnings(figures)
        if found:
            record["warnings"] = found
        for text in found:
            warnings.warn(f"step {step}: {text}", stacklevel=2)
        try:
            self._append({**record, "histograms": histograms})
            self._show(step, figures, pools)
        except OSError as error:  # a full disk; the next checkpoint will say so, and weights are worth more than a log
            warnings.warn(f"step {step}: not logged, {error}", stacklevel=2)

    def _show(self, step: int, figures: Mapping[str, float], pools: Mapping[str, Tensor]) -> None:
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
            for name, values in pools.items():
                self._board.add_histogram(name, values, step)
        if self._wandb is not None:
            self._wandb.log(dict(figures), step=step)

    def picture(self, step: int, image: Tensor) -> None:
        """Show a picture [3, H, W] in [0, 1] on the boards."""
        if self._board is not None:
            self._board.add_image("samples", image, step)
        if self._wandb is not None:
            import wandb

            self._wandb.log({"samples": wandb.Image(image.permute(1, 2, 0).numpy())}, step=step)

    def close(self) -> None:
        """Flush the boards."""
        try:
            if self._board is not None:
                self._board.close()
            if self._wandb is not None:
                self._wandb.finish()
        except OSError as error:
            warnings.warn(f"the boards' last figures were not written, {error}", stacklevel=2)

    def _append(self, record: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def last_figures(folder: Path, step: int) -> dict[str, float]:
    """The last value of every figure in a run's log, up to a step."""
    found: dict[str, float] = {}
    for line in (folder / LOG).read_text(encoding="utf-8").splitlines() if (folder / LOG).is_file() else ():
        if _step(line) <= step:
            found |= {name: value for name, value in json.loads(line).items() if "/" in name}
    return found


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):  # a line that a kill cut short
        return float("inf")


def _histogram(values: Tensor) -> dict[str, list[float]]:
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = torch.linspace(low, high, HISTOGRAM_BINS + 1)
    return {"edges": edges.tolist(), "counts": torch.histogram(values, edges).hist.tolist()}


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        next_step = "Install it with: pip install 'fvgen-nerfstudio[train]'; or give --meters.no-tensorboard."
        raise InputError(complaint("tensorboard", "be installed", error, next_step)) from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)


def _wandb(folder: Path, settings: Mapping[str, Any]) -> Any:
    try:
        import wandb
    except ImportError as error:
        next_step = "Install it with: pip install wandb; or leave it out."
        raise InputError(complaint("wandb", "be installed", error, next_step)) from error
    # The run's folder names it, so that a continued run goes on in the same place.
    where: dict[str, Any] = {"project": "fvgen", "id": folder.resolve().name, "dir": str(folder)}
    try:
        return wandb.init(**where, resume="allow", config=dict(settings))
    except wandb.Error as error:
        next_step = "See to it, work without it by WANDB_MODE=offline, or leave it out."
        raise InputError(complaint("wandb", "start a run", f"'{error}'", next_step)) from error
