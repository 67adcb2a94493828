"""The command that converts checkpoints: its options, what it prints, and a full disk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import tyro
from full_disk import files_up_to
from viewcrafter_files import TINY, random_tensors, write

from fvgen.checks import InputError
from fvgen.generation import viewcrafter_checkpoint
from fvgen.generation.conversion import ConversionOptions, convert
from fvgen.generation.viewcrafter_checkpoint import ConversionReport


@pytest.fixture(scope="module")
def tensors():
    return random_tensors()


def test_the_command_names_what_it_dropped(monkeypatch, capsys):
    dropped = {"a.proj": "never used", "b.scale": "left over", "c.proj": "never used"}
    report = ConversionReport("viewcrafter-512", 7, dropped)
    monkeypatch.setattr("fvgen.generation.viewcrafter_checkpoint.convert_checkpoint", lambda *_, **__: report)
    convert(ConversionOptions(Path("a.ckpt"), Path("out")))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "viewcrafter-512: 7 tensors used, 3 without use here"
    assert lines[1:-1] == ["2  never used", "a.proj", "c.proj", "1  left over", "b.scale"]


def test_both_ways_from_the_command_line(tensors, monkeypatch, tmp_path, capsys):
    """The script's options, with tiny networks; the release is named, stored in half precision and turned back."""
    monkeypatch.setattr(viewcrafter_checkpoint, "Architecture", lambda: TINY)
    monkeypatch.setattr(sys, "argv", ["convert_viewcrafter.py"])
    write(tmp_path / "a.ckpt", tensors)

    def run(*words: str) -> str:
        convert(tyro.cli(ConversionOptions, args=[*words]))
        return capsys.readouterr().out

    there = run(str(tmp_path / "a.ckpt"), str(tmp_path / "out"), "--variant", "viewcrafter-512", "--dtype", "fp16")
    assert "[0/5] unet" in there and f"written to {tmp_path / 'out'}" in there
    back = run(str(tmp_path / "out"), str(tmp_path / "back.ckpt"), "--reverse", "--dtype", "fp32")
    assert f"{len(tensors)} tensors written to {tmp_path / 'back.ckpt'}" in back
    state = torch.load(tmp_path / "back.ckpt", weights_only=True)["state_dict"]
    name = "model.diffusion_model.out.2.weight"
    assert torch.equal(state[name], tensors[name].half().float())


@pytest.mark.parametrize("reverse", [False, True])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tensors, reverse, monkeypatch, tmp_path):
    monkeypatch.setattr(viewcrafter_checkpoint, "Architecture", lambda: TINY)
    checkpoint, folder = write(tmp_path / "a.ckpt", tensors), tmp_path / "model"
    if reverse:
        convert(ConversionOptions(checkpoint, folder))
    options = ConversionOptions(*((folder, tmp_path / "b.ckpt") if reverse else (checkpoint, folder)), reverse=reverse)
    before = {path.name for path in tmp_path.iterdir()}
    with files_up_to(50_000), pytest.raises(InputError, match="OUT must be writable, with room on its disk, got"):
        convert(options)
    assert {path.name for path in tmp_path.iterdir()} == before
