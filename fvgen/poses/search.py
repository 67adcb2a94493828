"""Many reconstructions from different starts, because few photos leave several that look right.

Incremental mapping ends in whatever its first pair and first focal length lead to. What several starts agree on is
kept; where equally good ones contradict each other, nobody knows which is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fvgen.poses.alignment import pose_difference
from fvgen.poses.mapping import MappingCameras, run_mapper
from fvgen.poses.sensor_frame import SENSOR_WIDTH
from fvgen.poses.sparse_model import SparseModel
from fvgen.poses.two_view import Pair, VerifiedPair
from fvgen.types import Progress, no_progress

FIRST_FOCALS = (1.0, 0.5, 1.8)
"""Focal lengths to start from where none is known, in widths of the sensor: 53, 90 and 31 degrees of view."""
_FIRST_PAIRS = 3
"""Initial pairs tried beside pycolmap's own choice."""
_SAME_POSITION, _SAME_ROTATION = 0.02, 1.5
"""Two reconstructions are one where no camera differs by more: part of the span, and degrees."""
_SAME_FOCAL = 1.1
"""... and no focal length by a larger factor."""
_CLEARLY_BETTER = 1.05
"""A camera per photo must explain this many times the matches to be preferred to a shared one."""
_BEND_PAYS = 1.01
"""Distortion must explain this many times the matches, or leave this many times less error, to stay."""
_AS_GOOD = 0.9
"""A reconstruction that explains this part of the best one's matches, with no more freedom, is a rival."""
_FEW_PHOTOS = 8
"""Up to so many photos every start is tried until all photos are placed; more photos contradict a wrong start."""
_EXPLAINED = 0.6
"""Part of the verified matches that a reconstruction explains before the search may end early."""


@dataclass(frozen=True)
class Candidate:
    """One reconstruction and where it came from."""

    model: SparseModel
    cameras: MappingCameras
    explained: int
    """Verified matches in its favour."""

    @property
    def one_camera_per_photo(self) -> bool:
        """Whether every photo has its own focal length."""
        return len(set(self.cameras.camera_of)) == len(self.cameras.camera_of) > 1


@dataclass(frozen=True)
class Found:
    """What the search has found."""

    best: Candidate
    rivals: tuple[Candidate, ...]
    """Others that explain nearly as much and contradict it."""


def search(
    points: Sequence[np.ndarray],
    pairs: Mapping[Pair, VerifiedPair],
    cameras: MappingCameras,
    progress: Progress = no_progress,
) -> Found | None:
    """The reconstruction that explains most verified matches, and those that contradict it; None where there is none.

    Args:
        points: per photo [N, 2] keypoints in the sensor frame.
        pairs: verified matches of the photos to place; photos without a pair stay out.
        cameras: one camera per group of photos; focal lengths that are not known are tried from `FIRST_FOCALS`.
        progress: called after each start.
    """
    candidates: list[Candidate] = []
    starts = list(_starts(pairs, cameras))
    for done, (tried, initial) in enumerate(starts):
        progress(done, len(starts), "placing the photos")
        model = run_mapper(points, pairs, tried, initial)
        if model is not None:
            candidates.append(Candidate(model, tried, sum(model.explained(pairs).values())))
            if _settled(candidates, pairs, len(_photos(pairs))):
                break
    progress(len(starts), len(starts), "placing the photos")
    if not candidates:
        return None
    best = _without_distortion(_best(candidates), points, pairs)
    rivals = [
        other
        for other in candidates
        if other.explained >= _AS_GOOD * best.explained
        and other.one_camera_per_photo <= best.one_camera_per_photo
        and not same_reconstruction(best.model, other.model)
    ]
    return Found(best, tuple(_distinct(sorted(rivals, key=lambda rival: -rival.explained))))


def _starts(
    pairs: Mapping[Pair, VerifiedPair], cameras: MappingCameras
) -> Iterator[tuple[MappingCameras, Pair | None]]:
    """The likeliest first: each focal length, from each initial pair, with shared cameras, then with one per photo."""
    photos = len(_photos(pairs))
    few = photos <= _FEW_PHOTOS
    ranked = sorted(pairs, key=lambda pair: -_worth(pairs[pair]))[: _FIRST_PAIRS if few else 1]
    initial = [None, *(pair for pair in ranked if len(pairs[pair].inliers))]
    # two photos do not show how a lens bends lines, and hardly what two focal lengths are
    variants = [replace(cameras, distorted=photos > 2 and not cameras.fixed)]
    if photos > 2 and not cameras.fixed and len(cameras.focal) < photos:
        variants.append(_one_per_photo(cameras))
    for variant in variants:
        firsts = [variant.focal] if all(variant.known) else [_unknown_from(variant, f) for f in FIRST_FOCALS]
        for pair in initial:
            for focal in firsts:
                yield replace(variant, focal=focal), pair


def _photos(pairs: Mapping[Pair, VerifiedPair]) -> set[int]:
    return {photo for pair in pairs for photo in pair}


def _worth(pair: VerifiedPair) -> float:
    """Many matches that moved by a tenth of the picture: enough of a baseline, not too much change."""
    return len(pair.inliers) * min(1.0, pair.moved / 100) * (0.5 if pair.without_parallax else 1.0)


def _unknown_from(cameras: MappingCameras, first: float) -> tuple[float, ...]:
    return tuple(f if known else first for f, known in zip(cameras.focal, cameras.known, strict=True))


def _one_per_photo(cameras: MappingCameras) -> MappingCameras:
    def each(values: Sequence) -> tuple:
        return tuple(values[camera] for camera in cameras.camera_of)

    return MappingCameras(
        tuple(range(len(cameras.camera_of))), each(cameras.focal), each(cameras.known), each(cameras.heights)
    )


def _settled(candidates: Sequence[Candidate], pairs: Mapping[Pair, VerifiedPair], photos: int) -> bool:
    """Whether the newest reconstruction places the photos, explains most matches and repeats an earlier one."""
    newest = candidates[-1]
    total = sum(len(pair.inliers) for pair in pairs.values())
    most = max(len(candidate.model.placed) for candidate in candidates)
    enough = photos if photos <= _FEW_PHOTOS else most
    if len(newest.model.placed) < enough or newest.explained < _EXPLAINED * total:
        return False
    return any(same_reconstruction(newest.model, earlier.model) for earlier in candidates[:-1])


def _best(candidates: Sequence[Candidate]) -> Candidate:
    """Most matches explained; a camera per photo must be worth it. Equal ones: the first."""
    best = candidates[0]
    for other in candidates[1:]:
        freer = other.one_camera_per_photo and not best.one_camera_per_photo
        if other.explained > best.explained * (_CLEARLY_BETTER if freer else 1.0):
            best = other
    return best


def _without_distortion(best: Candidate, points: Sequence[np.ndarray], pairs: Mapping[Pair, VerifiedPair]) -> Candidate:
    """The same with straight lines, where bending them explains nothing: with few photos it stands in for other
    errors."""
    if not best.cameras.distorted:
        return best
    focal = list(best.cameras.focal)
    for photo, lens in best.model.lenses.items():
        focal[best.cameras.camera_of[photo]] = lens.focal / SENSOR_WIDTH
    straight = replace(best.cameras, distorted=False, focal=tuple(focal))
    model = run_mapper(points, pairs, straight)
    if model is None or model.placed != best.model.placed:
        return best
    candidate = Candidate(model, straight, sum(model.explained(pairs).values()))
    pays = best.explained > _BEND_PAYS * candidate.explained or best.model.error * _BEND_PAYS < model.error
    return best if pays else candidate


def _distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    kept: list[Candidate] = []
    for candidate in candidates:
        if not any(same_reconstruction(candidate.model, other.model) for other in kept):
            kept.append(candidate)
    return kept


def same_reconstruction(first: SparseModel, second: SparseModel) -> bool:
    """Whether two reconstructions agree on the photos that both place, at least two, and on their focal lengths."""
    common = sorted(set(first.placed) & set(second.placed))
    if len(common) < 2:
        return False
    difference = pose_difference([second.c2w[i] for i in common], [first.c2w[i] for i in common])
    ratios = np.array([second.lenses[i].focal / first.lenses[i].focal for i in common])
    same_focal = bool((ratios < _SAME_FOCAL).all() and (ratios > 1 / _SAME_FOCAL).all())
    return difference.position < _SAME_POSITION and difference.degrees < _SAME_ROTATION and same_focal
