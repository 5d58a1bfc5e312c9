"""Ten thousand jobs, and a job of a hundred thousand images: the page holds what the window shows."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from img2img_shared.ledger import Ledger, connect
from tests.integration.gateway import Gateway
from tests.integration.ledger_helpers import a_job
from tests.page.browser import DESK, PHONE, Visit, check_accessible, check_fits

JOBS, IMAGES = 10_000, 100_000
#: what else is told of some of them, by their numbers
ABOUT: dict[int, dict[str, Any]] = {
    7: {"owner": "alice", "tags": ("night",)},
    8: {"tags": ("night", "draft")},
}


@pytest.fixture(scope="module")
def crowded(bare_gateway: Gateway) -> Iterator[Gateway]:
    with connect(str(bare_gateway.settings.redis_url)) as redis:
        ledger = Ledger(redis)
        ledger.submit(a_job("job-huge", IMAGES, priority=100).model_copy(update={"name": "huge"}))
        small = a_job(n=1)
        for number in range(JOBS - 1):
            own: dict[str, Any] = {"id": f"job-{number:05}", "name": f"small {number:05}"}
            ledger.submit(small.model_copy(update=own | ABOUT.get(number, {})))
        yield bare_gateway
        redis.call("FLUSHALL")


def cells(page: Page) -> int:
    return page.locator(".cell").count()


def test_ten_thousand_jobs_scroll(visiting: Callable[..., Visit], crowded: Gateway) -> None:
    page = visiting(crowded.url).page
    page.goto("/")
    expect(page.get_by_role("link", name="huge")).to_be_visible()
    expect(page.get_by_text(f"{JOBS:,} jobs are listed")).to_be_attached()
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    expect(page.get_by_role("link", name=f"small {JOBS - 2:05}")).to_be_visible()
    assert cells(page) < 60
    check_fits(page)
    page.evaluate("window.scrollTo(0, 0)")
    page.get_by_role("searchbox").fill("small 0777")
    expect(page.get_by_text("10 jobs are listed", exact=True)).to_be_attached()
    expect(page.get_by_role("link", name="small 07775")).to_be_attached()
    check_accessible(page)


def test_the_list_is_narrowed_to_an_owner_and_to_tags(
    visiting: Callable[..., Visit], crowded: Gateway
) -> None:
    page = visiting(crowded.url).page
    page.goto("/")
    page.get_by_role("searchbox").fill("small 00007")
    expect(page.get_by_text("1 job is listed", exact=True)).to_be_attached()  # no other has a tag
    page.get_by_role("button", name="night", exact=True).click()
    page.get_by_role("searchbox").fill("")
    expect(page.get_by_text("2 jobs are listed", exact=True)).to_be_attached()
    page.get_by_role("button", name="alice", exact=True).click()
    expect(page.get_by_text("1 job is listed", exact=True)).to_be_attached()
    check_accessible(page)
    page.get_by_role("button", name="No longer only jobs by alice").click()
    page.get_by_role("button", name="draft", exact=True).click()
    expect(page.get_by_role("link", name="small 00008")).to_be_visible()
    expect(page.get_by_text("1 job is listed", exact=True)).to_be_attached()
    for tag in ("night", "draft"):
        page.get_by_role("button", name=f"No longer only jobs tagged {tag}").click()
    expect(page.get_by_text(f"{JOBS:,} jobs are listed")).to_be_attached()


def test_a_list_that_is_left_while_it_scrolls_is_not_looked_at_again(
    visiting: Callable[..., Visit], crowded: Gateway
) -> None:
    page = visiting(crowded.url).page
    page.goto("/")
    expect(page.get_by_role("link", name="huge")).to_be_visible()
    workers = page.get_by_role("navigation").get_by_role("link", name="Workers")
    workers.evaluate("link => { link.click(); window.dispatchEvent(new Event('scroll')); }")
    expect(page.get_by_role("heading", name="Workers", exact=True)).to_be_visible()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_a_hundred_thousand_images_scroll(
    visiting: Callable[..., Visit], crowded: Gateway, size: tuple[int, int]
) -> None:
    page = visiting(crowded.url, size=size).page
    page.goto("/jobs/job-huge")
    first = page.get_by_role("link", name="Image 1: Waiting", exact=True)
    first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("link", name="Image 2: Waiting", exact=True)).to_be_focused()
    page.keyboard.press("End")
    last = page.get_by_role("link", name=f"Image {IMAGES}: Waiting", exact=True)
    expect(last).to_be_focused()
    expect(last).to_be_in_viewport()
    assert cells(page) < 200
    check_fits(page)
    page.keyboard.press("Home")
    expect(first).to_be_focused()
    check_accessible(page)
