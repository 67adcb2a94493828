"""Photos with poses -> a folder of generated views, which any splat tool can train on.

python examples/photos_to_views.py CAPTURE VIEWS [GENERATOR]
"""

import sys
from pathlib import Path

import numpy as np

from fvgen import GEOMETRY_PROVIDERS, PATH_STYLES, VIEW_GENERATORS, ViewsWriter, __version__, load_capture
from fvgen.generation.stored_photo import StoredPhoto
from fvgen.generation.views_folder import depth_unit_of
from fvgen.geometry.similarity import Similarity
from fvgen.pictures import image_bytes, png


def main(data: Path, output: Path, generator: str = "warp", long_side: int = 320) -> None:
    """Reconstruct points, generate the views between the photos, write both."""
    # Photos of your own program: Capture(photos [V, 3, H, W], Cameras(c2w, K, H, W), valid [V, H, W]).
    capture, names = load_capture(data, long_side=long_side)
    geometry = GEOMETRY_PROVIDERS["auto"]().reconstruct(capture)
    path = PATH_STYLES["between"](capture.cameras, None)
    views = VIEW_GENERATORS[generator]().generate(capture, geometry, path, seed=0)

    unit = depth_unit_of(geometry.depths)
    unmoved = Similarity(np.eye(3, 4), 1.0)  # the capture's own frame
    provenance = {"version": __version__, "generator": generator, "seed": 0, "settings": {"long_side": long_side}}
    writer = ViewsWriter(output, f"{generator} {long_side}", unmoved, unit, provenance)
    for i, name in enumerate(names):
        c2w, K = (value[i].double().numpy() for value in (capture.cameras.c2w, capture.cameras.K))
        content = png(image_bytes(capture.photos[i]))
        size = (capture.cameras.width, capture.cameras.height)
        writer.put_photo(i, StoredPhoto(Path(name).name, content, c2w, K, size), geometry.depths[i])
    drawn = (~views.is_photo).nonzero()[:, 0].tolist()
    for place, i in enumerate(drawn, start=len(names)):
        confidence = views.pixel_confidence[i, 0] * views.view_confidence[i]
        info = {"generator": generator, "ends": path.ends[i].tolist(), "position": float(path.position[i])}
        writer.put_view(place, views.cameras[i], views.rgb[i], views.depth[i, 0], confidence, views.covered[i, 0], info)
    writer.finish(len(names) + len(drawn), geometry.points)
    print(f"{len(names)} photos and {len(drawn)} views in {output}; {len(geometry.points)} points")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4])
