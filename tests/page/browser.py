"""A real Chromium, and what every test of the page checks."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    expect,
    sync_playwright,
)

#: milliseconds until a test gives up waiting: generous, since machines are slow at times
PATIENCE = 120_000
DESK, PHONE = (1280, 800), (390, 844)
expect.set_options(timeout=PATIENCE)
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser. Without one the test is skipped, but not in CI."""
    with sync_playwright() as playwright:
        found = program(playwright)
        if not Path(found).exists():
            why = (
                "no Chromium on the PATH (Debian: apt-get install chromium; or: playwright install chromium)"
            )
            if os.environ.get("CI"):
                pytest.fail(why)
            pytest.skip(why)
        # as root, in a container, its sandbox does not work
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def program(playwright: Playwright) -> str:
    """The machine's own Chromium, else the one that Playwright installs, if it has."""
    return next(filter(None, map(shutil.which, _PROGRAMS)), playwright.chromium.executable_path)


class Visit:
    """One person's visit to a gateway's page, in a browser without a past.

    At its end nothing has gone wrong that the browser would tell its console, such as an error or what the
    Content-Security-Policy forbids, and no other host was asked.

    Args:
        refused: the gateway is going to refuse something, of which the console tells.
    """

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        size: tuple[int, int] = DESK,
        dark: bool = False,
        refused: bool = False,
    ) -> None:
        self.context: BrowserContext = browser.new_context(
            base_url=url,
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            accept_downloads=True,
        )
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.asked: set[str] = set()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(error.stack or str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url))
        self._url = url
        self._refused = refused

    def _hear(self, message: ConsoleMessage) -> None:
        is_refusal = message.text.startswith("Failed to load resource")
        if message.type in ("error", "warning") and not (self._refused and is_refusal):
            self.said.append(f"{message.type}: {message.text}")

    def close(self) -> None:
        """End the visit."""
        self.context.close()
        assert self.said == [], self.said
        elsewhere = [url for url in self.asked if not url.startswith((self._url, "blob:", "data:"))]
        assert elsewhere == [], elsewhere


def check_accessible(page: Page) -> None:
    """Check that the accessibility checker finds nothing in what is shown now."""
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    told = [
        f"{each['id']}: {each['help']}: {node['html']}\n{node['failureSummary']}"
        for each in found.response["violations"]
        for node in each["nodes"]
    ]
    assert told == [], "\n\n".join(told)


def check_fits(page: Page) -> None:
    """Check that nothing is wider than the window."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
