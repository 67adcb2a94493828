"""The evaluation commands end to end, small."""

import json
import re
import shutil
from pathlib import Path

import pytest
from nerfstudio_commands import run

from fvgen.checks import InputError
from fvgen.evaluation.evaluate_views import EvaluateViews, evaluate_views
from fvgen.evaluation.paper_tables import PaperTable, run_paper_table
from fvgen.evaluation.published_rows import TABLES, published_table
from fvgen.evaluation.run_results import RunResults, config_key, folder_digest

CAPTURES = Path(__file__).parents[1] / "data" / "captures"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Two scenes, one of them damaged, one generator, and frames from elsewhere."""
    folder = tmp_path_factory.mktemp("evaluate")
    shutil.copytree(CAPTURES / "skull", folder / "data" / "good")
    shutil.copytree(CAPTURES / "skull", folder / "data" / "broken")
    (folder / "data" / "broken" / "transforms.json").write_text("{")
    options = EvaluateViews(
        data=folder / "data",
        output=folder / "out",
        protocol="own-split",
        generators=["warp"],
        long_side=64,
        metrics=["psnr", "ssim"],
    )
    evaluate_views(options)
    return folder, options


def test_a_scene_that_fails_is_named_and_the_others_are_scored(evaluated):
    folder, _ = evaluated
    report = json.loads((folder / "out" / "report.json").read_text())
    assert any(note.startswith("broken failed:") for note in report["notes"])
    assert report["scenes"]["good"]["warp"] == report["scenes"]["mean"]["warp"]
    assert report["scenes"]["good"]["warp"]["psnr"] > 10
    assert "broken" not in report["scenes"]


def test_the_report_opens_offline(evaluated):
    folder, _ = evaluated
    page = (folder / "out" / "report.html").read_text()
    assert "data:image/jpeg;base64," in page and not re.search(r'(src|href)="http', page)
    assert "| warp |" in (folder / "out" / "report.md").read_text()


def test_the_same_evaluation_is_found_and_other_programs_frames_join_it(evaluated, monkeypatch):
    folder, options = evaluated
    monkeypatch.setattr("fvgen.generation.warp.WarpViews.generate", lambda *_: pytest.fail("drawn again"))
    options.frames = [f"elsewhere={folder / 'out' / 'frames'}"]
    shutil.copytree(folder / "out/frames/good/warp", folder / "out/frames/good/color")
    scenes = evaluate_views(options).rows["good"]
    assert scenes["elsewhere"]["psnr"] == pytest.approx(scenes["warp"]["psnr"], abs=0.3)  # masks, 8 bits


def test_results_are_kept_by_what_was_run(tmp_path):
    results = RunResults(tmp_path)
    assert config_key({"a": 1, "b": 2}) == config_key({"b": 2, "a": 1}) != config_key({"a": 1, "b": 3})

    def fails():
        raise InputError("no luck")

    assert results.get_or_run({"a": 1}, fails) == {"failed": "no luck"}
    assert results.get_or_run({"a": 1}, lambda: {"psnr": 1.0}) == {"psnr": 1.0}
    assert results.get_or_run({"a": 1}, fails) == {"psnr": 1.0}
    (tmp_path / "x").write_text("1")
    before = folder_digest(tmp_path)
    (tmp_path / "x").write_text("2")
    assert folder_digest(tmp_path) != before


def test_published_rows_have_their_sources():
    tables = {name: published_table(name) for name in TABLES}
    assert sum(len(table.rows) for table in tables.values()) == 916
    for table in tables.values():
        assert all(row["source_id"] in table.sources for row in table.rows)
    fern = tables["llff"].select(scene="fern", views=3)
    assert max(row["psnr"] for row in fern if row["weights_free"] is False and row["psnr"] is not None) == 23.84
    assert fern[0]["psnr"] >= fern[-1]["psnr"]


def test_a_paper_table_names_what_is_missing(tmp_path, capsys):
    with pytest.raises(InputError, match=r"data must be"):
        run_paper_table(PaperTable(3, data=tmp_path / "none", output=tmp_path))
    shown = capsys.readouterr().out
    assert "Missing: GAN start + DMD. Give --models" in shown and "Missing: LPIPS and FID" in shown
    with pytest.raises(InputError, match="number must be 1, 2, 3, got 4"):
        run_paper_table(PaperTable(4, data=tmp_path, output=tmp_path))


@pytest.mark.slow
def test_splats_go_through_ns_train_and_ns_eval(tmp_path):
    arguments = ["evaluate", "splats", "--data", CAPTURES / "skull", "--output", "out", "--steps", 30, "--seeds", 1]
    arguments += ["--size", 64, "--methods", "photos_only", "dense", "--metrics", "psnr", "ssim"]
    run("fvgen", *arguments, cwd=tmp_path)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (stored, *_) = [json.loads(path.read_text()) for path in (tmp_path / "out" / "results").iterdir()]
    assert stored["result"]["mean"]["psnr"] == pytest.approx(stored["result"]["ns_eval"]["psnr"], abs=0.1)
    assert set(report["scenes"]["skull"]) == {"photos_only", "dense"}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").iterdir()}
    run("fvgen", *arguments, cwd=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").iterdir()} == before
