"""A smooth curve through camera poses and intrinsics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from fvgen.types import Cameras

_SAMPLES_PER_CLIP = 256
"""Points at which the length of a clip is measured to space its frames evenly."""
_TURN_WEIGHT = 1e-3
"""Share of turning in that length: it only decides where the camera hardly moves."""


class CameraCurve:
    """The centripetal Catmull-Rom curve through the cameras at the stops, in float64 on the CPU.

    It passes through each camera with one tangent for both sides and neither overshoots nor loops between them (Yuksel
    et al. 2011). Evaluated by Barry & Goldman's pyramid (1988), with slerp for rotations (Schlag 1991).
    """

    def __init__(self, cameras: Cameras, stops: Sequence[int], closed: bool, change: Tensor) -> None:
        """``stops`` index the V cameras (a closed curve repeats its first); ``change`` [V, V] spaces the knots."""
        index = torch.tensor(stops)
        c2w = cameras.c2w.double().cpu()[index]
        vectors = torch.cat([c2w[:, :3, 3], cameras.K.double().cpu()[index].flatten(1)], dim=1)
        turns = torch.from_numpy(Rotation.from_matrix(c2w[:, :3, :3].numpy()).as_quat())
        for i in range(1, len(turns)):
            if float(turns[i] @ turns[i - 1]) < 0:
                turns[i] = -turns[i]
        step = change.cpu()[index[:-1], index[1:]].clamp_min(1e-9).sqrt()
        # One more stop at each end: the neighbour round a closed curve, or a mirror image of the first step.
        if closed:
            sign = torch.sign(turns[0] @ turns[-1])  # round a full turn the quaternion comes back negated
            before, after = (vectors[-2], sign * turns[-2]), (vectors[1], sign * turns[1])
            step = torch.cat([step[-1:], step, step[:1]])
        else:
            two = torch.tensor(2.0, dtype=torch.float64)
            before = (_lerp(vectors[1], vectors[0], two), _slerp(turns[1], turns[0], two))
            after = (_lerp(vectors[-2], vectors[-1], two), _slerp(turns[-2], turns[-1], two))
            step = torch.cat([step[:1], step, step[-1:]])
        self.vectors = torch.cat([before[0][None], vectors, after[0][None]])
        self.turns = torch.cat([before[1][None], turns, after[1][None]])
        self.knots = torch.cat([torch.zeros(1, dtype=torch.float64), step.cumsum(0)])

    def frames(self, clip: int, count: int) -> tuple[Tensor, Tensor]:
        """c2w [count, 4, 4] and K [count, 3, 3] of a clip, at even distances along the curve."""
        start, end = self.knots[clip + 1], self.knots[clip + 2]
        fine = torch.linspace(0, 1, _SAMPLES_PER_CLIP + 1, dtype=torch.float64) * (end - start) + start
        vectors, turns = self._at(clip, fine)
        moved = (vectors[1:, :3] - vectors[:-1, :3]).norm(dim=1)
        turned = 2 * (turns[1:] - turns[:-1]).norm(dim=1)
        scale = float((self.vectors[1:, :3] - self.vectors[:-1, :3]).norm(dim=1).max()) or 1.0
        length = torch.cat([torch.zeros(1, dtype=torch.float64), (moved + _TURN_WEIGHT * scale * turned).cumsum(0)])
        wanted = torch.linspace(0, 1, count, dtype=torch.float64) * length[-1]
        right = torch.searchsorted(length, wanted).clamp(1, _SAMPLES_PER_CLIP)
        share = (wanted - length[right - 1]) / (length[right] - length[right - 1]).clamp_min(1e-15)
        vectors, turns = self._at(clip, fine[right - 1] + share * (fine[right] - fine[right - 1]))
        return _pose(vectors[:, :3], turns), vectors[:, 3:].reshape(-1, 3, 3)

    def _at(self, clip: int, t: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [T, D] and unit quaternions [T, 4] at curve parameters t [T] of a clip."""
        knots = self.knots[clip : clip + 4]
        return (
            _catmull_rom(self.vectors[clip : clip + 4], knots, t, _lerp),
            _catmull_rom(self.turns[clip : clip + 4], knots, t, _slerp),
        )


def _catmull_rom(values: Tensor, knots: Tensor, t: Tensor, mix: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Barry & Goldman's pyramid over four values [4, D] at four knots [4], for t [T] between the middle two: [T, D]."""
    level: list[Tensor] = [value[None].expand(len(t), -1) for value in values]
    # Each level mixes over the knots that its values span; the last one over the middle interval again.
    for spans in (((0, 1), (1, 2), (2, 3)), ((0, 2), (1, 3)), ((1, 2),)):
        level = [
            mix(level[i], level[i + 1], ((t - knots[a]) / (knots[b] - knots[a]))[:, None])
            for i, (a, b) in enumerate(spans)
        ]
    return level[0]


def _lerp(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    return a + s * (b - a)


def _slerp(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """Unit quaternions [..., 4] along the great circle from a to b; s beyond [0, 1] goes on along it."""
    angle = torch.atan2((b - a).norm(dim=-1, keepdim=True), (b + a).norm(dim=-1, keepdim=True)) * 2
    straight = angle < 1e-8
    sine = torch.where(straight, torch.ones_like(angle), angle.sin())
    out = torch.where(straight, _lerp(a, b, s), (((1 - s) * angle).sin() * a + (s * angle).sin() * b) / sine)
    return torch.nn.functional.normalize(out, dim=-1)


def _pose(position: Tensor, turn: Tensor) -> Tensor:
    """[F, 4, 4] from positions [F, 3] and unit quaternions [F, 4] (x y z w)."""
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(position), 1, 1)
    c2w[:, :3, :3] = torch.from_numpy(Rotation.from_quat(turn.numpy()).as_matrix())
    c2w[:, :3, 3] = position
    return c2w
