import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fvgen.procedural.rooms.capture import TINY, write_room_capture


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m gpu`` only files that hold such tests: importing all others takes longer than those tests."""
    if config.option.markexpr != "gpu" or collection_path.suffix != ".py" or collection_path.name == "conftest.py":
        return None
    return True if "mark.gpu" not in collection_path.read_text(encoding="utf-8") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nerfstudio commands first: they take longest, and a process that begins them last keeps the others waiting."""
    items.sort(key=lambda item: "fvgen_ns" not in item.path.parts)


@pytest.fixture(scope="session")
def real_captures() -> list[Path]:
    """Folders of real captures: the repository's thinned ones, and those that lie beside some checkouts."""
    tests = Path(__file__).resolve().parent
    places = (tests / "data" / "captures", tests.parents[1] / "shared" / "captures")
    return sorted(file.parent for place in places for file in place.glob("*/transforms.json"))


@pytest.fixture(scope="session")
def tiny_room(tmp_path_factory) -> Path:
    """A procedural capture of 4 + 2 photos, 96x64, with depth; not to be written to."""
    folder = tmp_path_factory.mktemp("captures") / "room"
    write_room_capture(folder, seed=0, layout=TINY, with_depth=True)
    return folder


@pytest.fixture
def capture(tiny_room, tmp_path) -> Path:
    """A copy of the tiny room for a test to damage."""
    return Path(shutil.copytree(tiny_room, tmp_path / "capture"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Callable[[str], Path]:
    """``tiny_model("student" | "teacher")``: folder of a saved pipeline of tiny random networks.

    The student has a lossless codec and no towers, the teacher all six components; both were "trained" on 4 frames.
    Not to be written to.
    """
    root = tmp_path_factory.mktemp("models")

    def folder(kind: str) -> Path:
        if not (root / kind).is_dir():
            from tiny_pipelines import tiny_pipeline

            tiny_pipeline(kind).save_pretrained(root / kind)
        return root / kind

    return folder
