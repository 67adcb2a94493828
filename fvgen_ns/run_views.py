"""The views folders of one run, in its own folder: numbered, and only those that are finished count."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from fvgen.generation.views_folder import ViewsWriter, depth_unit_of
from fvgen.geometry.similarity import Similarity
from fvgen.types import SceneGeometry


def finished(views: Path) -> list[Path]:
    """The finished folders in ``views``, in the order of their numbers."""
    return [file.parent for file in sorted(views.glob("*/transforms.json"))]


def copy_folders(folders: Sequence[Path], views: Path) -> None:
    """Take over the folders of another run, if it is another one."""
    for folder in folders:
        target = views / folder.name
        if target.resolve() != folder.resolve():
            shutil.copytree(folder, target, dirs_exist_ok=True)


def writer_of(
    folder: Path, similarity: Similarity, geometry: SceneGeometry, about: dict[str, object], if_full: str
) -> ViewsWriter:
    """Writes a folder of views that were drawn from ``geometry``.

    Raises:
        InputError: it cannot be written.
    """
    unit = depth_unit_of(geometry.depths, similarity.scale)
    return ViewsWriter(folder, folder.name, similarity, unit, about, if_full=if_full)
