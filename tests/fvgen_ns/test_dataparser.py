"""The plugin's dataparser on captures that are unusual but good, and on ones it has to refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.scene_box import SceneBox
from other_captures import as_blender, as_colmap
from PIL import Image

from fvgen.checks import InputError
from fvgen.geometry.points import read_ply, write_ply
from fvgen.types import PointCloud
from fvgen_ns.capture_split import CaptureSplit
from fvgen_ns.densify import views_key
from fvgen_ns.densify_config import DensifyConfig
from fvgen_ns.fvgen_datamanager import FVGenDataManagerConfig
from fvgen_ns.fvgen_dataparser import FVGenDataParserConfig
from fvgen_ns.fvgen_dataset import FVGenDataset, ViewWeights
from fvgen_ns.fvgen_model import FVGenModelConfig

MAP = (450_000.0, 5_200_000.0, 300.0)
"""Metres, as coordinates of a map are."""


def edit(capture, change):
    file = capture / "transforms.json"
    meta = json.loads(file.read_text())
    change(meta)
    file.write_text(json.dumps(meta))


def parse(capture, split="train", **options):
    return FVGenDataParserConfig(data=capture, **options).setup().get_dataparser_outputs(split)


def move(capture, shift):
    def change(meta):
        for frame in meta["frames"]:
            pose = np.array(frame["transform_matrix"])
            pose[:3, 3] += shift
            frame["transform_matrix"] = pose.tolist()

    edit(capture, change)
    cloud = read_ply(capture / "sparse_pc.ply", torch.float64)
    write_ply(capture / "sparse_pc.ply", PointCloud(cloud.xyz + torch.tensor(shift), cloud.rgb, cloud.confidence))


@pytest.mark.parametrize("orientation", ["up", "pca", "vertical", "none"])
@pytest.mark.parametrize("center", ["poses", "focus"])
def test_where_a_scene_lies_on_the_map_does_not_matter(capture, orientation, center):
    options = {"orientation_method": orientation, "center_method": center}
    near = parse(capture, **options)
    move(capture, MAP)
    far = parse(capture, **options)
    # float32 holds map coordinates to half a metre only; float64 to a nanometre
    torch.testing.assert_close(far.cameras.camera_to_worlds, near.cameras.camera_to_worlds, atol=2e-6, rtol=0)
    torch.testing.assert_close(far.metadata["points3D_xyz"], near.metadata["points3D_xyz"], atol=1e-5, rtol=0)


def test_the_transform_leads_back_to_the_map(capture):
    move(capture, MAP)
    split = CaptureSplit.of(parse(capture))
    meta = json.loads((capture / "transforms.json").read_text())
    poses = {frame["file_path"].split("/")[-1]: frame["transform_matrix"] for frame in meta["frames"]}
    for frame in split.frames:
        back = split.similarity.pose_to_capture(frame.c2w)
        assert np.allclose(back[:3, 3], np.array(poses[frame.name])[:3, 3], atol=1e-5)


def test_without_centring_the_origin_stays(capture):
    outputs = parse(capture, center_method="none", orientation_method="none", auto_scale_poses=False)
    assert torch.equal(outputs.dataparser_transform, torch.eye(4, dtype=torch.float64)[:3])


@pytest.mark.parametrize("held_out", ["all", "train list empty"])
def test_a_capture_without_training_photos_is_refused(capture, held_out):
    def change(meta):
        names = [frame["file_path"] for frame in meta["frames"]]
        if held_out == "all":
            meta.pop("train_filenames")
            meta.pop("val_filenames")
            meta["test_filenames"] = names
        else:
            meta["train_filenames"] = []

    edit(capture, change)
    with pytest.raises(InputError, match="at least 2 photos to train on, got 0"):
        parse(capture)


def test_photos_without_a_mask_count_whole_beside_masked_ones(capture):
    mask = np.zeros((64, 96), np.uint8)
    mask[:, 48:] = 255
    Image.fromarray(mask).save(capture / "mask.png")
    edit(capture, lambda meta: meta["frames"][1].update(mask_path="mask.png"))
    dataset = FVGenDataset(CaptureSplit.of(parse(capture)), 96, ViewWeights(covered=0.35, holes=0.15))
    assert [("mask" in dataset.get_data(i)) for i in range(4)] == [False, True, False, False]
    assert float(dataset.get_data(1)["mask"].float().mean()) == 0.5


@pytest.mark.parametrize("factor", [1000, 0.1])
def test_measured_depth_in_a_wrong_unit_is_refused(capture, factor):
    edit(capture, lambda meta: meta.update(depth_unit_scale_factor=factor * 1e-3))
    with pytest.raises(InputError, match=r"depth .* times as far as them") as refusal:
        CaptureSplit.of(parse(capture)).check_depth()
    cure = float(str(refusal.value).split(" by ")[1].split(",")[0])
    assert cure == pytest.approx(factor, rel=0.05)


def test_measured_depth_in_the_right_unit_is_not_refused(capture):
    CaptureSplit.of(parse(capture)).check_depth()
    edit(capture, lambda meta: meta.pop("ply_file_path"))
    CaptureSplit.of(parse(capture)).check_depth()


def scale_capture(meta):
    for frame in meta["frames"]:
        pose = np.array(frame["transform_matrix"])
        pose[:3, 3] *= 2
        frame["transform_matrix"] = pose.tolist()


@pytest.mark.parametrize(
    "change", [lambda meta: meta.update(depth_unit_scale_factor=1.1e-3), scale_capture], ids=["depth unit", "scale"]
)
def test_views_are_made_anew_for_another_unit_of_depth_or_length(capture, change):
    edit(capture, lambda meta: meta.pop("ply_file_path"))
    keys = []
    for _ in range(2):
        keys.append(views_key(CaptureSplit.of(parse(capture)), DensifyConfig()))
        edit(capture, change)
    assert keys[0] != keys[1]


def without_points(folder):
    (folder / "sparse/0/points3D.txt").unlink()


def empty_points(folder):
    (folder / "sparse/0/points3D.txt").write_text("# no points\n")


@pytest.mark.parametrize("change", [without_points, empty_points])
def test_a_colmap_model_without_points_is_read_and_says_so(tiny_room, tmp_path, change):
    folder = as_colmap(tiny_room, tmp_path / "capture")
    change(folder)
    outputs = parse(folder)
    assert "points3D_xyz" not in outputs.metadata and "no sparse points" in outputs.metadata["notes"][0]


def unknown_lens(folder):
    cameras = folder / "sparse/0/cameras.txt"
    cameras.write_text("1 FULL_OPENCV 96 64 66 66 48 32 0.1 0 0 0 0 0.1 0 0\n")


def unknown_name(folder):
    (folder / "train_list.txt").write_text("gone.png\n")


def no_poses(folder):
    (folder / "sparse/0/images.txt").write_text("")


def garbage(folder):
    (folder / "sparse/0/images.txt").write_text("1 a b c\n\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [(unknown_lens, "then give --data OUT"), (unknown_name, "gone.png"), (no_poses, "Run COLMAP"), (garbage, "again")],
)
def test_colmap_models_that_cannot_be_read_are_refused(tiny_room, tmp_path, change, message):
    folder = as_colmap(tiny_room, tmp_path / "capture")
    change(folder)
    with pytest.raises(InputError, match=f"must .*{message}"):
        parse(folder)


@pytest.mark.parametrize(("absent", "count"), [(["val"], 2), (["val", "test"], 4), (["train", "val", "test"], 6)])
def test_colmap_splits_stand_in_for_each_other(tiny_room, tmp_path, absent, count):
    folder = as_colmap(tiny_room, tmp_path / "capture")
    for split in absent:
        (folder / f"{split}_list.txt").unlink()
    assert len(parse(folder, "val").image_filenames) == count


@pytest.mark.parametrize("absent", [["test"], ["test", "val"]])
def test_blender_captures_need_not_hold_photos_back(tiny_room, tmp_path, absent):
    folder = as_blender(tiny_room, tmp_path / "capture")
    for split in absent:
        (folder / f"transforms_{split}.json").unlink()
    assert len(parse(folder, "test").image_filenames) == (2 if len(absent) == 1 else 4)


@pytest.mark.parametrize("content", ["{", '{"frames": []}', '{"camera_angle_x": 1, "frames": []}'])
def test_blender_captures_that_cannot_be_read_are_refused(tiny_room, tmp_path, content):
    folder = as_blender(tiny_room, tmp_path / "capture")
    (folder / "transforms_train.json").write_text(content)
    with pytest.raises(InputError, match="must"):
        parse(folder)


def test_a_dataparser_of_nerfstudios_own_is_refused_alike(capture):
    (capture / "transforms.json").write_text("{")
    manager = FVGenDataManagerConfig(dataparser=NerfstudioDataParserConfig(), data=capture)
    with pytest.raises(InputError, match=r"Nerfstudio can read, got .*JSONDecodeError"):
        manager.read_inputs()


def test_transparency_is_left_to_the_models_background(tiny_room, tmp_path):
    folder = as_blender(tiny_room, tmp_path / "capture")
    outputs = BlenderDataParserConfig(data=folder).setup().get_dataparser_outputs("train")
    assert outputs.alpha_color is not None  # Nerfstudio's parser would put white behind what is transparent
    image = FVGenDataset(CaptureSplit.of(outputs), 96, ViewWeights(covered=0.35, holes=0.15)).get_data(0)["image"]
    assert image.shape[2] == 4


def test_an_alpha_channel_that_hides_something_is_trained_and_scored_as_a_mask(capture):
    opaque = np.full((64, 96), 255, np.uint8)
    opaque[20:40, 30:60] = 0
    for photo in sorted((capture / "images").glob("*.png")):
        image = Image.open(photo).convert("RGB")
        image.putalpha(Image.fromarray(opaque))
        image.save(photo)
    for split in ("train", "val"):
        outputs = CaptureSplit.of(FVGenDataParserConfig(data=capture).setup().get_dataparser_outputs(split))
        batch = FVGenDataset(outputs, 96, ViewWeights(covered=0.35, holes=0.15)).get_data(0)
        assert np.array_equal(batch["mask"][..., 0].numpy(), opaque > 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 0}, "--image-size must"),
        ({"generated_share": 1.0}, "--generated-share must"),
        ({"max_points": 0}, "--max-points must"),
        ({"densify": DensifyConfig(frames_per_clip=1)}, "--frames-per-clip must"),
        ({"densify": DensifyConfig(sampling_steps=0)}, "--sampling-steps must be at least 1, got 0"),
        ({"densify": DensifyConfig(working_size=1)}, "--working-size must"),
        ({"densify": DensifyConfig(geometry="capture-depth")}, "--geometry capture-depth must have depth"),
    ],
)
def test_settings_that_cannot_work_are_refused(capture, settings, message):
    edit(capture, lambda meta: [frame.pop("depth_file_path") for frame in meta["frames"]])
    with pytest.raises(InputError, match=message):
        FVGenDataManagerConfig(data=capture, **settings).read_inputs()
    FVGenDataManagerConfig(data=capture).read_inputs()


def test_points_far_outside_the_scene_are_left_out_and_the_others_stay(capture):
    cloud = read_ply(capture / "sparse_pc.ply", torch.float64)
    outside = torch.tensor([[100.0, 0, 0], [0, -3e3, 0], [0, 1e6, 1e6]], dtype=torch.float64)
    xyz = torch.cat([cloud.xyz, outside + cloud.xyz.mean(dim=0)])
    rgb, confidence = torch.cat([cloud.rgb, torch.zeros(3, 3)]), torch.ones(len(xyz))
    write_ply(capture / "sparse_pc.ply", PointCloud(xyz, rgb, confidence))
    split = CaptureSplit.of(parse(capture))
    assert len(split.sparse) == len(cloud)
    assert any("Left out 3 of" in note and "sparse points" in note for note in split.notes)


def test_no_gaussian_starts_as_large_as_the_scene():
    points = torch.cat([torch.rand(200, 3), torch.tensor([[9.0, 9, 9]])])
    model = FVGenModelConfig().setup(
        scene_box=SceneBox(torch.eye(3)[:2]),
        num_train_data=3,
        metadata={"num_photos": 3, "scene_scale": 2.0},
        seed_points=(points, torch.zeros(201, 3)),
    )
    sizes = torch.exp(model.scales.detach()).amax(dim=1)
    assert sizes[-1] == pytest.approx(1.0) and sizes[:-1].max() < 0.5
