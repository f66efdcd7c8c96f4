"""Headless Chromium for the tests: it reaches this machine only, and whatever it asks for elsewhere is written down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

CHROMIUM = "/usr/bin/chromium"
SIZES = {"phone": (390, 844), "tablet": (820, 1180), "desktop": (1440, 900)}
SCHEMES = ("light", "dark")
_LOCAL = {"127.0.0.1", "localhost"}


@dataclass
class Seen:
    """A page, and what went wrong in it: requests to elsewhere, lines of the console, errors of scripts."""

    page: Page
    elsewhere: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Nothing went wrong, and nothing is wider than the window."""
        assert self.elsewhere == [] and self.complaints == []
        wide = self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide[0] <= wide[1], f"the page is {wide[0]} pixels wide in a window of {wide[1]}"


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; the test is skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM} (apt-get install chromium fonts-liberation)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, url: str, size: str = "desktop", scheme: str = "light", **options: Any) -> Iterator[Seen]:
    """A page in a window of its own."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
        has_touch=size != "desktop",
        **options,
    )
    context.set_default_timeout(60_000)
    seen = Seen(context.new_page())
    context.route("**/*", lambda route: _local_only(route, seen))
    seen.page.on("console", lambda line: line.type in ("error", "warning") and seen.complaints.append(line.text))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.goto(url)
    yield seen
    context.close()


def _local_only(route: Route, seen: Seen) -> None:
    address = urlsplit(route.request.url)
    if address.hostname in _LOCAL or address.scheme in ("data", "blob"):
        route.continue_()
    else:
        seen.elsewhere.append(route.request.url)
        route.abort()
