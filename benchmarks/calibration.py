"""Whether a confidence means something: the error measured at each level of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fvgen.files import whole_file

BINS = 12


@dataclass
class Calibration:
    """Pixels' confidence and error, by method, collected over many frames."""

    pixels: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, method: str, confidence: Tensor, drawn: Tensor, truth: Tensor, real: Tensor) -> None:
        """Frames [F, 3, H, W] as drawn and as they are, confidence and which pixels are real [F, 1, H, W] each; every
        seventh pixel is kept."""
        error = (drawn - truth).square().mean(dim=1, keepdim=True)
        pair = np.stack([part[real][::7].cpu().numpy() for part in (confidence, error)])
        self.pixels.setdefault(method, []).append(pair)

    def summary(self) -> dict[str, dict[str, Any]]:
        """For each method: mean confidence and root-mean-square error of bins of as many pixels, by rising confidence,
        and the rank correlation of confidence and error."""
        from scipy.stats import spearmanr

        found = {}
        for method, parts in self.pixels.items():
            confidence, error = np.concatenate(parts, axis=1)
            if not confidence.size:
                continue
            order = np.array_split(np.argsort(confidence, kind="stable"), BINS)
            alike = not (np.ptp(confidence) > 0 and np.ptp(error) > 0)
            found[method] = {
                "confidence": [float(confidence[part].mean()) for part in order if len(part)],
                "rms_error": [float(np.sqrt(error[part].mean())) for part in order if len(part)],
                "rank_correlation": None if alike else float(spearmanr(confidence, error).statistic),
            }
        return found

    def plot(self, path: Path) -> None:
        """A line per method: error over confidence."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="tight")
        axis = figure.subplots()
        for method, row in self.summary().items():
            correlation = row["rank_correlation"]
            label = method if correlation is None else f"{method} (rank correlation {correlation:.2f})"
            axis.plot(row["confidence"], row["rms_error"], "o-", label=label)
        axis.set(xlabel="confidence", ylabel="root-mean-square error (pixels in [0, 1])", ylim=(0, None))
        if self.pixels:
            axis.legend()
        with whole_file(path) as unfinished:
            figure.savefig(unfinished, dpi=100, format="png")
