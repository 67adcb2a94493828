"""The tiny room as COLMAP and Blender would have written it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from fvgen.data.read_capture import read_capture


def as_colmap(room: Path, folder: Path) -> Path:
    """A COLMAP text model with an image list per split."""
    files = read_capture(room)
    model = folder / "sparse/0"
    model.mkdir(parents=True)
    shutil.copytree(room / "images", folder / "images")
    K, (width, height) = files.frames[0].K, files.frames[0].size
    (model / "cameras.txt").write_text(f"1 PINHOLE {width} {height} {K[0, 0]} {K[1, 1]} {K[0, 2]} {K[1, 2]}\n")
    lines = []
    for number, frame in enumerate(files.frames, start=1):
        w2c = np.linalg.inv(frame.c2w)
        x, y, z, w = Rotation.from_matrix(w2c[:3, :3]).as_quat()
        tx, ty, tz = w2c[:3, 3]
        lines += [f"{number} {w} {x} {y} {z} {tx} {ty} {tz} 1 {frame.photo.name}", ""]
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    cloud = files.points
    (model / "points3D.txt").write_text(
        "".join(
            f"{i} {p[0]} {p[1]} {p[2]} {int(255 * c[0])} {int(255 * c[1])} {int(255 * c[2])} 0.5 1 0\n"
            for i, (p, c) in enumerate(zip(cloud.xyz.tolist(), cloud.rgb.tolist(), strict=True), start=1)
        )
    )
    for split, names in (("train", files.split("train")), ("val", files.split("val")), ("test", files.split("val"))):
        chosen = [files.frames[i].photo.name for i in names]
        (folder / f"{split}_list.txt").write_text("\n".join(chosen) + "\n")
    return folder


def as_blender(room: Path, folder: Path) -> Path:
    """RGBA renders with one field of view, as NeRF's synthetic scenes have them."""
    files = read_capture(room)
    axes = np.diag([1.0, -1.0, -1.0, 1.0])
    K, (width, _) = files.frames[0].K, files.frames[0].size
    for split, names in (("train", files.split("train")), ("val", files.split("val")), ("test", files.split("val"))):
        (folder / split).mkdir(parents=True)
        frames = []
        for i in names:
            frame = files.frames[i]
            Image.open(frame.photo).convert("RGBA").save(folder / split / f"r_{i}.png")
            frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": (frame.c2w @ axes).tolist()})
        angle = 2 * float(np.arctan(width / (2 * K[0, 0])))
        (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    return folder
