"""Student and teacher in the plugin: weights are looked for first, content decides the key, inference loads nothing."""

import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nerfstudio_commands import run

from fvgen.checks import InputError
from fvgen.data.working_size import make_capture
from fvgen.generation import diffusion_views
from fvgen.models.find import BUNDLED, find_model, locate_model
from fvgen.models.folder import model_fingerprint
from fvgen_ns import densify_config
from fvgen_ns.capture_split import CaptureSplit
from fvgen_ns.densify import densify, views_key
from fvgen_ns.densify_config import DensifyConfig
from fvgen_ns.fvgen_dataparser import FVGenDataParserConfig


@pytest.fixture(scope="module")
def outputs(tiny_room):
    return FVGenDataParserConfig(data=tiny_room).setup().get_dataparser_outputs("train")


def settings(cache: Path, **changed) -> DensifyConfig:
    usual = {"geometry": "capture-depth", "working_size": 64, "frames_per_clip": 3, "trials": False}
    return DensifyConfig(**{**usual, "cache_dir": cache, **changed})


def made(outputs, config: DensifyConfig, generate: bool = True):
    split = CaptureSplit.of(outputs)
    capture = make_capture(split.frames, config.working_size, depth_unit=split.depth_unit) if generate else None
    return densify(split, config, max_points=2000, image_size=64, capture=capture).outputs


@pytest.fixture
def model(tiny_model, tmp_path) -> Path:
    """A student's folder to damage."""
    return Path(shutil.copytree(tiny_model("student"), tmp_path / "model"))


def test_student_draws_once_is_freed_and_is_never_loaded_for_inference(outputs, tiny_model, tmp_path, monkeypatch):
    loaded = []
    load = diffusion_views.FVGenPipeline.from_pretrained

    def counted(*args, **kwargs):
        pipeline = load(*args, **kwargs)
        loaded.append(weakref.ref(pipeline.unet))
        return pipeline

    monkeypatch.setattr(diffusion_views.FVGenPipeline, "from_pretrained", counted)
    config = settings(tmp_path / "cache", generator="student", model=tiny_model("student"))
    first = made(outputs, config)
    photos = first.metadata["num_photos"]
    assert len(first.image_filenames) > photos == len(outputs.image_filenames)
    assert len(loaded) == 1 and loaded[0]() is None  # one load for all clips, and gone before a splat could train
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "cache").rglob("*"))
    again = made(outputs, config, generate=False)
    assert [str(p) for p in again.image_filenames] == [str(p) for p in first.image_filenames]
    assert len(loaded) == 1 and sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "cache").rglob("*")) == before


def test_inference_without_cache_or_weights_shows_the_photos(outputs, tmp_path, monkeypatch):
    monkeypatch.setattr(densify_config, "find_model", lambda *a: pytest.fail("weights were looked for"))
    config = settings(tmp_path / "cache", generator="student", model=tmp_path / "gone")
    shown = made(outputs, config, generate=False)
    assert len(shown.image_filenames) == len(outputs.image_filenames)
    assert any("No generated views" in note for note in shown.metadata["notes"])
    assert not (tmp_path / "cache").exists()


def test_the_key_follows_the_models_content_and_nothing_else_of_it(outputs, model, tmp_path):
    split = CaptureSplit.of(outputs)

    def key(**changed) -> str:
        return views_key(split, settings(tmp_path, **{"generator": "student", "model": model, **changed}))

    original = key()
    moved = Path(shutil.copytree(model, tmp_path / "moved"))
    assert key(model=moved) == original == key(low_memory=True)
    assert len({original, key(confidence_seeds=1), key(generator="warp"), key(seed=1), key(sampling_steps=1)}) == 5
    assert key(generator="warp", model=None) == key(generator="warp")
    file = model / "unet/diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1  # as training leaves it: other values, the same size
    file.write_bytes(content)
    assert key() != original


def truncated(folder: Path) -> None:
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def foreign_class(folder: Path) -> None:
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("FVGenPipeline", "StableDiffusionPipeline"))


def foreign_code(folder: Path) -> None:
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("fvgen.models.unet_3d", "somebodys.module"))


BAD = {
    "with model_index.json": lambda f: (f / "model_index.json").unlink(),
    "readable JSON": lambda f: (f / "model_index.json").write_text("{"),
    "be a saved FVGenPipeline, got StableDiffusionPipeline": foreign_class,
    "come from fvgen, diffusers or transformers": foreign_code,
    "cut short or damaged": truncated,
    "have .safetensors weights": lambda f: (f / "unet/diffusion_pytorch_model.safetensors").unlink(),
    "config.json for every component": lambda f: (f / "vae/config.json").unlink(),
}


def test_a_model_with_image_tokens_draws_its_own_clips_and_the_wanted_frames_are_kept(outputs, tiny_model, tmp_path):
    """The tiny teacher knows clips of 4 frames; 3 a clip are asked for."""
    config = settings(tmp_path / "cache", generator="teacher", model=tiny_model("teacher"))
    shown = made(outputs, config)
    photos = shown.metadata["num_photos"]
    students = made(outputs, replace(config, generator="student", model=tiny_model("student")))
    assert len(shown.image_filenames) == len(students.image_filenames) > photos


@pytest.mark.parametrize("path", ["orbit", "spiral"])
@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_paths_without_photos_are_refused_for_networks(kind, path, tiny_model, tmp_path):
    config = settings(tmp_path / "cache", generator=kind, model=tiny_model(kind), path=path)
    with pytest.raises(InputError, match=rf"--path must be between or viewcrafter for the generator {kind}.*{path}"):
        config.check()


@pytest.mark.parametrize("message", BAD)
def test_a_wrong_folder_is_refused_before_geometry(outputs, model, tmp_path, message):
    BAD[message](model)
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        made(outputs, settings(tmp_path / "cache", generator="student", model=model))
    assert not (tmp_path / "cache").exists()


def test_a_teachers_folder_is_no_student(tiny_model):
    with pytest.raises(InputError, match=r"sampler few_step, got ddim .*Use the generator teacher"):
        find_model("student", tiny_model("teacher"))


def test_models_are_found_by_folder_variant_and_hub_cache(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_model("teacher", tiny_model("teacher")) == tiny_model("teacher")
    assert locate_model("teacher") is None
    assert find_model("student") == find_model("student", "tiny") == BUNDLED / "student"
    assert find_model("teacher", "tiny") == BUNDLED / "teacher"
    assert locate_model("teacher", "no-such/repository") is None and locate_model("teacher", "/no/such/folder") is None
    shutil.copytree(tiny_model("teacher"), tmp_path / "models/viewcrafter-512")
    assert find_model("teacher") == find_model("teacher", "viewcrafter-512") == Path("models/viewcrafter-512")
    cache = tmp_path / "hub"
    snapshot = cache / "models--somebody--student/snapshots" / ("0" * 40)
    shutil.copytree(tiny_model("student"), snapshot)
    (cache / "models--somebody--student/refs").mkdir()
    (cache / "models--somebody--student/refs/main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    assert find_model("student", "somebody/student") == snapshot
    assert model_fingerprint(snapshot) == model_fingerprint(tiny_model("student"))


def test_training_without_the_teachers_weights_ends_at_once_and_writes_nothing(tiny_room, tmp_path):
    options = ("--data", tiny_room, "--pipeline.datamanager.densify.generator", "teacher")
    done = run("ns-train", "fvgen-splat-cpu", *options, cwd=tmp_path, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stdout + done.stderr
    assert "fvgen download viewcrafter-512" in done.stdout and "fvgen convert" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_training_takes_the_students_views(tiny_room, tiny_model, tmp_path):
    (tmp_path / "student").symlink_to(tiny_model("student"))
    options = {
        "generator": "student", "model": "student", "working-size": 64, "frames-per-clip": 3, "trials": False,
        "geometry": "capture-depth",
    }  # fmt: skip
    run(
        "ns-train",
        "fvgen-splat-cpu",
        "--data",
        tiny_room,
        "--vis",
        "tensorboard",
        "--max-num-iterations",
        2,
        "--timestamp",
        "run",
        "--experiment-name",
        "small",
        "--pipeline.datamanager.image-size",
        64,
        *(part for key, value in options.items() for part in (f"--pipeline.datamanager.densify.{key}", value)),
        cwd=tmp_path,
    )
    (folder,) = (tmp_path / "cache/fvgen").iterdir()
    assert len(list((folder / "confidence").glob("*.png"))) >= 3
    # the full path: ns-eval may run from another folder
    config = (tmp_path / "outputs/small/fvgen-splat-cpu/run/config.yml").read_text()
    assert tiny_model("student").resolve().parent.name in config


def test_weights_only(model):
    """Pickles are no weights, whatever they are called."""
    file = model / "unet/diffusion_pytorch_model.safetensors"
    torch.save({}, file)
    with pytest.raises(InputError, match="whole safetensors"):
        find_model("student", model)
