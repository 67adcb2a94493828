"""The page of ``fvgen app``: uploads, poses, a training and downloads, in a real browser."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from nerfstudio_commands import run_environment
from viewer_page import Page, answers, free_port, wait_for

from fvgen_ns.app.run import Job
from fvgen_ns.cli import main

PHOTOS = Path(__file__).resolve().parents[1] / "data/captures/shelf_rgbd/images"
LONG = 1200
"""Seconds that a step may take on a machine that has other work to do."""


def test_a_job_says_how_far_it_is(tmp_path):
    bars = "import sys; sys.stdout.write('start\\n\\x1b[2Ktrials \\x1b[31m━━━━╸\\x1b[0m 3/4 0:01\\n'); sys.exit(3)"
    job = Job([sys.executable, "-c", bars], tmp_path / "logs" / "job.log")
    wait_for(lambda: not job.is_alive, 30, "ending")
    assert (job.exit_code, job.last_line(), job.progress()) == (3, "trials 3/4 0:01", 0.75)


@pytest.fixture
def heeded_interrupts():
    """SIGINT is handled, as the app does: what runs in a shell's background starts with it ignored, and a process
    hands that on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_interrupts")
def test_a_job_can_be_stopped(tmp_path):
    job = Job([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "job.log")
    job.stop()
    wait_for(lambda: not job.is_alive, 30, "stopping")
    assert job.was_stopped and job.progress() is None


def test_a_port_that_is_none_is_refused(capsys):
    assert main(["app", "--port", "0"]) == 2
    assert capsys.readouterr().err.startswith("--port must lie between 1 and 65535, got 0.")


@contextmanager
def app(cwd: Path, browser):
    """The page, and its address."""
    port = free_port()
    line = [sys.executable, "-m", "fvgen_ns.cli", "app", "--port", str(port)]
    with (cwd / "app.log").open("w") as log:
        process = subprocess.Popen(line, cwd=cwd, env=run_environment(cwd), stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: answers(port), 200, "listening")
        yield opened(browser, port), port
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)  # what it has started ends with it
        process.wait(timeout=60)


def opened(browser, port: int) -> Page:
    browser.get(f"http://127.0.0.1:{port}")
    page = Page(browser)
    wait_for(lambda: page.found("//*[text()='Folder or file']"), 60, "showing the panel")
    return page


def downloaded(page: Page, label: str, folder: Path, suffix: str) -> Path:
    wait_for(lambda: page.found(f"//button[contains(., '{label}')][not(@disabled)]"), 60, f"offering {label}")
    page.press(label)
    wait_for(lambda: list(folder.glob(f"*{suffix}")), 300, f"downloading {suffix}")
    return next(folder.glob(f"*{suffix}"))


@pytest.mark.slow
def test_photos_become_a_splat_by_clicks_alone(tmp_path, browser):
    pictures = Path(os.environ.get("FVGEN_TEST_PICTURES", tmp_path))
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    browser.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    photos = sorted(PHOTOS.glob("*.jpg"))[:5]
    with app(tmp_path, browser) as (page, port):
        for number, photo in enumerate(photos, start=1):
            (field,) = page.found("//input[@type='file']")
            field.send_keys(str(photo))
            page.wait_for_text(f"{number} photos, 0 videos", 60)
        assert page.found("//img[starts-with(@src, 'data:image/jpeg')]")
        page.press("Find poses")
        wait_for(lambda: page.found("//code[contains(., 'photos placed')]"), LONG, "finding poses")
        browser.save_screenshot(str(pictures / "app_poses.png"))

        wait_for(lambda: page.found("//button[contains(., 'Start')]"), 60, "ending the search")
        page.press("Start")
        (uploads,) = (tmp_path / "outputs/uploads").iterdir()
        runs = tmp_path / "outputs" / uploads.stem / "fvgen-splat"
        wait_for(lambda: list(runs.glob("*/config.yml")), LONG, "starting")
        browser.get("about:blank")  # a closed page loses nothing
        wait_for(lambda: list(runs.glob("*/nerfstudio_models/*.ckpt")), LONG, "training")
        page = opened(browser, port)
        page.wait_for_text(f"{len(photos)} photos, 0 videos", 60)
        page.wait_for_text("Nerfstudio's viewer of this run", 60)
        browser.save_screenshot(str(pictures / "app_training.png"))
        page.wait_for_text("Done: the scene shows the finished splat.", LONG)
        browser.save_screenshot(str(pictures / "app_done.png"))

        (run,) = (path.parent for path in runs.glob("*/config.yml"))
        assert json.loads((run / "capture/poses.json").read_text())["notes"]
        assert downloaded(page, "Download PLY", downloads, ".ply").stat().st_size > 1e5
        assert downloaded(page, "Download film", downloads, ".mp4").stat().st_size > 1e4
        if shutil.which("splat-transform"):
            assert downloaded(page, "Download HTML", downloads, ".html").stat().st_size > 1e6
        assert page.own_errors() == []
