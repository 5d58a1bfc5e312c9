"""Ten thousand jobs, and a job of a hundred thousand images: the page holds what the window shows."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from img2img_shared.ledger import Ledger, connect
from tests.integration.gateway import Gateway
from tests.integration.ledger_helpers import a_job
from tests.page.browser import DESK, PHONE, Visit, check_accessible, check_fits

JOBS, IMAGES = 10_000, 100_000


@pytest.fixture(scope="module")
def crowded(bare_gateway: Gateway) -> Iterator[Gateway]:
    with connect(str(bare_gateway.settings.redis_url)) as redis:
        ledger = Ledger(redis)
        ledger.submit(a_job("job-huge", IMAGES, priority=100).model_copy(update={"name": "huge"}))
        small = a_job(n=1)
        for number in range(JOBS - 1):
            own = {"id": f"job-{number:05}", "name": f"small {number:05}"}
            ledger.submit(small.model_copy(update=own))
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
