"""The real viewer in a real headless browser."""

import io
import json
import os
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from nerfstudio_commands import BIN, config_of, run_environment, train
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin


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
    """In dB, of bytes."""
    return float(-10 * np.log10(max(np.mean((first.astype(float) - second) ** 2), 1e-3) / 255**2))


class Page:
    """The viewer's page, as a user sees and clicks it."""

    def __init__(self, browser) -> None:
        self.browser = browser

    def found(self, path: str):
        return self.browser.find_elements("xpath", path)

    def wait_for_text(self, text: str, seconds: float = 60) -> str:
        """Text of the first element that holds ``text``."""
        return wait_for(lambda: [e.text for e in self.found(f"//p[contains(., '{text}')]")], seconds, text)[0]

    def set_box(self, label: str, value: bool) -> None:
        (box,) = self.found(f"//*[text()='{label}']/following::input[@type='checkbox'][1]")
        assert box.is_selected() != value
        self.browser.execute_script("arguments[0].click()", box)
        wait_for(lambda: box.is_selected() == value, 10, f"setting {label}")

    def press(self, label: str) -> None:
        (button,) = self.found(f"//button[contains(., '{label}')]")
        self.browser.execute_script("arguments[0].click()", button)

    def choose(self, label: str, option: str) -> None:
        """In a drop-down list."""
        field = self.found(f"//*[text()='{label}']/following::input[1]")[0]
        self.browser.execute_script("arguments[0].scrollIntoView()", field)
        field.click()
        entry = wait_for(lambda: self.found(f"//*[@role='option'][.='{option}']"), 20, f"offering {option}")[0]
        self.browser.execute_script("arguments[0].click()", entry)

    def step_back(self) -> None:
        """Away from what the view looks at, by the mouse's wheel."""
        canvas = self.found("//canvas")[-1]
        for _ in range(10):
            ActionChains(self.browser).scroll_from_origin(ScrollOrigin.from_element(canvas), 0, 120).perform()

    def click_scene(self) -> None:
        """In the middle."""
        ActionChains(self.browser).move_to_element(self.found("//canvas")[-1]).click().perform()

    def own_errors(self) -> list[str]:
        """What the browser's console says, but for what any run of Nerfstudio's viewer makes it say."""
        known = ("googletagmanager", "docs.nerf.studio", "computeBoundingSphere")
        severe = [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]
        return [message for message in severe if not any(word in message for word in known)]


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
