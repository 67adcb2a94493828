"""The real viewer in a real headless browser."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from nerfstudio_commands import BIN, config_of, run_environment, train


@pytest.fixture
def browser():
    """Headless Chromium; the software rasterizer stands in for a GPU."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("no Chromium: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (
        "headless=new",
        "no-sandbox",
        "use-angle=swiftshader",
        "enable-unsafe-swiftshader",
        "disable-quic",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "no-first-run",
        "window-size=1000,700",
    ):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


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


def test_the_viewer_draws_the_splat_and_hides_generated_cameras(tiny_room, tmp_path, browser):
    from selenium.webdriver.common.by import By

    train(tmp_path, tiny_room, "--max-num-iterations", 5)
    port = free_port()
    viewer = subprocess.Popen(
        [BIN / "ns-viewer", "--load-config", config_of(tmp_path), "--viewer.websocket-port", str(port),
         "--viewer.websocket-host", "127.0.0.1"],
        cwd=tmp_path, env=run_environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: answers(port), 120, "listening")
        browser.get(f"http://127.0.0.1:{port}")

        def label():
            return browser.find_elements(By.XPATH, "//*[text()='Generated cameras']")

        wait_for(label, 60, "showing the checkbox")
        wait_for(lambda: browser.find_elements(By.TAG_NAME, "canvas"), 30, "a canvas")
        picture = Path(os.environ.get("FVGEN_TEST_PICTURES", tmp_path)) / "viewer.png"
        time.sleep(3)  # the first render travels to the page
        browser.save_screenshot(str(picture))
        assert picture.stat().st_size > 10_000
        (box,) = browser.find_elements(
            By.XPATH, "//*[text()='Generated cameras']/following::input[@type='checkbox'][1]"
        )
        assert box.is_selected()
        browser.execute_script("arguments[0].click()", box)
        wait_for(lambda: not box.is_selected(), 10, "unchecking")
        assert viewer.poll() is None
    finally:
        viewer.kill()
        viewer.wait()
