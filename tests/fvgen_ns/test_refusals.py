"""What ends a command: one sentence and exit code 2, and nothing that was finished is lost."""

from __future__ import annotations

from copy import deepcopy

import pytest

from fvgen.checks import InputError
from fvgen_ns.fvgen_config import fvgen_splat_cpu
from fvgen_ns.fvgen_datamanager import FVGenDataManagerConfig
from fvgen_ns.fvgen_pipeline import FVGenPipelineConfig
from fvgen_ns.fvgen_trainer import writing


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_a_full_disk_is_named_with_the_folder(tmp_path, error):
    refusal = pytest.raises(InputError, match=f"--output-dir must be writable, with room on its disk, got {tmp_path}")
    with refusal, writing("--output-dir", tmp_path):
        raise error


@pytest.mark.parametrize("option", ["load_dir", "load_checkpoint"])
def test_resuming_from_nowhere_is_refused_before_anything_is_written(tiny_room, tmp_path, capsys, option):
    config = deepcopy(fvgen_splat_cpu.config)
    config.pipeline.datamanager.data, config.output_dir = tiny_room, tmp_path / "outputs"
    setattr(config, option, tmp_path / "run")
    with pytest.raises(SystemExit) as end:
        config.save_config()
    text = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 2 and f"--{option.replace('_', '-')} must" in text
    assert not (tmp_path / "outputs").exists()


def test_an_output_folder_that_cannot_be_written_is_refused(tiny_room, tmp_path, capsys):
    config = deepcopy(fvgen_splat_cpu.config)
    (tmp_path / "outputs").write_text("a file where the folder should be")
    config.pipeline.datamanager.data, config.output_dir = tiny_room, tmp_path / "outputs"
    with pytest.raises(SystemExit) as end:
        config.save_config()
    assert end.value.code == 2 and "--output-dir must be writable" in capsys.readouterr().out


def test_a_capture_that_is_gone_ends_every_command_in_one_sentence(tmp_path, capsys):
    config = FVGenPipelineConfig(datamanager=FVGenDataManagerConfig(data=tmp_path / "gone"))
    with pytest.raises(SystemExit) as end:  # as ns-eval, ns-render and ns-export build it
        config.setup(device="cpu", test_mode="inference")
    assert end.value.code == 2 and "the path of the capture must exist" in capsys.readouterr().out
