"""A real Chromium, and pages in it that fail the test on any error of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from ui_worlds import World, full_world, served

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
Open = Callable[..., Page]


@pytest.fixture(scope="module")  # its event loop must end before a test of another file needs one
def chromium() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        why = f"none of {', '.join(NAMES)} is installed. On Debian: apt install chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@pytest.fixture
def world() -> Iterator[World]:
    with served(full_world()) as running:
        yield running


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    """Return a function that opens the page at a URL: ``open_page(url, width=360, dark=True)``."""
    errors: list[str] = []
    contexts = []

    def note(message: ConsoleMessage) -> None:
        # A status that is no 2xx is told in the console whatever the page makes of it.
        if message.type == "error" and "Failed to load resource" not in message.text:
            errors.append(message.text)

    def begin(url: str, *, width: int = 1200, dark: bool = False, **settings: Any) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 780},
            color_scheme="dark" if dark else "light",
            **settings,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{url}/ui")
        return page

    yield begin
    for context in contexts:
        context.close()
    assert not errors
