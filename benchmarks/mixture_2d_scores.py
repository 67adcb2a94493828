"""How a row of `mixture_2d` is measured and shown."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch
from mixture_2d_networks import DEVIATION, MEANS, WEIGHTS
from torch import Tensor

MINOR = 3
KEPT = 0.02
"""Share from which the minor mode counts as kept: a fifth of its weight."""


def shares(points: Tensor) -> list[float]:
    """Share of points [N, 2] within three deviations of each mode."""
    near = (points[:, None] - MEANS).norm(dim=-1) < 3 * DEVIATION
    return near.float().mean(0).tolist()


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 128) -> float:
    """Mean over directions of the distance W1 between the projections of a and b [N, 2]."""
    angles = torch.arange(directions) * torch.pi / directions
    onto = torch.stack([angles.cos(), angles.sin()])
    return float(((a @ onto).sort(0).values - (b @ onto).sort(0).values).abs().mean())


def summary(points: Tensor, meters: dict[str, float], truth: Tensor) -> dict[str, Any]:
    """A row: means, deviations and counts over the runs of points [seeds, N, 2]."""
    by_mode = [shares(run) for run in points]
    minor = [run[MINOR] for run in by_mode]
    distance = [sliced_wasserstein(run, truth) for run in points]
    return {
        "minor_mode_kept": sum(share >= KEPT for share in minor),
        "minor_mode_share": statistics.fmean(minor),
        "minor_mode_share_deviation": statistics.pstdev(minor),
        "minor_mode_share_by_seed": minor,
        "distance": statistics.fmean(distance),
        "distance_deviation": statistics.pstdev(distance),
        "distance_by_seed": distance,
        "all_modes_kept": sum(
            all(share >= KEPT / 0.1 * weight for share, weight in zip(run, WEIGHTS.tolist(), strict=True))
            for run in by_mode
        ),
        "points_in_modes": statistics.fmean(map(sum, by_mode)),
        "meters": meters,
    }


def plot(found: dict[str, Tensor], rows: dict[str, dict[str, Any]], path: Path) -> None:
    """The points [seeds, N, 2] of every row, and the minor mode's share by run."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    figure = Figure(figsize=(14, 15), layout="constrained")
    axes = figure.subplots(4, 4).flatten()
    for axis, (name, row) in zip(axes, rows.items(), strict=False):
        x, y = found[name].flatten(0, 1)[::8].T.tolist()
        axis.scatter(x, y, s=0.5, alpha=0.2)
        for mean, weight in zip(MEANS.tolist(), WEIGHTS.tolist(), strict=True):
            colour = "tab:red" if weight < 0.2 else "gray"
            axis.add_artist(Circle((mean[0], mean[1]), 3 * DEVIATION, fill=False, color=colour))
        axis.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", xticks=[], yticks=[])
        kept = f"minor mode {row['minor_mode_share']:.3f}, kept {row['minor_mode_kept']} of {len(found[name])}"
        axis.set_title(f"{name}\n{kept},\ndistance {row['distance']:.3f}", fontsize=8)
    last = axes[-2]
    for place, row in enumerate(rows.values()):
        last.plot(row["minor_mode_share_by_seed"], [-place] * len(row["minor_mode_share_by_seed"]), "o", alpha=0.5)
    last.axvline(0.1, color="gray")
    last.axvline(KEPT, color="tab:red", linestyle=":")
    last.set_xlabel("minor mode's share by run (truth 0.1)")
    last.set_yticks([-place for place in range(len(rows))], list(rows), fontsize=7)
    for axis in (*axes[len(rows) : -2], axes[-1]):
        axis.set_axis_off()
    figure.savefig(path, dpi=90, bbox_inches="tight")  # titles are wider than their plots
