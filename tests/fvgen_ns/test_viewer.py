"""The real viewer in a real headless browser."""

import io
import json
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from nerfstudio_commands import BIN, config_of, run_environment, train
from PIL import Image
from viewer_page import Page, answers, free_port, wait_for


def scene(browser) -> np.ndarray:
    """[H, W, 3] what the page shows left of its control panel, once it stays as it is."""
    before = None
    for _ in range(120):
        picture = np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))[:, :640]
        if before is not None and np.array_equal(picture, before):
            return picture
        before = picture
        time.sleep(1)
    pytest.fail("the page never came to rest")


def changed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[H, W] bool"""
    return (first != second).any(axis=2)


def view(browser) -> np.ndarray:
    """[H, W, 3] the scene alone, once it stays as it is."""
    corners = browser.execute_script(
        "const r = [...document.querySelectorAll('canvas')].at(-1).getBoundingClientRect();"
        "return [r.left, r.top, r.width, r.height].map(Math.round)"
    )
    left, top, width, height = corners
    scene(browser)
    picture = np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))
    return picture[top : top + height, left : left + width]


def first_photo(capture: Path, height: int, width: int) -> np.ndarray:
    """[H, W, 3] the middle of the first training photo, as a view of that shape and of the photo's height shows it."""
    meta = json.loads((capture / "transforms.json").read_text())
    photo = Image.open(capture / sorted(meta["train_filenames"])[0]).convert("RGB")
    across = round(photo.height * width / height)
    assert across <= photo.width
    left = (photo.width - across) // 2
    return np.asarray(photo.crop((left, 0, left + across, photo.height)).resize((width, height), Image.BILINEAR))


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """In dB, of bytes; of what both show, since the page's panel may push the scene by a pixel."""
    height, width = np.minimum(first.shape[:2], second.shape[:2])
    first, second = first[:height, :width], second[:height, :width]
    return float(-10 * np.log10(max(np.mean((first.astype(float) - second) ** 2), 1e-3) / 255**2))


@contextmanager
def shown(run_folder: Path, browser):
    """The page of ns-viewer on a finished run."""
    port = free_port()
    options = ("--load-config", config_of(run_folder), "--viewer.websocket-port", port)
    viewer = subprocess.Popen(
        [BIN / "ns-viewer", *map(str, options), "--viewer.websocket-host", "127.0.0.1"],
        cwd=run_folder,
        env=run_environment(run_folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: answers(port), 120, "listening")
        browser.get(f"http://127.0.0.1:{port}")
        page = Page(browser)
        wait_for(lambda: page.found("//*[text()='Generated views (orange)']"), 60, "showing the panel")
        page.wait_for_text("Gaussians", 120)  # the panel's thread has measured, so pictures are drawn, too
        yield page
        assert viewer.poll() is None
    finally:
        viewer.kill()
        viewer.wait()


@pytest.mark.slow
def test_the_viewer_opens_on_the_first_photo_and_tells_cameras_apart(tiny_room, tmp_path, browser):
    train(tmp_path, tiny_room, "--max-num-iterations", 30)
    pictures = Path(os.environ.get("FVGEN_TEST_PICTURES", tmp_path))
    with shown(tmp_path, browser) as page:
        first = view(browser)
        assert psnr(first, first_photo(tiny_room, *first.shape[:2])) > 18
        state = page.wait_for_text("Gaussians")
        assert "4 photos, 6 generated views (warp)" in state
        assert "Held-out PSNR" in state

        page.step_back()
        everything = scene(browser)
        browser.save_screenshot(str(pictures / "viewer.png"))
        page.set_box("Generated views (orange)", False)
        without_generated = scene(browser)
        assert changed(everything, without_generated).sum() > 50
        page.press("Hide Train Cams")
        held_out = scene(browser)
        assert changed(without_generated, held_out).sum() > 200  # the photos' cameras are gone, too
        page.press("Show Train Cams")
        assert not changed(without_generated, scene(browser)).any()  # those of generated views stay away
        page.set_box("Held-out photos (green)", False)
        assert changed(without_generated, scene(browser)).sum() > 100

        page.click_scene()  # on the first photo's camera, out of which the view has moved
        assert "dB, SSIM 0." in page.wait_for_text("SSIM")
        assert page.found("//img[starts-with(@src, 'data:image/jpeg')]")
        inside = view(browser)
        assert psnr(inside, first) > 30  # moved into the camera, which is hidden from there

        page.choose("Output type", "support")
        wait_for(lambda: is_blue(view(browser)), 60, "showing what photos support in blue")
        browser.save_screenshot(str(pictures / "support.png"))
        assert page.own_errors() == []


def is_blue(picture: np.ndarray) -> bool:
    """Whether most of a picture is."""
    red, _, blue = np.moveaxis(picture.astype(int), 2, 0)
    return float(np.mean(blue - red > 60)) > 0.5
