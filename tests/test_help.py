"""Every text that --help of a command shows stands alone: a plain sentence or noun phrase."""

from __future__ import annotations

from pathlib import Path

import pytest
from help_text import shown_help, texts
from nerfstudio_commands import BIN

from fvgen.distillation.configs import PRESETS
from fvgen.poses.options import PoseOptions
from fvgen_ns.densify_config import DensifyConfig
from fvgen_ns.fvgen_config import fvgen_splat, fvgen_splat_cpu
from fvgen_ns.fvgen_datamanager import FVGenDataManagerConfig
from fvgen_ns.fvgen_dataparser import fvgen_data
from fvgen_ns.fvgen_model import FVGenModelConfig

ROOT = Path(__file__).resolve().parents[1]
FILES = [
    str(path)
    for folder in ("scripts", "benchmarks")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "__main__" in path.read_text()
]
COMMANDS = [
    *([file] for file in FILES),
    *([str(ROOT / "scripts/prepare_clips.py"), kind] for kind in ("procedural", "captures")),
    *([str(ROOT / "scripts/train_distill.py"), "--preset", preset] for preset in PRESETS),
    [str(BIN / "ns-train"), "fvgen-splat", "fvgen-data"],
]
PLUGIN = [str(BIN / "ns-train"), "fvgen-splat"]
OURS = {
    "pipeline.datamanager.": FVGenDataManagerConfig,
    "pipeline.datamanager.densify.": DensifyConfig,
    "pipeline.datamanager.poses.": PoseOptions,
    "pipeline.model.": FVGenModelConfig,
}
"""Where options that this project adds to Nerfstudio's stand, and in which class."""
DANGLING = {"and", "by", "of", "than", "that", "which", "who", "whose"}
"""Words that go on with a sentence whose beginning the reader never saw."""


def faults(named: dict[str, str]) -> list[str]:
    """What is wrong with each text that is no plain sentence or noun phrase."""
    found = []
    for name, text in named.items():
        first = text.split()[0] if text else ""
        if not text:
            found.append(f"{name}: no text")
        elif text[0].islower():
            found.append(f"{name} begins in lower case: {text}")
        elif first.lower() in DANGLING:
            found.append(f"{name} goes on with what nobody said: {text}")
        elif not text.endswith("."):
            found.append(f"{name} lacks a full stop: {text}")
    return found


def own_options(prefix: str, config: type) -> list[str]:
    """Options that a class adds, by the name that its help shows first: the short one where there is one."""
    groups = {"dataparser", "densify", "poses"}
    names = [name for name in config.__annotations__ if not name.startswith("_") and name not in groups]
    is_long = {name: isinstance(config.__annotations__[name], str) for name in names}  # as `short_forms` left it
    return [f"--{prefix if is_long[name] else ''}{name.replace('_', '-')}" for name in names]


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> dict[str, dict[str, str]]:
    """Command -> the texts of its help."""
    commands = [*COMMANDS, PLUGIN]
    helps = shown_help(commands, tmp_path_factory.mktemp("help"))
    return {" ".join(command): texts(help_) for command, help_ in zip(commands, helps, strict=True)}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join([Path(command[0]).name, *command[1:]]))
def test_texts_of_a_command_stand_alone(command, shown):
    named = shown[" ".join(command)]
    assert named
    assert faults(named) == []


@pytest.mark.parametrize(("prefix", "config"), OURS.items(), ids=OURS)
def test_texts_of_the_plugin_stand_alone(prefix, config, shown):
    everything = shown[" ".join(PLUGIN)]
    options = own_options(prefix, config)
    assert options
    assert faults({option: everything[option] for option in options}) == []


def test_options_of_the_plugin_stand_before_nerfstudios(shown):
    order = list(shown[" ".join(PLUGIN)])
    ours = [order.index(option) for prefix, config in OURS.items() for option in own_options(prefix, config)]
    assert order[0] == "--quality"
    assert max(ours) < order.index("--machine.seed") < order.index("--viewer.websocket-port")


def test_the_plugin_describes_itself():
    assert faults({one.config.method_name: one.description for one in (fvgen_splat, fvgen_splat_cpu)}) == []
    assert faults({"fvgen-data": fvgen_data.description}) == []


def test_faults_are_seen():
    texts_of = {"a": "Random seed.", "b": "random seed.", "c": "Of the noise.", "d": "Random seed", "e": ""}
    assert [fault[0] for fault in faults(texts_of)] == ["b", "c", "d", "e"]
