"""Why photos cannot be placed, what to photograph next, and a picture of it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import numpy as np

from fvgen.checks import complaint
from fvgen.files import whole_file
from fvgen.poses.placement import Matches, PlacementRefusedError
from fvgen.poses.sensor_frame import SENSOR_WIDTH
from fvgen.poses.two_view import Pair
from fvgen.poses.verdicts import Verdict, summary

_MOST_LINES = 150
"""Matches drawn of the best pair."""


class Cause(Enum):
    """What the photos lack as a whole: the rule they break, and what to do."""

    TOO_FEW = (
        "be at least 2 different pictures",
        "Take more photos of the same thing, each a step further to the side.",
    )
    NO_TEXTURE = (
        "show something that can be recognised from another place",
        "Take sharp photos of things with texture; on bare walls, put up posters, or books on a table before them.",
    )
    NOT_CONNECTED = (
        "show one thing from at least 2 places",
        "Photograph {between} again from places in between: each photo should share half of its picture with the next, "
        "and show things with texture.",
    )
    ONE_PLACE = (
        "be taken from places that lie apart",
        "Step sideways between photos, by a tenth of the distance to the scene, instead of turning on the spot; have "
        "things at different distances in the picture.",
    )
    CONTRADICTION = (
        "allow one reconstruction only",
        "Photograph {between} again from places in between: equally good reconstructions contradict each other now.",
    )
    FOCAL_LENGTH = (
        "say which focal length they were taken with",
        "Give --focal-length in pixels, or photos with their EXIF data, or one more photo from another side.",
    )


def refusal(matches: Matches, reasons: Mapping[int, str], cause: Cause) -> PlacementRefusedError:
    """The error that says which photos could not be placed and why, and what to photograph next.

    Args:
        matches: all photos and what they share.
        reasons: why a photo was left out, by its number.
        cause: what is wrong with the others.
    """
    rule, next_step = cause.value
    verdicts = [Verdict(photo.name, reasons.get(i, _OF_ALL[cause])) for i, photo in enumerate(matches.photos)]
    text = complaint(
        "the photos", rule, summary(verdicts).removesuffix("."), next_step.format(between=_weakest(matches))
    )
    return PlacementRefusedError(text, matches, verdicts)


_OF_ALL = {
    Cause.TOO_FEW: "there is no other",
    Cause.NO_TEXTURE: "there is nothing to compare it with",
    Cause.NOT_CONNECTED: "no reconstruction explains what they share",
    Cause.ONE_PLACE: "they were taken from one place, or show a plane alone",
    Cause.CONTRADICTION: "equally good reconstructions contradict each other",
    Cause.FOCAL_LENGTH: "poses depend on the focal length, which the photos do not tell",
}


def best_pair(matches: Matches) -> Pair | None:
    """The pair with most verified matches, or most matches where none was verified; None without any."""
    pairs = {pair: (len(found.inliers), found.matches) for pair, found in matches.pairs.items()}
    best = max(pairs, key=lambda pair: pairs[pair], default=None)
    return best if best is not None and pairs[best][1] else None


def _weakest(matches: Matches) -> str:
    """What lies between the two neighbours by name that share least."""
    seen = sorted(matches.looks)
    shared = {(i, j): len(matches.pairs[i, j].inliers) for i, j in itertools.pairwise(seen) if (i, j) in matches.pairs}
    if not shared:
        return "the scene"
    i, j = min(shared, key=lambda pair: shared[pair])
    return f"what {matches.photos[i].name} and {matches.photos[j].name} show"


def draw_refusal(error: PlacementRefusedError, path: Path) -> None:
    """A PNG: the number of verified matches of each pair of photos, and the best pair with its matches.

    Raises:
        OSError: the place cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 6), dpi=100, layout="constrained")
    table, picture = figure.subplots(1, 2, width_ratios=[1, 1.6])
    _draw_matrix(table, error.matches)
    _draw_best(picture, error.matches)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # the room that labels take is known after the first drawing
    with whole_file(path) as unfinished:
        canvas.print_png(str(unfinished))


def _draw_matrix(axes, matches: Matches) -> None:
    seen = sorted(matches.looks)
    counts = np.full((len(seen), len(seen)), np.nan)
    for (i, j), found in matches.pairs.items():
        counts[seen.index(i), seen.index(j)] = counts[seen.index(j), seen.index(i)] = len(found.inliers)
    axes.imshow(np.nan_to_num(counts), cmap="Greens", vmin=0, vmax=200)
    names = [Path(matches.photos[i].name).name for i in seen]
    axes.set_xticks(range(len(seen)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(seen)), names, fontsize=8)
    axes.set_title("Verified matches of each pair")
    if len(seen) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            if np.isfinite(count):
                axes.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=8)


def _draw_best(axes, matches: Matches) -> None:
    axes.set_axis_off()
    pair = best_pair(matches)
    if pair is None:
        axes.set_title("No two photos match")
        return
    first, second = (matches.looks[i] for i in pair)
    height = max(first.small.shape[0], second.small.shape[0])
    width = first.small.shape[1]
    canvas = np.full((height, 2 * width, 3), 255, np.uint8)
    canvas[: first.small.shape[0], :width] = first.small
    canvas[: second.small.shape[0], width:] = second.small
    axes.imshow(canvas)
    kept = matches.pairs[pair].inliers
    for a, b in kept[:: max(1, len(kept) // _MOST_LINES)]:
        scale = width / SENSOR_WIDTH
        (x, y), (u, v) = scale * first.points[a], scale * second.points[b]
        axes.plot([x, u + width], [y, v], linewidth=0.5)
    names = " and ".join(matches.photos[i].name for i in pair)
    axes.set_title(f"The best pair: {names}, {len(kept)} verified of {matches.pairs[pair].matches} matches")
