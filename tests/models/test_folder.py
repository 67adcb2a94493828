"""Pipeline folders: written whole, loaded whole, and refused in words."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from same_weights import assert_same_weights
from tiny_pipelines import tiny_pipeline, tiny_vae

from fvgen.checks import InputError
from fvgen.generation.load_pipeline import load_pipeline
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.models.codec import CODECS, SpaceToDepth, codec_name, load_codec
from fvgen.models.folder import (
    INDEX,
    check_folder,
    component_classes,
    load_component,
    model_fingerprint,
    new_folder,
    read_settings,
)
from fvgen.models.unet_3d import VideoUNet

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A student's folder to damage."""
    return shutil.copytree(tiny_model("student"), tmp_path / "student")


def parts(pipeline: FVGenPipeline) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in pipeline.components.items() if part is not None}


@pytest.mark.parametrize("kind", ["student", "teacher", "corrector"])
def test_the_writer_writes_what_diffusers_writes(kind, tmp_path):
    pipeline = tiny_pipeline(kind)
    pipeline.save_pretrained(tmp_path / "theirs")
    with new_folder(tmp_path / "ours", pipeline.config.sampler, pipeline.config.residual) as writer:
        for name, part in parts(pipeline).items():
            writer.add(name, part)
    theirs, ours = read_settings(tmp_path / "theirs"), read_settings(tmp_path / "ours")
    assert component_classes(ours) == component_classes(theirs)
    assert {name: ours[name] for name in ("_class_name", "_diffusers_version", "sampler", "residual")} == {
        name: theirs[name] for name in ("_class_name", "_diffusers_version", "sampler", "residual")
    }
    loaded = load_pipeline(tmp_path / "ours")
    assert loaded.config.sampler == pipeline.config.sampler and loaded.residual == pipeline.residual
    assert parts(loaded).keys() == parts(pipeline).keys()
    for name, part in parts(pipeline).items():
        assert_same_weights(parts(loaded)[name], part)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_loaded_weights_lie_where_torch_would_put_them(kind, tiny_model):
    folder = tiny_model(kind)
    mapped = VideoUNet.from_pretrained(folder / "unet")
    assert any(p.data_ptr() % 64 for p in mapped.parameters()), "else this proves nothing"
    pipelines = [load_pipeline(folder), FVGenPipeline.from_pretrained(folder)]
    networks = [part for pipeline in pipelines for part in parts(pipeline).values()]
    for network in [load_component(VideoUNet, folder / "unet"), load_codec(folder).vae, *networks]:
        assert not any(tensor.data_ptr() % 64 for tensor in (*network.parameters(), *network.buffers()))
    assert_same_weights(pipelines[0].unet, mapped)


def test_an_error_while_writing_leaves_the_older_folder(folder):
    before = model_fingerprint(folder)
    with pytest.raises(KeyboardInterrupt), new_folder(folder, "ddim") as writer:
        writer.add("vae", SpaceToDepth(4))
        raise KeyboardInterrupt
    assert model_fingerprint(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_components_are_taken_over_from_another_folder(folder, tmp_path):
    with new_folder(tmp_path / "teacher", "ddim") as writer:
        writer.copy(folder)
    check_folder(tmp_path / "teacher")
    assert read_settings(tmp_path / "teacher")["sampler"] == "ddim"
    with new_folder(tmp_path / "other", "ddim") as writer:
        writer.copy(folder, without="unet")
    assert component_classes(read_settings(tmp_path / "other")).keys() == {"vae", "schedule"}
    with pytest.raises(InputError, match=r"have a unet, a vae and a schedule, got none of \['unet'\]"):
        check_folder(tmp_path / "other")


def test_where_a_network_was_loaded_from_is_not_written(folder, tmp_path):
    unet = VideoUNet.from_pretrained(folder / "unet")
    with new_folder(tmp_path / "again", "few_step") as writer:
        writer.add("unet", unet)
    assert not any(str(tmp_path) in path.read_text() for path in (tmp_path / "again").rglob("*.json"))


def test_weights_in_pieces_are_all_looked_for(folder, tmp_path):
    unet = VideoUNet.from_pretrained(folder / "unet")
    with new_folder(tmp_path / "pieces", "few_step") as writer:
        writer.add("unet", unet, max_shard_size="50KB")
        writer.copy(folder, without="unet")
    files = sorted((tmp_path / "pieces/unet").glob("*.safetensors"))
    assert len(files) > 2
    assert_same_weights(load_component(VideoUNet, tmp_path / "pieces/unet"), unet)
    files[1].unlink()
    with pytest.raises(InputError, match=rf"have all pieces of its weights, got no .*{files[1].name}"):
        check_folder(tmp_path / "pieces")


def no_conv_in(tensors):
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("conv_in")}


def not_finite(tensors):
    tensors["conv_in.bias"][0] = float("inf")
    return tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_conv_in, r"have weights that fit its settings, got none for conv_in.weight, conv_in.bias \(2 in all\)"),
        (not_finite, "hold finite weights, got NaN or infinite values in 1 of .* tensors, conv_in.bias the first"),
    ],
)
def test_weights_that_are_missing_or_not_finite_are_refused(folder, change, message):
    file = folder / "unet" / WEIGHTS
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    for load in (lambda: load_component(VideoUNet, folder / "unet"), lambda: load_pipeline(folder)):
        with pytest.raises(InputError, match=f"unet must {message}"):
            load()


def test_pickled_weights_are_not_looked_for(folder):
    file = folder / "unet" / WEIGHTS
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    for load in (lambda: load_component(VideoUNet, folder / "unet"), lambda: load_pipeline(folder)):
        with pytest.raises(InputError, match=r"have \.safetensors weights for every component"):
            load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "student must be a pipeline folder with model_index.json, got none"),
        ("{", r"have readable JSON settings, got model_index.json \(.*"),
        ("[]", "have JSON objects as settings, got model_index.json"),
        (
            '{"_class_name": "FVGenPipeline", "unet": []}',
            r"have a unet, a vae and a schedule, got none of \['schedule',",
        ),
    ],
)
def test_an_index_that_is_none_is_refused(folder, content, message):
    (folder / INDEX).unlink() if content is None else (folder / INDEX).write_text(content)
    with pytest.raises(InputError, match=message):
        check_folder(folder)


def test_the_codec_of_every_kind_is_loaded_alone(tmp_path):
    tiny = {f"{side}_block_out_channels": (8, 8) for side in ("encoder", "decoder")}
    tiny |= {f"num_{side}_blocks": (1, 1) for side in ("encoder", "decoder")}
    made = [SpaceToDepth(4), tiny_vae(), AutoencoderTiny(**tiny)]
    assert {type(vae) for vae in made} == set(CODECS)
    for vae in made:
        with new_folder(tmp_path / "model", "few_step") as writer:
            writer.add("vae", vae)
        codec = load_codec(tmp_path / "model")
        assert type(codec).__name__ == codec_name(type(vae).__name__)
        assert_same_weights(codec.vae, vae)
    index = read_settings(tmp_path / "model")
    (tmp_path / "model" / INDEX).write_text(json.dumps({**index, "vae": ["diffusers", "VQModel"]}))
    with pytest.raises(InputError, match=r"vae must be one of .*SpaceToDepth.*, got VQModel"):
        load_codec(tmp_path / "model")
    assert codec_name("VQModel") is None
