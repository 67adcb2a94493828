"""The viewer's page in a real headless browser, and what waits for it."""

from __future__ import annotations

import socket
import time

import pytest
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


class Page:
    """The viewer's page, as a user sees and clicks it."""

    def __init__(self, browser) -> None:
        self.browser = browser

    def found(self, path: str):
        return self.browser.find_elements("xpath", path)

    def wait_for_text(self, text: str, seconds: float = 60) -> str:
        """Text of the first paragraph that holds ``text``; the page may draw it anew at any moment."""
        found = "return [...document.querySelectorAll('p')].map(e => e.innerText).filter(t => t.includes(arguments[0]))"
        return wait_for(lambda: self.browser.execute_script(found, text), seconds, text)[0]

    def set_box(self, label: str, value: bool) -> None:
        (box,) = self.found(f"//*[text()='{label}']/following::input[@type='checkbox'][1]")
        assert box.is_selected() != value
        self.browser.execute_script("arguments[0].click()", box)
        wait_for(lambda: box.is_selected() == value, 10, f"setting {label}")

    def press(self, label: str) -> None:
        (button,) = self.found(f"//button[contains(., '{label}')]")
        self.browser.execute_script("arguments[0].click()", button)

    def open_tab(self, label: str) -> None:
        (tab,) = self.found(f"//button[@role='tab'][contains(., '{label}')]")
        self.browser.execute_script("arguments[0].click()", tab)

    def fill_in(self, label: str, text: str) -> None:
        """A text field, in place of what stood there."""
        field = self.found(f"//*[text()='{label}']/following::input[1]")[0]
        field.clear()
        field.send_keys(text)

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
