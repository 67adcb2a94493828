"""Who may import whom, and where hardware may be asked for: the borders that keep the house simple."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "fvgen").rglob("*.py"))
CODE = sorted(
    path for folder in ("fvgen", "fvgen_ns", "scripts", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)

EVERYONE_MAY_IMPORT = {"types", "clip", "checks", "command", "devices", "files", "pictures", "metrics", "numba_compile"}
MAY_IMPORT = {
    **{name: set() for name in EVERYONE_MAY_IMPORT},
    "metrics": {"ssim_numba"},
    "ssim_numba": set(),
    "geometry": set(),
    "rendering": {"geometry"},
    "splats": {"rendering", "geometry"},
    "models": set(),
    "diffusion": set(),
    "conditioning": {"models"},
    "generation": {"models", "diffusion", "conditioning", "rendering", "geometry"},
    "procedural": {"geometry"},
    "data": {"procedural", "generation", "models", "conditioning", "rendering", "geometry"},
    "poses": {"data", "rendering", "geometry"},
    "distillation": {"models", "diffusion", "conditioning", "data.shards"},  # a run reads what data has prepared
    "evaluation": {
        "distillation", "poses", "data", "generation", "models", "diffusion", "conditioning", "rendering", "geometry"
    },
}  # fmt: skip


def imports(path):
    """Full names of all modules that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_import_only_what_lies_below_them(path):
    package = path.relative_to(ROOT / "fvgen").parts[0].removesuffix(".py")
    if package == "__init__":
        return
    allowed = EVERYONE_MAY_IMPORT | MAY_IMPORT[package] | {package}
    for name in imports(path):
        if name.startswith("fvgen."):
            inside = name.removeprefix("fvgen.")
            assert any(inside == one or inside.startswith(f"{one}.") for one in allowed), f"{path} imports {name}"


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_never_imports_nerfstudio(path):
    assert not {name.split(".")[0] for name in imports(path)} & {"nerfstudio", "fvgen_ns", "scripts", "benchmarks"}


@pytest.mark.parametrize("package", ["data", "generation", "geometry", "poses"])
def test_the_first_page_of_a_large_package_names_each_of_its_files(package):
    folder = ROOT / "fvgen" / package
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    named = re.findall(r"`(\w+)`", text)
    assert sorted(named) == sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def test_hardware_is_asked_for_in_two_files_only():
    found = set()
    for path in CODE:
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            # documentation may speak of it; a docstring is a string over more than a word
            word = token.type == tokenize.NAME or (token.type == tokenize.STRING and " " not in token.string)
            if word and "cuda" in token.string:
                found.add(str(path.relative_to(ROOT)))
    assert found <= {"fvgen/devices.py", "fvgen/rendering/splat_rasterizer_gsplat.py"}


def test_drawing_without_a_network_does_not_wait_for_diffusers():
    code = "import sys, fvgen.generation.warp; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"diffusers", "transformers"} & set(modules.split())


def test_importing_fvgen_is_instant():
    heavy = {"torch", "numpy", "PIL", "cv2", "numba", "diffusers", "transformers", "nerfstudio"}
    code = "import sys, fvgen; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "fvgen" in modules.split()
    assert not heavy & set(modules.split())


def test_tests_share_what_stands_in_support_and_import_no_test_module():
    for path in sorted((ROOT / "tests").rglob("*.py")):
        assert not [name for name in imports(path) if name.startswith("test_")], path
