"""Photos of procedural rooms, with what they show."""

from __future__ import annotations

from pathlib import Path

from oracle_matcher import KnownPhoto, OracleMatcher
from PIL import Image

from fvgen.poses.intake import Photo, read_intake
from fvgen.procedural.rooms.room import make_room
from fvgen.procedural.rooms.scene import render_scene
from fvgen.types import Cameras

WIDTH, HEIGHT = 240, 160


def photograph(cameras: Cameras, room: int = 0) -> list[KnownPhoto]:
    """Photos of a procedural room."""
    scene, photos = make_room(room), []
    for i in range(len(cameras)):
        rgb, depth = render_scene(scene, cameras[i], supersampling=1)
        pixels = (255 * rgb[0].permute(1, 2, 0)).round().byte().numpy()
        photos.append(KnownPhoto(pixels, depth[0], cameras[i]))
    return photos


def store_photos(
    folder: Path, known: list[KnownPhoto], scenes: list[int] | None = None
) -> tuple[list[Photo], OracleMatcher]:
    """Photos as PNG files, taken in; and the matcher that knows them."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{i}.png" for i in range(len(known))]
    for file, photo in zip(files, known, strict=True):
        Image.fromarray(photo.rgb).save(file)
    return read_intake(files, folder, []).photos, OracleMatcher(known, scenes or [])
