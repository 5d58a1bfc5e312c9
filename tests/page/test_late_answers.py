"""Answers that come later than the news: what the page shows is the newer of the two."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import APIResponse, Page, Request, Route, expect

from img2img_shared.ledger import Ledger, connect
from tests.integration.gateway import FakeWorker, Gateway
from tests.integration.ledger_helpers import MODEL, a_job
from tests.page.browser import Visit


@pytest.fixture
def ledger(bare_gateway: Gateway) -> Iterator[Ledger]:
    with connect(str(bare_gateway.settings.redis_url)) as redis:
        yield Ledger(redis)
        redis.call("FLUSHALL")


class Held:
    """The next answer to an address, which the page gets when the test says so."""

    def __init__(self, page: Page, address: re.Pattern[str]) -> None:
        self._answers: list[tuple[Route, APIResponse]] = []
        self._page = page
        self._address = address
        page.route(address, self._take, times=1)

    def _take(self, route: Route) -> None:
        self._answers.append((route, route.fetch()))

    def wait(self) -> None:
        """Until the gateway has answered."""
        while not self._answers:
            self._page.evaluate("() => new Promise(requestAnimationFrame)")

    def give(self) -> None:
        route, answer = self._answers.pop()
        with self._page.expect_response(self._address):
            route.fulfill(response=answer)


def two_frames(page: Page) -> None:
    """Until the page has shown what it got."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_a_job_is_listed_that_comes_while_the_page_opens(
    visiting: Callable[..., Visit], bare_gateway: Gateway, ledger: Ledger
) -> None:
    page = visiting(bare_gateway.url, refused=True).page  # there are no pictures
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request) if "/v1/jobs?" in request.url else None)

    def follow(route: Route) -> None:
        for each in asked:
            each.response()
        ledger.submit(a_job("job-between", 2).model_copy(update={"name": "between"}))
        route.continue_()

    page.route("**/v1/events*", follow, times=1)
    page.goto("/")
    expect(page.get_by_role("link", name="between")).to_be_visible()


def wait_for_streams(page: Page) -> None:
    """Let the queue list its jobs when its stream has begun, however long that takes a busy machine."""

    def patient(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(
            response=answer, body=answer.text().replace("const LATE = 2000;", "const LATE = 2 ** 30;")
        )

    page.route("**/queue/store.js*", patient)


def test_a_list_does_not_take_back_what_was_told_since(
    visiting: Callable[..., Visit], bare_gateway: Gateway, ledger: Ledger
) -> None:
    for name in ("first", "second"):
        ledger.submit(a_job(f"job-{name}", 2).model_copy(update={"name": name}))
    page = visiting(bare_gateway.url, refused=True).page  # there are no pictures
    wait_for_streams(page)
    held = Held(page, re.compile(r"/v1/jobs\?.*state=running"))
    page.goto("/")
    held.wait()
    ledger.pause("job-first", "default")
    row = page.get_by_role("listitem").filter(has=page.get_by_role("link", name="first", exact=True))
    expect(row).to_contain_text("Paused")
    held.give()
    expect(page.get_by_role("link", name="second", exact=True)).to_be_visible()
    expect(row).to_contain_text("Paused")


def test_what_is_repeated_since_no_answer_came_is_told_as_it_was(
    visiting: Callable[..., Visit], bare_gateway: Gateway, ledger: Ledger
) -> None:
    ledger.submit(a_job("job-gone", 2).model_copy(update={"name": "gone"}))
    ledger.cancel("job-gone", "default")
    page = visiting(bare_gateway.url, refused=True).page  # there are no pictures
    page.goto("/")
    removals: list[int] = []

    def lose(route: Route) -> None:
        removals.append(route.fetch().status)
        route.abort()

    page.route("**/v1/jobs/job-gone", lose, times=1)
    page.get_by_role("button", name="Delete: gone").click()
    page.get_by_role("dialog", name="Delete").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Deleted gone.")).to_be_visible()
    assert removals == [200]


def test_states_do_not_take_back_what_was_told_since(
    visiting: Callable[..., Visit], bare_gateway: Gateway, ledger: Ledger
) -> None:
    ledger.submit(a_job("job-watched", 2))
    worker = FakeWorker(str(bare_gateway.settings.redis_url), str(bare_gateway.settings.store_url), MODEL)
    claim = worker.await_claim()
    page = visiting(bare_gateway.url, refused=True).page  # there are no pictures
    page.goto("/jobs/job-watched")
    expect(page.get_by_role("link", name="Image 1: Running")).to_be_visible()
    held = Held(page, re.compile("/states"))
    ledger.pause("job-watched", "default")
    held.wait()
    assert ledger.finish(claim)
    expect(page.get_by_role("button", name="Done 1")).to_be_visible()
    held.give()
    two_frames(page)
    expect(page.get_by_role("link", name="Image 1: Done")).to_be_visible()
    worker.client.close()
