"""What ends a command: one sentence and exit code 2, and nothing that was finished is lost."""

from __future__ import annotations

from copy import deepcopy

import pytest

from fvgen.checks import InputError
from fvgen_ns.fvgen_config import fvgen_splat_cpu
from fvgen_ns.fvgen_datamanager import FVGenDataManagerConfig
from fvgen_ns.fvgen_model import FVGenModelConfig
from fvgen_ns.fvgen_pipeline import FVGenPipelineConfig


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


def test_a_capture_that_moved_is_refused_with_the_line_to_change(tmp_path, capsys):
    config = FVGenPipelineConfig(datamanager=FVGenDataManagerConfig(data=tmp_path / "gone"))
    with pytest.raises(SystemExit) as end:  # as ns-eval and ns-viewer build it
        config.setup(device="cpu", test_mode="test")
    text = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 2 and f"got {tmp_path / 'gone'}, where nothing is" in text
    assert "the line that begins with 'data:' in the run's config.yml" in text


def test_a_splat_is_exported_without_its_capture(tmp_path, capsys):
    config = FVGenPipelineConfig(datamanager=FVGenDataManagerConfig(data=tmp_path / "gone"))
    config.model.num_random = 10
    pipeline = config.setup(device="cpu", test_mode="inference")  # as ns-export and ns-render camera-path build it
    stored = {f"_model.{k}": v for k, v in pipeline.model.state_dict().items()}
    pipeline.load_pipeline(stored, 5)
    assert pipeline.model.num_points == 10 and len(pipeline.datamanager.train_dataset) == 0
    assert "Going on without the photos" in " ".join(capsys.readouterr().out.split())


OUT_OF_RANGE = {
    "initial_opacity": 1.0, "initial_size": 0.0, "opacity_penalty": -1.0, "size_penalty": -1.0, "dropout": 1.0,
    "dropout_rise": 0, "size_growth": 0.0, "sh_degree": 4, "sh_degree_interval": 0, "rasterizer": "gsplat",
}  # fmt: skip


@pytest.mark.parametrize("option", OUT_OF_RANGE)
def test_options_that_cannot_work_are_refused_by_name(option):
    model = FVGenModelConfig()
    model.check("cpu")
    setattr(model, option, OUT_OF_RANGE[option])
    with pytest.raises(InputError, match=option.replace("_", "-")):
        model.check("cpu")
