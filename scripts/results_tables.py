"""The tables of docs/results.md and README.md: which file each is of, and how its figures are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fvgen.evaluation.published_rows import published_lines


class ResultsTable(NamedTuple):
    """A table of the page."""

    file: str
    """JSON file in benchmarks/results; a table whose file is not there is left out."""
    title: str
    about: str
    lines: Callable[[dict[str, Any]], list[str]]


class Column(NamedTuple):
    """A score and how it is shown."""

    key: str
    name: str
    digits: int


_SPLAT = (
    Column("psnr", "PSNR", 2),
    Column("psnr_affine", "PSNR, colours fitted", 2),
    Column("ssim", "SSIM", 3),
    Column("st_lpips", "ST-LPIPS", 3),
    Column("avge", "AVGE", 4),
    Column("psnr_covered", "PSNR, covered", 2),
    Column("psnr_uncovered", "PSNR, not covered", 2),
    Column("seconds", "seconds", 0),
    Column("gaussians", "Gaussians", 0),
)
_GENERATOR = (
    Column("psnr", "PSNR", 2),
    Column("covered", "PSNR, covered", 2),
    Column("holes", "PSNR, holes", 2),
    Column("sharpness", "sharpness", 2),
    Column("seconds", "seconds a frame", 2),
)


def rows_table(rows: Mapping[str, Mapping[str, float]], columns: Sequence[Column], first: str = "") -> list[str]:
    """A row per name; columns that no row has are left out."""
    there = [column for column in columns if any(row.get(column.key) is not None for row in rows.values())]
    lines = [f"| {first} | {' | '.join(c.name for c in there)} |", f"|---|{'---:|' * len(there)}"]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(_cell(row, column) for column in there)} |")
    return lines


def _cell(row: Mapping[str, float], column: Column) -> str:
    value = row.get(column.key)
    if value is None:
        return ""
    error = row.get(f"{column.key}_se")
    return f"{value:.{column.digits}f}" + ("" if error is None else f" ±{error:.{column.digits}f}")


def _splat_means(found: dict[str, Any]) -> list[str]:
    """The means alone, for the README."""
    seeds = [row["seeds"] for capture in found["captures"].values() for row in capture.values() if "seeds" in row]
    runs = f", {min(seeds):.0f} to {max(seeds):.0f} seeds each" if seeds else ""
    return rows_table(found["mean"], _SPLAT[:5], f"mean of {len(found['captures'])} captures{runs}")


def _splats(found: dict[str, Any]) -> list[str]:
    """Means, then each capture by two scores."""
    methods = list(found["mean"])
    lines = [*rows_table(found["mean"], _SPLAT, f"mean of {len(found['captures'])} captures")]
    for column in (_SPLAT[0], _SPLAT[4]):
        if any(column.key in row for capture in found["captures"].values() for row in capture.values()):
            rows = {
                name: {method: row[method].get(column.key) for method in methods if method in row}
                for name, row in found["captures"].items()
            }
            per_capture = [Column(method, method, column.digits) for method in methods]
            lines += ["", f"{column.name} of each capture:", "", *rows_table(rows, per_capture, "capture")]
    return lines


def _geometry(found: dict[str, Any]) -> list[str]:
    columns = (
        Column("coverage", "share of held-out pixels covered", 2),
        Column("sparse_coverage", "by sparse points", 3),
        Column("psnr", "PSNR there", 2),
        Column("points", "points", 0),
        Column("seconds_per_view", "seconds a photo", 1),
    )
    return rows_table(found["captures"], columns, "capture")


def _rasterizer(found: dict[str, Any]) -> list[str]:
    rows = {f"{s['gaussians']} Gaussians, {s['width']}x{s['height']}": s for s in found["sizes"]}
    columns = (
        Column("forward_cpu_ms", "forward, CPU ms", 1),
        Column("backward_cpu_ms", "backward, CPU ms", 1),
        Column("times_torch", "times as fast as dense torch", 0),
    )
    return rows_table(rows, columns, "scene")


def _figures(found: dict[str, Any]) -> list[str]:
    lines = ["| figure | value | aim |", "|---|---:|---|"]
    for figure in found["figures"]:
        value = figure["value"]
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
        lines.append(f"| {figure['name']} | {shown} {figure['unit']} | {figure['target']} |")
    return lines


def _mixture(found: dict[str, Any]) -> list[str]:
    columns = (
        Column("distance", "distance to the mixture (lower is better)", 3),
        Column("distance_deviation", "deviation over seeds", 3),
        Column("minor_mode_share", "share in the minor mode", 3),
    )
    return rows_table(found["rows"], columns, "row")


_ABLATION = (
    Column("psnr", "PSNR", 2),
    Column("holes", "PSNR, holes", 2),
    Column("ssim", "SSIM", 3),
    Column("st_lpips", "ST-LPIPS", 3),
    Column("sharpness", "sharpness", 2),
    Column("motion", "motion", 2),
    Column("updates", "updates", 0),
    Column("clips", "clips", 0),
    Column("cpu_seconds", "processor seconds", 0),
)
_GUIDED = (
    Column("colour_drift", "colour drift", 3),
    Column("colour_error", "colour error", 3),
    Column("saturation", "saturation", 3),
)


_POSES = (
    Column("photos", "photos", 0),
    Column("placed", "placed", 0),
    Column("position_percent_of_span", "off, % of the span", 2),
    Column("degrees", "off, degrees", 2),
    Column("focal_length_ratio", "focal length, found / given", 3),
    Column("seconds", "processor seconds", 0),
    Column("held_out_placed", "held-out photos", 0),
    Column("seeds", "seeds", 0),
    Column("psnr_given_poses", "PSNR, given poses", 2),
    Column("psnr_found_poses", "PSNR, found poses", 2),
    Column("psnr_refined_poses", "PSNR, refined with the splat", 2),
)


def _poses(found: dict[str, Any]) -> list[str]:
    return rows_table(found["captures"], _POSES, "capture")


def _start_up(found: dict[str, Any]) -> list[str]:
    share = f"Files of this project take {found['own_share_of_imports']:.1%} of the time of all imports of `ns-train`."
    columns = (Column("processor_seconds", "processor seconds", 3),)
    return [*rows_table(found["rows"], columns, "command"), "", share]


def _evaluated(found: dict[str, Any]) -> list[str]:
    """A report of ``fvgen evaluate``: its scenes, its notes, the published rows beside them."""
    lines = []
    for scene, rows in found["scenes"].items():
        lines += [f"{scene}:", "", *rows_table(rows, (*_SPLAT, Column("lpips_vgg", "LPIPS", 3)), "method"), ""]
    lines += [f"- {note}" for note in found["notes"]]
    if found["published"]:
        lines += ["", "Published, not run here; their LPIPS is another network than ST-LPIPS:", ""]
        lines += published_lines(found["published"])
    return lines


def _gpu(found: dict[str, Any]) -> list[str]:
    """Every list of measurements in the file."""
    lines: list[str] = []
    for title, rows in found.items():
        if isinstance(rows, list) and rows and isinstance(rows[0], dict):
            plain = [
                {k: v for k, v in row.items() if not isinstance(v, dict) and not k.endswith("_tflop")} for row in rows
            ]
            keys = list(dict.fromkeys(key for row in plain for key in row))
            lines += ["", f"{title.capitalize()}:", "", f"| {' | '.join(keys)} |", f"|{'---|' * len(keys)}"]
            lines += [f"| {' | '.join(_plain(row.get(key)) for key in keys)} |" for row in rows]
    return lines[1:]


def _plain(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


_ALL = (
    "Real captures, held-out photos, `fvgen-splat-cpu`; every method at equal steps, size, background and rasterizer."
)
TABLES: Mapping[str, ResultsTable] = {
    "splats": ResultsTable("sparse_captures_cpu.json", "Splats of four to six photos", _ALL, _splats),
    "splats-3": ResultsTable("sparse_captures_cpu_3_views.json", "Splats of three photos", _ALL, _splats),
    "tried": ResultsTable(
        "tried_3_views_cpu.json",
        "Tried with three photos",
        "One seed. Only the sparse points stayed: the others gain nothing above the noise, and are not in the code.",
        _splats,
    ),
    "learned-depth": ResultsTable(
        "learned_depth_cpu.json",
        "What depth of single photos might be worth",
        "Three photos, one seed. In place of a depth network: depth of all photos, made worse on purpose.",
        _splats,
    ),
    "splats-2000": ResultsTable("sparse_captures_cpu_2000_steps.json", "Splats after 2000 steps", _ALL, _splats),
    "llff": ResultsTable(
        "llff_cpu.json",
        "LLFF at the papers' size",
        "`fvgen evaluate splats` on two scenes, 3 photos, 2000 steps, one seed, `fvgen-splat-cpu`.",
        _evaluated,
    ),
    "generators": ResultsTable(
        "generator_cpu.json",
        "Generated views",
        "Frames in the places of held-out photos. Sharpness is gradient energy over that of the photos.",
        lambda found: rows_table(found["mean"], _GENERATOR, "generator"),
    ),
    "geometry": ResultsTable("geometry_cpu.json", "Dense points without weights", "The plane sweep's.", _geometry),
    "poses": ResultsTable("poses_cpu.json", "Poses of photos", "Captures with their poses thrown away.", _poses),
    "repair": ResultsTable(
        "repair_cpu.json",
        "Repair",
        "The same runs with `--repair-steps` and without; 160 px, 200 steps, one seed, no trials.",
        _splats,
    ),
    "mixture": ResultsTable(
        "mixture_2d_cpu.json", "Objectives on a two-dimensional mixture", "Distilled in two dimensions.", _mixture
    ),
    "mixture-exact": ResultsTable(
        "mixture_2d_more_cpu.json", "The same, further rows", "Four seeds in place of eight.", _mixture
    ),
    "ablation": ResultsTable(
        "tiny_ablation_cpu.json",
        "The paper's ablation on tiny video",
        "Procedural clips of scenes that were not trained on. For sharpness and motion 1 is the real frames'.",
        lambda found: rows_table(found["rows"], _ABLATION, "student"),
    ),
    "presets": ResultsTable(
        "tiny_presets_cpu.json",
        "Every preset on tiny video",
        "A check that each trains, too short to rank them. Procedural clips of scenes that were not trained on.",
        lambda found: rows_table(found["rows"], _ABLATION, "student"),
    ),
    "guided": ResultsTable(
        "guided_teacher_cpu.json",
        "Colours under a guided teacher",
        "Shift of a channel's mean in the data's deviations; error of a clip's colour; slope of drawn on true colours.",
        lambda found: rows_table(found["rows"], _GUIDED, "drawn by"),
    ),
    "rasterizer": ResultsTable("rasterizer_cpu.json", "Splatting on one CPU core", "Synthetic surface.", _rasterizer),
    "startup": ResultsTable(
        "startup_cpu.json",
        "Start-up",
        "Medians over fresh processes; imports without what Python itself takes.",
        _start_up,
    ),
    "model": ResultsTable("model_cpu.json", "Network", "Sizes and work of the full-size network.", _figures),
    "gpu": ResultsTable("gpu_h100.json", "One H100", "Random weights, bf16.", _gpu),
}


README_TABLES: Mapping[str, ResultsTable] = {
    **TABLES,
    "splat-means": ResultsTable("sparse_captures_cpu.json", "", "", _splat_means),
}
"""What the README's markers may name."""
