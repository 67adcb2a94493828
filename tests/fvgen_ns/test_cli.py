"""The command ``fvgen`` and its sub-commands, as users start them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from nerfstudio_commands import run

from fvgen.data.shards import ShardDataset
from fvgen_ns.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "numpy", "PIL", "cv2", "numba", "diffusers", "transformers", "nerfstudio", "tyro", "rich"}
SCRIPTS = {
    "views": "generate_views",
    "clips": "prepare_clips",
    "distill": "train_distill",
    "download": "download",
    "convert": "convert_viewcrafter",
    "parity": "check_parity",
}
SENTENCE = re.compile(r"[^a-z\W].*\.", re.DOTALL)


def fvgen(*arguments: object, python: tuple[str, ...] = ("-m", "fvgen_ns.cli")) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "100"}  # one column of options
    return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300, check=False)


def test_help_lists_the_commands_in_a_sentence_each_and_loads_none():
    code = "import sys; from fvgen_ns.cli import main; code = main(['--help']); print(*sys.modules); sys.exit(code)"
    done = fvgen(python=("-c", code))
    *text, modules = done.stdout.splitlines()
    assert done.returncode == 0 and not HEAVY & set(modules.split())
    listed = dict(line.strip().split(maxsplit=1) for line in text if line.startswith("  "))
    assert list(listed) == list(COMMANDS) and all(SENTENCE.fullmatch(about) for about in listed.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command(name, tmp_path):
    asked = (name, *(["procedural"] if name == "clips" else []), "--help")
    done = run("fvgen", *asked, cwd=tmp_path, columns=100, fresh=name == "views")
    assert done.stdout.startswith(f"usage: fvgen {name} ") and done.stderr == ""


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_calls_the_same_function(name):
    script = ROOT / "scripts" / f"{SCRIPTS[name]}.py"
    spec = importlib.util.spec_from_file_location(SCRIPTS[name], script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main.__module__ == COMMANDS[name].module


def test_clips_are_prepared(tmp_path):
    size = ("--frames", 4, "--height", 48, "--width", 64, "--orientation", "landscape")
    done = run("fvgen", "clips", "procedural", "--output", tmp_path / "clips", "--clips", 1, *size, cwd=tmp_path)
    assert "1 scenes written, 0 kept, 0 left out; 1 clips" in done.stdout
    assert len(ShardDataset(tmp_path / "clips")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND must be one of views, poses, clips, "),
        (["clip"], "got clip. See fvgen --help."),
        (["clips", "procedural", "--output", "x", "--clips", "0"], "clips must be 1 to 1000000, got 0. "),
        (["distill", "--preset", "stage3"], "preset must be one of fvgen-stage1, "),
        (["parity", "nowhere"], "nowhere"),
        (["convert", "nowhere.ckpt", "x"], "nowhere.ckpt"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and message in printed.err and printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_stops_a_command_without_a_traceback(monkeypatch, capsys):
    def interrupted(arguments, program):
        raise KeyboardInterrupt

    monkeypatch.setattr("fvgen.models.download.main", interrupted)
    assert main(["download", "viewcrafter-512"]) == 130
    assert capsys.readouterr().err == "Stopped.\n"
