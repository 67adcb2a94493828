"""Settings that count iterations, as fractions of the run: a longer run does the same more slowly, so that methods can
be compared at any length."""

from __future__ import annotations

from typing import Any


def schedule(iterations: int) -> dict[str, Any]:
    """Option, as an attribute of the trainer's config -> its value in a run of so many iterations."""
    decaying = {
        f"optimizers.{name}.scheduler.max_steps": iterations for name in ("means", "photo_colours", "camera_opt")
    }
    return {
        **decaying,
        "steps_per_eval_all_images": iterations,
        "pipeline.model.warmup_length": iterations // 6,
        "pipeline.model.refine_every": max(iterations // 12, 50),
        "pipeline.model.stop_split_at": iterations // 2,
        "pipeline.model.reset_alpha_every": iterations,  # never: a short run does not recover from it
        "pipeline.model.sh_degree_interval": max(iterations // 4, 1),
        "pipeline.model.dropout_rise": iterations,
        "pipeline.model.size_growth": min(max(1600 / iterations, 1.0), 10.0),  # more throws sizes about
    }


def set_schedule(config: Any, iterations: int) -> None:
    """Give all of a trainer's settings that count iterations their values for a run of so many."""
    for option, value in schedule(iterations).items():
        _set(config, option, value)
    config.max_num_iterations = config.schedule_iterations = iterations


def follow_iterations(config: Any) -> None:
    """Fit a trainer's schedules to its ``max_num_iterations``; what the user has set to something else stays.

    Args:
        config: whose numbers are meant for ``schedule_iterations``; that is changed with them, so that doing this once
            more changes nothing.
    """
    before, after = schedule(config.schedule_iterations), schedule(config.max_num_iterations)
    for option, value in after.items():
        if _get(config, option) == before[option]:
            _set(config, option, value)
    config.schedule_iterations = config.max_num_iterations


def _get(config: Any, option: str) -> Any:
    for name in option.split("."):
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config


def _set(config: Any, option: str, value: Any) -> None:
    owner, _, name = option.rpartition(".")
    setattr(_get(config, owner) if owner else config, name, value)
