"""What ns-train shows of training: one bar with the PSNR and the time left, where Nerfstudio prints a table."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from nerfstudio.configs.base_config import LocalWriterConfig
from nerfstudio.utils import writer
from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_RECENT = 20
"""Records over which the PSNR shown is averaged; there is one every ten steps."""


@dataclass
class TrainingProgressConfig(LocalWriterConfig):
    """What training shows in the terminal."""

    _target: type = field(default_factory=lambda: TrainingProgress)
    enable: bool = True
    """Whether training shows a bar."""


class TrainingProgress(writer.LocalWriter):
    """Nerfstudio's terminal writer as one bar; without a terminal it is printed once, when training ends."""

    def __init__(self, config: TrainingProgressConfig, banner_messages: Sequence[str] | None = None) -> None:
        super().__init__(config)
        for message in banner_messages or []:  # where the viewer is
            CONSOLE.print(escape(message), soft_wrap=True)
        psnr, left = TextColumn("PSNR {task.fields[psnr]}"), TimeRemainingColumn()
        columns = TextColumn("training"), BarColumn(), MofNCompleteColumn(), psnr, TimeElapsedColumn(), left
        self._bar = Progress(*columns, console=CONSOLE)
        self._task = self._bar.add_task("training", total=None, psnr="-")
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def write_stats_log(self, step: int) -> None:
        """Called after every step, with what it has recorded in Nerfstudio's storage."""
        records = [event for event in writer.EVENT_STORAGE if event["name"] == "Train Metrics Dict"]
        self._recent.extend(float(event["event"]["psnr"]) for event in records)
        total = writer.GLOBAL_BUFFER["max_iter"]
        shown = f"{sum(self._recent) / len(self._recent):.1f} dB" if self._recent else "-"
        if not self._bar.finished and not self._bar.live.is_started:
            self._bar.reset(self._task, total=total, completed=step, psnr=shown)
            self._bar.start()
        self._bar.update(self._task, completed=min(step + 1, total), psnr=shown)

    def stop(self) -> None:
        """Take the bar down: what comes after is printed below it."""
        self._bar.stop()


def stop_bar() -> None:
    """Take down the bar of the training that this process runs, if there is one."""
    for one in writer.EVENT_WRITERS:
        if isinstance(one, TrainingProgress):
            one.stop()
