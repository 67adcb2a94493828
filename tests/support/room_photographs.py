"""Photos of procedural rooms, with what they show."""

from __future__ import annotations

from oracle_matcher import KnownPhoto

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
