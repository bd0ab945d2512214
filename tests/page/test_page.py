"""The status page in a browser while devices of a real daemon are made, loaded, broken and removed.

The full number of devices: TCMU_TEST_PAGE_DEVICES=64.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Act
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

MANY = int(os.environ.get("TCMU_TEST_PAGE_DEVICES", "8"))
SECONDS = 90.0
HOSTILE = '<img src=x onerror="document.title=1">'


@dataclass
class Page:
    """What a person sees."""

    browser: Chrome
    address: str

    def open(self) -> None:
        self.browser.get(f"http://{self.address}/")

    def wait(self, what: str, condition: Callable[[], object]) -> None:
        message = f"{what}; the page shows:\n{self.text}"
        WebDriverWait(self.browser, SECONDS, 0.2).until(lambda _: condition(), message)

    @property
    def text(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "body").text

    def wait_for(self, *texts: str) -> None:
        self.wait(f"not seen: {texts}", lambda: all(text in self.text for text in texts))

    def element(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def rows(self) -> list[str]:
        rows: list[str] = self.browser.execute_script(  # at once: the page changes under our hands
            "return [...document.querySelectorAll('#devices > li')].map((row) => row.innerText)"
        )
        return rows

    def row(self, name: str) -> str:
        return next((row for row in self.rows() if name in row), "")

    def click(self, selector: str) -> None:
        self.element(selector).click()

    def emulate(self, *, width: int, height: int, dark: bool) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})

    def complaints(self) -> list[str]:
        """What the browser has to say: errors of the script, what its policy refused."""
        return [
            f"{entry['level']}: {entry['message']}"
            for entry in self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        ]


def test_a_device_is_made_loaded_broken_and_removed(
    browser: Chrome, address: str, act: Act, pictures: Path
) -> None:
    page = Page(browser, address)
    page.open()
    page.wait_for("There is no device yet.", "2.0.0, live")

    act("make", "vol0", "ram/", 0)
    page.wait("vol0 is not listed", lambda: "serving" in page.row("user_0/vol0"))
    page.wait_for("1 serving", "user_0/vol0 added, 64 MiB in blocks of 512 bytes")

    act("load", 0)
    page.click("#devices a")
    page.wait_for("user_0/vol0", "64 MiB in blocks of 512 B", "serving for", "READ(10)", "WRITE(10)")
    page.wait("no load", lambda: element_number(page, ".chart:nth-child(1) .now") > 10)
    page.wait("no curve", lambda: page.element(".chart:nth-child(1) path:not(.area)").get_attribute("d"))
    assert ("p95" in page.text and "MiB/s" in page.text) or "KiB/s" in page.text
    browser.save_screenshot(str(pictures / "loaded.png"))

    act("make", HOSTILE, "raise/", 1)
    act("trigger", 1, 20)
    page.click("#back")
    page.wait("the error is not counted", lambda: "HARDWARE ERROR 44/00" in page.text)
    assert HOSTILE in page.text, "names are text"
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    act("remove", HOSTILE, 1)
    page.wait("it is still listed", lambda: len(page.rows()) == 1)

    act("make", "vol2", "leave/", 2)
    act("trigger", 2, 10)
    page.wait("vol2 is in no trouble", lambda: "waiting" in page.row("vol2"))
    page.wait_for("ended (exit status 3): initiators retry the commands under way", "failed 5 times")
    page.click("#states [data-state=waiting]")
    page.wait("not only what waits is shown", lambda: "vol0" not in "".join(page.rows()))
    page.click("#states [data-state=waiting]")
    browser.save_screenshot(str(pictures / "broken.png"))
    page.wait("vol2 is not served again", lambda: "serving" in page.row("vol2"))

    page.element("#filter").send_keys("VOL2")
    page.wait("the filter does nothing", lambda: len(page.rows()) == 1)
    page.element("#devices a").send_keys(Keys.ENTER)
    page.wait_for("leave/", "restarts")
    act("remove", "vol2", 2)
    page.wait_for("There is no such device any more.", "removed")
    page.click("#back")
    page.element("#filter").send_keys(Keys.CONTROL, "a", Keys.DELETE)
    page.wait("vol0 is not what is left", lambda: [row.count("vol0") for row in page.rows()] == [1])
    assert page.complaints() == []

    act("stop")
    page.wait_for("no answer for")
    act("start")
    page.wait("it is not live again", lambda: "live" in page.text and "serving" in page.row("vol0"))


def element_number(page: Page, selector: str) -> float:
    text = page.element(selector).text.split()[0]
    return float(text) if text[0].isdigit() else 0


@pytest.mark.parametrize("count", [1, MANY])
def test_devices_by_day_and_night_on_desk_and_phone(
    browser: Chrome, address: str, act: Act, pictures: Path, count: int
) -> None:
    act("empty")
    act("make_many", 10, 10 + count)
    page = Page(browser, address)
    page.open()
    page.wait("devices are missing", lambda: sum("/vol" in row for row in page.rows()) == count)
    page.wait_for("live")
    grounds = set()
    for width in (1280, 360):
        for dark in (False, True):
            page.emulate(width=width, height=900, dark=dark)
            browser.save_screenshot(str(pictures / f"{count}-{width}-{'dark' if dark else 'light'}.png"))
            grounds.add(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
            too_wide = "return document.scrollingElement.scrollWidth - innerWidth"
            assert browser.execute_script(too_wide) <= 0, f"at {width} it scrolls sideways"
    assert len(grounds) == 2, "light and dark look the same"
    assert page.complaints() == []
