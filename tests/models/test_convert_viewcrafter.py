"""ViewCrafter checkpoints: the full-size layout on the meta device, and tiny files in the real layouts."""

import gzip
import json
import re
import shutil
import sys
import types
import zipfile

import pytest
import torch
from reference_files import MANIFESTS
from viewcrafter_files import TINY, random_tensors, write

from fvgen.checks import InputError
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.generation.viewcrafter_checkpoint import (
    UNUSED_FILE,
    checkpoint_shapes,
    convert_checkpoint,
    revert_folder,
)
from fvgen.models.convert_viewcrafter import Architecture, components
from fvgen.models.convert_viewcrafter_file import read_checkpoint
from fvgen.models.convert_viewcrafter_unet import viewcrafter_unet_config, viewcrafter_unet_layout
from fvgen.models.unet_3d import VideoUNet
from fvgen.models.viewcrafter_variants import VARIANTS


@pytest.fixture(scope="module")
def tensors():
    return random_tensors()


def refused(path, out, match, **options):
    with pytest.raises(InputError, match=match):
        convert_checkpoint(path, out, architecture=TINY, **options)
    assert not list(out.parent.glob("*out*")), "nothing may be left behind"


@pytest.mark.parametrize("name", ["ViewCrafter_25", "ViewCrafter_25_sparse", "ViewCrafter_16", "ViewCrafter_25_512"])
def test_every_name_and_shape_of_the_releases(name):
    with gzip.open(MANIFESTS / f"{name}.json.gz") as file:
        manifest = {key: tuple(shape) for key, shape in json.load(file).items()}
    assert len(manifest) == 2520
    assert checkpoint_shapes(Architecture()) == manifest


def test_every_tensor_is_used_once_or_dropped_with_a_reason():
    for component in components(Architecture()):
        network = component.empty()
        shapes = component.shapes(network)
        kept = {n: torch.empty(s, device="meta") for n, s in shapes.items() if component.reason_dropped(n) is None}
        dropped = {n: torch.empty(s, device="meta") for n, s in shapes.items() if n not in kept}
        converted = component.convert({**kept, **dropped}, network)
        state = network.state_dict()
        assert {n: t.shape for n, t in converted.items()} == {n: t.shape for n, t in state.items()}
        assert {n: t.shape for n, t in component.revert(converted, network).items()} == {
            n: t.shape for n, t in kept.items()
        }


def test_full_size_unet_has_the_published_number_of_parameters():
    with torch.device("meta"):
        unet = VideoUNet()
    assert sum(p.numel() for p in unet.parameters()) == 1_438_854_980
    layout = viewcrafter_unet_layout(unet)
    assert len(layout) == 1516
    assert {ours for ours, _ in layout.values()} == set(unet.state_dict())


@pytest.mark.parametrize("layout", ["lightning", "deepspeed"])
def test_round_trip_is_exact(tensors, layout, tmp_path):
    source = {name.replace("fps_embedding", "framestride_embed"): t for name, t in tensors.items()}
    path = write(tmp_path / "a.ckpt", source if layout == "deepspeed" else tensors, layout)
    report = convert_checkpoint(path, tmp_path / "out", architecture=TINY)
    assert report.variant == "viewcrafter-512"
    assert report.used + len(report.dropped) == len(tensors)
    assert revert_folder(tmp_path / "out", tmp_path / "back.ckpt", architecture=TINY) == len(tensors)
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)["state_dict"]
    assert list(back) == list(tensors)
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_folder_is_a_diffusers_pipeline(tensors, tmp_path):
    convert_checkpoint(write(tmp_path / "a.ckpt", tensors), tmp_path / "out", architecture=TINY)
    index = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert index["_class_name"] == "FVGenPipeline"
    folders = {name for name, value in index.items() if isinstance(value, list)}
    assert index["frames"] == 25 and index["timesteps"] is None
    assert folders == {"unet", "vae", "image_encoder", "text_encoder", "image_projector", "schedule"}
    unet = VideoUNet.from_pretrained(tmp_path / "out" / "unet")
    assert (unet.config["sample_frames"], list(unet.config["sample_size"])) == (25, [40, 64])
    name = "model.diffusion_model.input_blocks.1.0.temopral_conv.conv3.3.weight"
    theirs = tensors[name][..., 0]
    assert torch.equal(unet.encoder[0].resnet.temporal_conv.layers[2].conv.weight, theirs)
    schedule = NoiseSchedule.from_pretrained(tmp_path / "out" / "schedule")
    assert schedule.config["base_scale"] == 0.7


def test_pipeline_loads_the_folder(tensors, tmp_path):
    convert_checkpoint(write(tmp_path / "a.ckpt", tensors), tmp_path / "out", architecture=TINY)
    pipeline = FVGenPipeline.from_pretrained(tmp_path / "out")
    assert torch.equal(pipeline.image_projector.latents, tensors["image_proj_model.latents"]), (
        "the weights are the checkpoint's"
    )
    queries = tensors["cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight"][:24]
    states = pipeline.text_encoder.state_dict()
    assert any(torch.equal(queries, tensor) for name, tensor in states.items() if "layers.1.self_attn.q_proj" in name)


def test_half_precision_output(tensors, tmp_path):
    path = write(tmp_path / "a.ckpt", tensors)
    convert_checkpoint(path, tmp_path / "out", dtype=torch.bfloat16, architecture=TINY)
    convert_checkpoint(path, tmp_path / "full", architecture=TINY)
    unet = VideoUNet.from_pretrained(tmp_path / "out" / "unet", torch_dtype=torch.bfloat16)
    assert torch.equal(unet.conv_in.weight, tensors["model.diffusion_model.input_blocks.0.0.weight"].bfloat16())
    sizes = [sum(f.stat().st_size for f in (tmp_path / n / "unet").glob("*.safetensors")) for n in ("out", "full")]
    assert sizes[0] < 0.7 * sizes[1]


def test_variant_is_checked_against_the_schedule(tensors, tmp_path):
    path = write(tmp_path / "a.ckpt", tensors)
    refused(path, tmp_path / "out", "--variant must be one of .*viewcrafter-512", variant="viewcrafter-25")
    large = {**tensors, **{n: t for n, t in NoiseSchedule(base_scale=0.3).tables().items() if n in tensors}}
    path = write(tmp_path / "b.ckpt", large)
    refused(path, tmp_path / "out", "--variant must be one of")
    report = convert_checkpoint(path, tmp_path / "done", "viewcrafter-16", architecture=TINY)
    assert report.variant == "viewcrafter-16"
    config = VideoUNet.load_config(tmp_path / "done" / "unet")
    assert (config["sample_frames"], config["sample_size"]) == (16, [72, 128])


def test_broken_and_foreign_files_are_refused_and_nothing_is_written(tensors, tmp_path):
    out, path = tmp_path / "out", tmp_path / "a.ckpt"
    some = "model.diffusion_model.out.2.weight"
    refused(tmp_path / "none.ckpt", out, "CKPT must be a file")
    whole = write(path, tensors).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    refused(path, out, "be a whole torch file")
    path.write_bytes(b"not a checkpoint")
    refused(path, out, "be a whole torch file")
    torch.save({"epoch": 3, "weights": tensors}, path)
    refused(path, out, r"\['epoch', 'weights'\]")
    torch.save([1, 2], path)
    refused(path, out, "got list")
    refused(write(path, {n: t for n, t in tensors.items() if n != some}), out, f"1 missing .*{some}")
    refused(write(path, {**tensors, "ema.decay": torch.zeros(1)}), out, "1 unknown .*ema.decay")
    refused(write(path, {**tensors, some: tensors[some][:, :-1]}), out, f"1 of another shape .*{some}")
    unused = "embedder.model.visual.proj"
    refused(write(path, {n: t for n, t in tensors.items() if n != unused}), out, f"1 missing .*{unused}")
    refused(write(path, torch.nn.Linear(3, 2).state_dict()), out, "missing .*unknown")
    torch.save({"module": {f"module.{n}": t for n, t in tensors.items()}}, path)
    refused(path, out, "_forward_module")
    refused(write(path, {**tensors, "betas": tensors["betas"] * 1.1}), out, "CKPT's betas must be ViewCrafter's table")
    refused(write(path, {**tensors, "scale_arr": torch.ones(1400)}), out, "base scale")
    path.write_bytes(whole)
    out.mkdir()
    with pytest.raises(InputError, match="OUT must not exist yet"):
        convert_checkpoint(path, out, architecture=TINY)


@pytest.mark.parametrize("key", ["state_dict", "module"])
@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "must map names to tensors, got NoneType"),
        ([1, 2], "must map names to tensors, got list"),
        ({3: torch.zeros(1)}, r"must have names that are text, got \[3\]"),
        ({"epoch": 3}, r"must hold tensors only, got \['epoch'\]"),
    ],
)
def test_tensors_in_another_form_are_refused(key, found, message, tmp_path):
    torch.save({key: found}, tmp_path / "a.ckpt")
    refused(tmp_path / "a.ckpt", tmp_path / "out", f"CKPT's '{key}' {message}")


def test_a_file_in_the_format_before_zip_is_called_that(tensors, tmp_path):
    torch.save({"state_dict": tensors}, tmp_path / "a.ckpt", _use_new_zipfile_serialization=False)
    refused(tmp_path / "a.ckpt", tmp_path / "out", "before torch 1.6.* save it again with torch.save")


@pytest.mark.parametrize("trust_pickle", [False, True])
@pytest.mark.parametrize("damage", [(0, b"\x00"), (20, b"\xfe")])
def test_damaged_bytes_are_not_worth_trust(tensors, damage, trust_pickle, tmp_path):
    with zipfile.ZipFile(write(tmp_path / "a.ckpt", tensors)) as whole, zipfile.ZipFile(tmp_path / "b", "w") as broken:
        for name in whole.namelist():
            content = bytearray(whole.read(name))
            if name.endswith("data.pkl"):
                content[damage[0] : damage[0] + 1] = damage[1]
            broken.writestr(name, bytes(content))
    with pytest.raises(InputError, match="be a whole torch file") as error:
        read_checkpoint(tmp_path / "b", trust_pickle)
    assert not re.search("trust|weights_only", str(error.value))
    assert len(str(error.value).splitlines()) == 1


def test_whole_numbers_for_weights_are_refused(tensors, tmp_path):
    some = "model.diffusion_model.out.2.weight"
    path = write(tmp_path / "a.ckpt", {**tensors, some: tensors[some].to(torch.int64)})
    refused(path, tmp_path / "out", f"1 not floating point .*{some} torch.int64")


def test_old_and_new_name_of_one_tensor_are_refused(tensors, tmp_path):
    new = next(name for name in tensors if "fps_embedding" in name)
    old = new.replace("fps_embedding", "framestride_embed")
    refused(write(tmp_path / "a.ckpt", {**tensors, old: tensors[new]}), tmp_path / "out", f"{old}.* under both")


class Callback:
    """What Lightning leaves in a checkpoint beside the tensors."""


def test_a_file_with_code_is_refused_unless_trusted(tensors, tmp_path):
    path = write(tmp_path / "a.ckpt", tensors, callbacks=Callback())
    refused(path, tmp_path / "out", "Callback.*--trust-pickle .* RUNS whatever code")
    assert convert_checkpoint(path, tmp_path / "done", trust_pickle=True, architecture=TINY).used > 0


@pytest.mark.parametrize("gone", ["module", "class"])
def test_a_trusted_file_that_needs_a_missing_package_says_which(tensors, gone, monkeypatch, tmp_path):
    package = types.ModuleType("lightning_of_long_ago")
    package.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": package.__name__})
    monkeypatch.setitem(sys.modules, package.__name__, package)
    path = write(tmp_path / "a.ckpt", tensors, callbacks=package.ModelCheckpoint())
    if gone == "module":
        monkeypatch.delitem(sys.modules, package.__name__)
    else:
        del package.ModelCheckpoint
    refused(path, tmp_path / "out", r"lightning_of_long_ago.ModelCheckpoint\. --trust-pickle")
    refused(path, tmp_path / "out", "lightning_of_long_ago.* Install the package", trust_pickle=True)


def test_a_failure_while_writing_leaves_nothing(tensors, tmp_path):
    def stop(done, total, what):
        if done == 2:
            raise KeyboardInterrupt

    path = write(tmp_path / "a.ckpt", tensors)
    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(path, tmp_path / "out", architecture=TINY, progress=stop)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ckpt"]


def test_reverse_refuses_an_incomplete_folder(tensors, tmp_path):
    folder = tmp_path / "out"
    convert_checkpoint(write(tmp_path / "a.ckpt", tensors), folder, architecture=TINY)
    (folder / UNUSED_FILE).rename(tmp_path / "aside")
    with pytest.raises(InputError, match=f"hold {UNUSED_FILE}"):
        revert_folder(folder, tmp_path / "b.ckpt", architecture=TINY)
    whole = (tmp_path / "aside").read_bytes()
    (folder / UNUSED_FILE).write_bytes(whole[:-1])
    with pytest.raises(InputError, match=f"{UNUSED_FILE}, cut short or damaged"):
        revert_folder(folder, tmp_path / "b.ckpt", architecture=TINY)
    (folder / UNUSED_FILE).write_bytes(whole)
    shutil.rmtree(folder / "vae")
    with pytest.raises(InputError, match=r"none in .*vae"):
        revert_folder(folder, tmp_path / "b.ckpt", architecture=TINY)
    shutil.rmtree(folder / "schedule")
    with pytest.raises(InputError, match="schedule must be a folder of a saved component, got none"):
        revert_folder(folder, tmp_path / "b.ckpt", architecture=TINY)
    assert not (tmp_path / "b.ckpt").exists()


def test_variants_name_their_source():
    for variant in VARIANTS.values():
        assert variant.repository.startswith("Drexubery/")
        assert variant.file.endswith(".ckpt")


def test_options_without_effect_change_nothing():
    assert viewcrafter_unet_config({"use_fp16": True, "num_heads": -1}) == viewcrafter_unet_config({})


@pytest.mark.parametrize(
    "config",
    [
        {"use_relative_position": True},
        {"temporal_selfatt_only": False},
        {"resblock_updown": True},
        {"num_heads": 8},
        {"new": 1},
    ],
)
def test_configurations_without_counterpart_are_refused(config):
    with pytest.raises(InputError, match=next(iter(config))):
        viewcrafter_unet_config(config)
