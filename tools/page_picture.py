"""Takes the guides' pictures of the page: ``python -m tools.page_picture URL docs/page.jpg``."""

import sys

from playwright.sync_api import sync_playwright

from tests.page.browser import DESK, program

#: the JPEG's quality
QUALITY = 72


def take(url: str, file: str) -> None:
    """A desktop window with the page at `url`, once nothing more is loaded, as a JPEG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(playwright), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": DESK[0], "height": DESK[1]}, reduced_motion="reduce")
        page.goto(url)
        page.locator("h1").wait_for()
        page.wait_for_timeout(3000)  # thumbnails come one after the other
        page.screenshot(path=file, type="jpeg", quality=QUALITY)
        browser.close()


if __name__ == "__main__":
    take(*sys.argv[1:])
