"""The frame of the page: its files, its navigation, and what holds for all views."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from img2img_gateway.page_routes import FOLDER, POLICY
from tests.integration.gateway import Gateway
from tests.page.browser import DESK, PHONE, Visit, check_accessible, check_fits

#: bytes of the whole page before pictures
LARGEST = 250_000


def page_files() -> list[Path]:
    return [path for path in FOLDER.rglob("*") if path.suffix in (".html", ".js", ".mjs", ".css", ".svg")]


def test_the_page_is_small() -> None:
    assert sum(path.stat().st_size for path in page_files()) < LARGEST


def test_the_libraries_are_as_they_were_published() -> None:
    said = (FOLDER / "vendor" / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\S+)` .* `([0-9a-f]{64})`", said, re.MULTILINE))
    assert sorted(rows) == sorted(path.name for path in (FOLDER / "vendor").glob("*.mjs"))
    for name, published in rows.items():
        text = (FOLDER / "vendor" / name).read_text().replace('from"./preact.mjs"', 'from"preact"')
        assert hashlib.sha256(text.encode()).hexdigest() == published, name


def test_texts_stand_in_one_place() -> None:
    """No view has words of its own: what is between tags comes from strings.js."""
    for path in page_files():
        if path.suffix == ".js" and path.name != "strings.js":
            words = re.findall(r">\s*([A-Za-z][a-z]+ [a-z ]+)\s*<", path.read_text())
            assert words == [], path


def test_browsers_get_the_page_and_others_the_links(bare_gateway: Gateway) -> None:
    page = bare_gateway.http.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["vary"] == "Accept"
    for address in re.findall(r'(?:href|src)="(/page/[^"]+)"', page.text):
        file = bare_gateway.http.get(address)
        assert file.status_code == 200, address
        assert "immutable" in file.headers["cache-control"]
        assert (
            bare_gateway.http.get(address, headers={"If-None-Match": file.headers["etag"]}).status_code == 304
        )
    assert bare_gateway.http.get("/page/0123456789abcdef/main.js").status_code == 404
    assert 'href="/docs"' in bare_gateway.http.get("/").text


def test_views_are_addresses(visiting: Callable[..., Visit], bare_gateway: Gateway) -> None:
    page = visiting(bare_gateway.url).page
    page.goto("/")
    expect(page).to_have_title("Queue · img2img farm")
    page.get_by_role("link", name="Workers").click()
    expect(page.get_by_role("heading", name="Workers", level=1)).to_be_focused()
    expect(page).to_have_url(re.compile("/workers$"))
    page.reload()
    expect(page).to_have_title("Workers · img2img farm")
    page.go_back()
    expect(page).to_have_title("Queue · img2img farm")


def test_an_address_with_a_bare_percent_sign_is_a_job_that_is_not_found(
    visiting: Callable[..., Visit], bare_gateway: Gateway
) -> None:
    page = visiting(bare_gateway.url, refused=True).page
    page.goto("/jobs/100%")
    expect(page.get_by_role("alert").filter(has_text="job")).to_be_visible()
    expect(page.get_by_role("link", name="Workers")).to_be_visible()


@pytest.mark.parametrize(("size", "dark"), [(DESK, True), (PHONE, False)])
def test_the_frame_is_accessible(
    visiting: Callable[..., Visit], bare_gateway: Gateway, size: tuple[int, int], dark: bool
) -> None:
    page = visiting(bare_gateway.url, size=size, dark=dark).page
    for address in ("/", "/workers"):
        page.goto(address)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        check_accessible(page)
        check_fits(page)


def test_colours_are_kept(visiting: Callable[..., Visit], bare_gateway: Gateway) -> None:
    page = visiting(bare_gateway.url, dark=True).page
    page.goto("/")
    page.get_by_role("button", name="Switch to light colours").click()
    page.reload()
    expect(page.get_by_role("button", name="Switch to dark colours")).to_be_visible()
    expect(page.locator("body")).to_have_css("color-scheme", "light")
    page.get_by_role("button", name="Switch to dark colours").click()
    assert page.evaluate("localStorage.length") == 0


def test_the_page_tells_while_the_gateway_does_not_answer(
    visiting: Callable[..., Visit], bare_gateway: Gateway
) -> None:
    visit = visiting(bare_gateway.url, refused=True)
    visit.page.goto("/")
    expect(visit.page.get_by_role("heading", name="Queue")).to_be_visible()
    visit.context.set_offline(True)
    told = visit.page.get_by_text("What you see may be out of date")
    expect(told).to_be_visible()
    check_accessible(visit.page)
    visit.context.set_offline(False)
    expect(told).to_have_count(0)
