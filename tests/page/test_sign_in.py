"""Signing in with a key, and out; and that nothing of another tenant is ever shown."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, expect

from img2img_gateway.api_keys import ApiKeys
from img2img_shared.ledger import Ledger, connect
from img2img_shared.store import Store
from tests.integration.gateway import Gateway, picture
from tests.integration.ledger_helpers import a_job
from tests.page.browser import Visit, check_accessible
from tests.servers import RedisServer


@pytest.fixture
def ring(mortal_redis: RedisServer, tmp_path: Path) -> Iterator[ApiKeys]:
    """The keys of a farm of its own, in which tenants "one" and "two" have a job each."""
    with connect(mortal_redis.url) as redis:
        for job, tenant in (("ours", "one"), ("theirs", "two")):
            wanted = a_job(f"job-{job}", 2, tenant=tenant)
            Ledger(redis).submit(wanted.model_copy(update={"name": f"{job} of {tenant}"}))
        yield ApiKeys(redis, Store(tmp_path))


@pytest.fixture
def closed_gateway(
    ring: ApiKeys, mortal_redis: RedisServer, tmp_path: Path
) -> Iterator[tuple[Gateway, str, str]]:
    """A gateway that wants a key; the id and the secret of one for tenant "one"."""
    key, secret = ring.create("ann's laptop", "one", priority=20)
    with Gateway(mortal_redis.url, tmp_path) as gateway:
        yield gateway, key.id, secret


def test_a_key_opens_the_page_and_signing_out_closes_it(
    visiting: Callable[..., Visit], closed_gateway: tuple[Gateway, str, str]
) -> None:
    gateway, _, secret = closed_gateway
    visit = visiting(gateway.url, refused=True)
    page = visit.page
    page.goto("/")
    page.get_by_label("API key").fill("img2img_wrong")
    check_accessible(page)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("This key or password is not known here.")).to_be_visible()
    check_accessible(page)
    page.get_by_label("API key").fill(secret)
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="ours of one")).to_be_visible()
    expect(page.get_by_text("theirs of two")).to_have_count(0)
    expect(page.get_by_title("Signed in as ann's laptop")).to_be_visible()
    (cookie,) = visit.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"

    page.reload()
    priority = page.get_by_role("spinbutton", name="Priority of ours of one")
    expect(priority).to_have_attribute("aria-valuemax", "20")
    page.get_by_role("button", name="Pause: ours of one").click()
    expect(page.get_by_text("Paused")).to_be_visible()
    page.goto("/jobs/job-theirs")
    expect(page.get_by_text("belongs to another tenant")).to_be_visible()

    page.goto("/")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    expect(page.get_by_text("ours of one")).to_have_count(0)
    assert visit.context.cookies() == []
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()


def test_the_page_closes_when_its_key_is_revoked(
    visiting: Callable[..., Visit], closed_gateway: tuple[Gateway, str, str], ring: ApiKeys
) -> None:
    gateway, key_id, secret = closed_gateway
    page = visiting(gateway.url, refused=True).page
    page.goto("/workers")
    page.get_by_label("API key").fill(secret)
    page.keyboard.press("Enter")
    expect(page.get_by_text("No live workers")).to_be_visible()
    ring.create("another", "one")
    ring.revoke(key_id)
    expect(page.get_by_label("API key")).to_be_visible()


def test_the_studio_keeps_what_somebody_has_prepared_for_them_alone(
    visiting: Callable[..., Visit], closed_gateway: tuple[Gateway, str, str], ring: ApiKeys
) -> None:
    """While they look elsewhere, and when their session ends; nobody else gets to see it."""
    gateway, key_id, secret = closed_gateway
    page = visiting(gateway.url, refused=True).page
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)

    def sign_in(key: str) -> None:
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")

    page.goto("/studio")
    sign_in(secret)
    prompt.fill("a harbour")
    photo: FilePayload = {"name": "photo.png", "mimeType": "image/png", "buffer": picture(1)}
    page.locator(".pictures input[type=file]").first.set_input_files([photo])
    expect(page.locator(".thumbs li")).to_have_count(1)
    page.get_by_role("link", name="Queue").click()
    expect(page.get_by_role("heading", name="Queue")).to_be_visible()
    page.get_by_role("link", name="Studio").click()
    expect(page.locator(".thumbs li")).to_have_count(1)
    _, renewed = ring.create("ann's laptop", "one")
    ring.revoke(key_id)
    page.locator(".send").get_by_role("button", name="Render").click()
    sign_in(renewed)
    expect(prompt).to_have_value("a harbour")
    expect(page.locator(".thumbs li")).to_have_count(1)
    page.get_by_role("button", name="Sign out").click()
    sign_in(ring.create("eve", "two")[1])
    expect(prompt).to_have_value("")
    expect(page.locator(".thumbs li")).to_have_count(0)
