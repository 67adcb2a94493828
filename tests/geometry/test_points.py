import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fvgen.checks import InputError
from fvgen.geometry.cameras import project
from fvgen.geometry.points import depth_to_points, empty_cloud, merge, read_ply, voxel_thin, write_ply
from fvgen.types import PointCloud


def random_cloud(count: int, seed: int = 0, scale: float = 5.0) -> PointCloud:
    generator = torch.Generator().manual_seed(seed)
    return PointCloud(
        torch.randn(count, 3, generator=generator) * scale,
        torch.rand(count, 3, generator=generator),
        torch.rand(count, generator=generator),
    )


def test_points_project_back_onto_their_pixels_and_colours(exact_capture):
    depths = exact_capture.depths.clone()
    depths[:, ::2] = 0
    confidences = torch.rand(depths.shape, generator=torch.Generator().manual_seed(0))
    cloud = depth_to_points(exact_capture.photos, exact_capture.cameras, depths, confidences)
    assert len(cloud) == int((depths > 0).sum())
    first = int((depths[0] > 0).sum())
    uv, _ = project(cloud.xyz[:first], exact_capture.cameras[0])
    column, row = uv[0].floor().long().unbind(dim=1)
    assert torch.equal(cloud.rgb[:first], exact_capture.photos[0, :, row, column].T)
    assert torch.equal(cloud.confidence[:first], confidences[0, row, column])


@given(st.integers(1, 300), st.floats(0.05, 50), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_voxel_thinning_leaves_one_point_per_cube_and_is_idempotent(count, size, seed):
    cloud = random_cloud(count, seed)
    thin = voxel_thin(cloud, size)
    cells = {tuple(cell) for cell in np.floor(cloud.xyz.double().numpy() / size).astype(int)}
    assert len(thin) == len(cells)
    assert thin.confidence.max() == cloud.confidence.max()
    assert bool((thin.rgb >= 0).all()) and bool((thin.rgb <= 1 + 1e-6).all())
    again = voxel_thin(thin, size)
    assert len(again) == len(thin)
    assert torch.allclose(again.xyz, thin.xyz, atol=1e-6)


def test_voxel_mean_is_weighted_by_confidence():
    cloud = PointCloud(
        torch.tensor([[0.1, 0, 0], [0.5, 0, 0]]), torch.tensor([[1.0, 0, 0], [0, 0, 1]]), torch.tensor([0.75, 0.25])
    )
    thin = voxel_thin(cloud, 1.0)
    assert torch.allclose(thin.xyz, torch.tensor([[0.2, 0, 0]]))
    assert torch.allclose(thin.rgb, torch.tensor([[0.75, 0, 0.25]]))
    assert thin.confidence.tolist() == [0.75]


def test_thinning_and_merging_take_empty_clouds():
    assert len(voxel_thin(empty_cloud(), 1.0)) == 0
    assert len(merge([])) == 0
    cloud = random_cloud(5)
    assert torch.equal(merge([cloud, empty_cloud(), cloud]).xyz, torch.cat([cloud.xyz, cloud.xyz]))


@pytest.mark.parametrize("size", [0.0, -1.0, 1e-30])
def test_thinning_refuses_senseless_sizes(size):
    with pytest.raises(InputError, match="size must"):
        voxel_thin(random_cloud(5), size)


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_ply_round_trip(tmp_path, count):
    cloud = random_cloud(count)
    write_ply(tmp_path / "cloud.ply", cloud)
    back = read_ply(tmp_path / "cloud.ply")
    assert torch.equal(back.xyz, cloud.xyz)
    assert torch.allclose(back.rgb, cloud.rgb, atol=0.5 / 255 + 1e-6)  # stored in 8 bits
    assert torch.equal(back.confidence, torch.ones(count))
    assert [file.name for file in tmp_path.iterdir()] == ["cloud.ply"]


HEADER = "ply\nformat ascii 1.0\nelement vertex {count}\n{properties}end_header\n{rows}"
XYZ = "property double x\nproperty double y\nproperty double z\n"


def ascii_ply(path, rows: list[str], properties: str = XYZ):
    path.write_text(HEADER.format(count=len(rows), properties=properties, rows="".join(row + "\n" for row in rows)))
    return path


def test_ascii_ply_without_colour_is_grey(tmp_path):
    cloud = read_ply(ascii_ply(tmp_path / "a.ply", ["0 1 2", "3 4 5"]))
    assert cloud.xyz.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert bool((cloud.rgb == 0.5).all())


@pytest.mark.parametrize(("kind", "value"), [("uchar", "255 0 51"), ("float", "1 0 0.2"), ("ushort", "65535 0 13107")])
def test_colour_types(tmp_path, kind, value):
    colours = "".join(f"property {kind} {name}\n" for name in ("red", "green", "blue"))
    cloud = read_ply(ascii_ply(tmp_path / "a.ply", ["0 1 2 " + value], XYZ + colours))
    assert torch.allclose(cloud.rgb, torch.tensor([[1.0, 0.0, 0.2]]), atol=1e-6)


def test_normals_and_faces_are_passed_over(tmp_path):
    normals = "property float nx\nproperty float ny\nproperty float nz\n"
    face = "element face 1\nproperty list uchar int vertex_indices\n"
    path = ascii_ply(tmp_path / "a.ply", ["0 1 2 0 0 1"], XYZ + normals + face)
    path.write_text(path.read_text() + "3 0 0 0\n")
    assert read_ply(path).xyz.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_positions_that_are_not_finite_are_refused(tmp_path, value):
    with pytest.raises(InputError, match="finite positions only, got 1 of 2"):
        read_ply(ascii_ply(tmp_path / "a.ply", ["0 1 2", f"3 {value} 5"]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "complete PLY"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "complete PLY"),
        (b"solid not a ply\n", "complete PLY"),
        (b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\n", "complete PLY"),
        (
            b"ply\nformat ascii 1.0\nelement vertex 1000000000000000\n"
            b"property float x\nproperty float y\nproperty float z\nend_header\n",
            "complete PLY",
        ),
        (
            b"ply\nformat ascii 1.0\nelement vertex 2\nproperty list uchar float x\nproperty float y\n"
            b"property float z\nend_header\n1 0 0 1\n2 0 0 0 1\n",
            "one x, y and z",
        ),
        (b"ply\nformat ascii 1.0\nelement face 0\nproperty list uchar int vertex_indices\nend_header\n", "x, y and z"),
    ],
)
def test_what_is_no_ply_is_refused(tmp_path, content, message):
    path = tmp_path / "a.ply"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_ply(path)


def test_a_ply_cut_short_is_refused(tmp_path):
    write_ply(tmp_path / "a.ply", random_cloud(100))
    whole = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(whole[:-7])
    with pytest.raises(InputError, match="complete PLY"):
        read_ply(tmp_path / "a.ply")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_ply(tmp_path / "none.ply")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    import plyfile

    path = tmp_path / "a.ply"
    write_ply(path, random_cloud(3))
    before = path.read_bytes()

    def full_disk(self, stream):
        with open(stream, "wb") as file:  # noqa: PTH123
            file.write(b"ply")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plyfile.PlyData, "write", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_ply(path, random_cloud(4))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.ply"]


def test_clouds_that_are_not_finite_are_not_written(tmp_path):
    cloud = random_cloud(3)
    cloud.xyz[1, 0] = torch.nan
    with pytest.raises(InputError, match="finite positions"):
        write_ply(tmp_path / "a.ply", cloud)
    assert [file.name for file in tmp_path.iterdir()] == []


def test_map_coordinates_keep_their_decimals(tmp_path):
    xyz = torch.rand(50, 3, dtype=torch.float64) + torch.tensor([4.5e5, 5.2e6, 300], dtype=torch.float64)
    cloud = PointCloud(xyz, torch.rand(50, 3), torch.ones(50))
    write_ply(tmp_path / "far.ply", cloud)
    torch.testing.assert_close(read_ply(tmp_path / "far.ply", torch.float64).xyz, xyz, atol=1e-9, rtol=0)
    assert read_ply(tmp_path / "far.ply").xyz.dtype == torch.float32


def test_positions_near_the_origin_are_float32_on_disk(tmp_path):
    cloud = PointCloud(torch.rand(50, 3, dtype=torch.float64), torch.rand(50, 3), torch.ones(50))
    write_ply(tmp_path / "near.ply", cloud)
    assert b"property float x" in (tmp_path / "near.ply").read_bytes()
