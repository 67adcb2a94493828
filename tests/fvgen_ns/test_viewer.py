"""The real viewer in a real headless browser."""

import io
import os
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from nerfstudio_commands import BIN, config_of, run_environment, train
from PIL import Image


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, seconds: float, what: str):
    """The condition's first true value."""
    end = time.time() + seconds
    while time.time() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.5)
    pytest.fail(f"{what} did not happen within {seconds} s")


def answers(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


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


def test_the_viewer_draws_the_splat_and_hides_generated_cameras(tiny_room, tmp_path, browser):
    from selenium.webdriver.common.by import By

    train(tmp_path, tiny_room, "--max-num-iterations", 5)
    port = free_port()
    options = ("--load-config", config_of(tmp_path), "--viewer.websocket-port", port)
    viewer = subprocess.Popen(
        [BIN / "ns-viewer", *map(str, options), "--viewer.websocket-host", "127.0.0.1"],
        cwd=tmp_path,
        env=run_environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: answers(port), 120, "listening")
        browser.get(f"http://127.0.0.1:{port}")

        def found(path: str):
            return browser.find_elements(By.XPATH, path)

        label = "//*[text()='Generated cameras']"
        wait_for(lambda: found(label), 60, "showing the checkbox")
        wait_for(lambda: browser.find_elements(By.TAG_NAME, "canvas"), 30, "a canvas")
        time.sleep(3)  # the first render travels to the page
        everything = scene(browser)
        picture = Path(os.environ.get("FVGEN_TEST_PICTURES", tmp_path)) / "viewer.png"
        browser.save_screenshot(str(picture))
        (box,) = found(f"{label}/following::input[@type='checkbox'][1]")
        assert box.is_selected()
        browser.execute_script("arguments[0].click()", box)
        wait_for(lambda: not box.is_selected(), 10, "unchecking")
        photos = scene(browser)
        (hide,) = found("//button[contains(., 'Hide Train Cams')]")
        browser.execute_script("arguments[0].click()", hide)
        nothing = scene(browser)
        of_generated, of_photos = changed(everything, photos), changed(photos, nothing)
        assert of_generated.sum() > 500  # their frames and pictures are gone
        assert of_photos.sum() > 500  # those of the photos had stayed
        assert viewer.poll() is None
    finally:
        viewer.kill()
        viewer.wait()
