"""Contact sheets and films of generated views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fvgen.checks import InputError
from fvgen.pictures import write_contact_sheet, write_mp4
from fvgen.types import Cameras, GeneratedViews


@pytest.fixture
def views() -> GeneratedViews:
    """Seven smooth frames of 64x48, photos at the first, the middle and the last."""
    rows, columns = torch.linspace(0, 1, 48)[:, None], torch.linspace(0, 1, 64)
    rgb = torch.stack(
        [torch.stack([rows * columns, rows * (1 - columns), (rows * 0) + columns * i / 6]) for i in range(7)]
    )
    maps = torch.ones(7, 1, 48, 64)
    cameras = Cameras(torch.eye(4).repeat(7, 1, 1), torch.eye(3).repeat(7, 1, 1), 48, 64)
    is_photo = torch.tensor([True, False, False, True, False, False, True])
    return GeneratedViews(cameras, rgb, maps, maps, torch.ones(7), is_photo, maps > 0)


def test_contact_sheet_shows_clips_as_rows_and_outlines_photos(tmp_path, views):
    clips = [torch.tensor([0, 1, 2, 3]), torch.tensor([3, 4, 5, 6])]
    write_contact_sheet(tmp_path / "new" / "sheet.png", views, clips, tile_width=60)
    sheet = np.asarray(Image.open(tmp_path / "new" / "sheet.png"))
    cell = (45 + 4, 60 + 4)
    assert sheet.shape == (2 * cell[0], 4 * cell[1], 3)
    edges = sheet[:: cell[0], 1 :: cell[1]][:2, :4]
    assert (edges == [255, 153, 0]).all(-1).tolist() == [[True, False, False, True]] * 2
    tile = sheet[cell[0] + 2 : cell[0] + 47, cell[1] + 2 : cell[1] + 62]  # second row, second column: frame 4
    wanted = torch.nn.functional.interpolate(views.rgb[4:5], (45, 60), mode="area")[0].permute(1, 2, 0) * 255
    assert np.abs(tile - wanted.numpy()).max() <= 0.51


def test_a_legend_stands_below_the_pictures(tmp_path, views):
    clips = [torch.arange(4)]
    write_contact_sheet(tmp_path / "plain.png", views, clips, tile_width=60)
    write_contact_sheet(tmp_path / "sheet.png", views, clips, tile_width=60, legend="Orange edge: a photo.")
    plain, sheet = (np.asarray(Image.open(tmp_path / name)) for name in ("plain.png", "sheet.png"))
    assert np.array_equal(sheet[: len(plain), : plain.shape[1]], plain)
    below = sheet[len(plain) :]
    assert len(below) > 8 and below.min() < 50 and below.max() == 255


def test_long_clips_show_their_ends_and_frames_between(tmp_path, views):
    write_contact_sheet(tmp_path / "sheet.png", views, [torch.arange(7)], tile_width=60, most_columns=3)
    edges = np.asarray(Image.open(tmp_path / "sheet.png"))[0, 1 :: 60 + 4]
    assert (edges == [255, 153, 0]).all(-1).tolist() == [True, True, True]  # frames 0, 3 and 6


def test_film(tmp_path, views):
    av = pytest.importorskip("av")
    write_mp4(tmp_path / "film.mp4", views.rgb[:, :, :47, :63])
    with av.open(str(tmp_path / "film.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == len(views) and frames[0].shape == (48, 64, 3)
    frames[0] = frames[0][:47, :63]
    wanted = 255 * views.rgb[0, :, :47, :63].permute(1, 2, 0).numpy()
    assert np.abs(frames[0] - wanted).mean() < 6  # lossy


def test_nothing_to_show_is_refused(tmp_path, views):
    with pytest.raises(InputError, match="not be empty"):
        write_mp4(tmp_path / "film.mp4", views.rgb[:0])
    with pytest.raises(InputError, match="not be empty"):
        write_contact_sheet(tmp_path / "sheet.png", views, [])
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path, views):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"contact sheet must be writable.*file/sheet\.png"):
        write_contact_sheet(tmp_path / "file" / "sheet.png", views, [torch.arange(7)])
    with pytest.raises(InputError, match=r"film must be writable.*file/film\.mp4"):
        write_mp4(tmp_path / "file" / "film.mp4", views.rgb)
