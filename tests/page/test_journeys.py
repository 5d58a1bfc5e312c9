"""What people do on the page with jobs, before a farm that renders."""

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Dialog, Page, expect

from img2img_producer import Picture
from img2img_shared.errors import NotFound
from img2img_shared.job import JobState
from img2img_shared.picture_texts import read_texts
from tests.eventually import eventually
from tests.faults.farm import FaultyFarm, picture
from tests.page.browser import DESK, PHONE, Visit, check_accessible, check_fits

SMALL: dict[str, Any] = {"model": "demo", "steps": 2, "width": 64, "height": 64, "seed": 7}
#: takes until somebody cancels it
LONG: dict[str, Any] = {
    **SMALL,
    "steps": 150,
    "sampler_name": "Heun",
    "denoising_strength": 1.0,
    "width": 128,
}
HOSTILE = "<img src=x onerror=alert(1)> & \u202e\"'"


@pytest.fixture
def paused(farm: FaultyFarm) -> Iterator[list[str]]:
    """Three jobs that are under way and do not move, the oldest first."""
    jobs = []
    for name in ("first", "second", "third"):
        jobs.append(farm.producer.submit([picture(1)] * 3, name=name, **LONG))
        farm.producer.pause(jobs[-1])
    yield jobs
    for job in jobs:
        farm.producer.cancel(job)


def row(page: Page, name: str) -> Any:
    return page.get_by_role("listitem").filter(has=page.get_by_role("link", name=name, exact=True))


def test_the_queue_shows_what_happens(visit: Callable[..., Visit], farm: FaultyFarm) -> None:
    page = visit().page
    page.goto("/")
    expect(page.get_by_role("button", name="demo")).to_contain_text("1 worker")
    farm.producer.submit([picture(number) for number in range(3)], name="three pictures", **SMALL)
    expect(row(page, "three pictures")).to_contain_text("3 of 3")
    expect(row(page, "three pictures")).to_contain_text("Done")
    expect(row(page, "three pictures").locator("img")).to_have_count(3)
    expect(row(page, "three pictures").get_by_role("progressbar")).to_have_attribute("aria-valuenow", "3")
    check_accessible(page)


def test_a_job_is_paused_resumed_cancelled_and_deleted(visit: Callable[..., Visit], farm: FaultyFarm) -> None:
    job = farm.producer.submit([picture(1)] * 100, name="a long one", **LONG)
    page = visit().page
    page.goto("/")
    here = row(page, "a long one")
    here.get_by_role("button", name="Pause: a long one").click()
    expect(here).to_contain_text("Paused")
    assert farm.status(job).state is JobState.PAUSED
    here.get_by_role("button", name="Resume: a long one").click()
    expect(here).not_to_contain_text("Paused")
    here.get_by_role("button", name="Cancel job: a long one").click()
    dialog = page.get_by_role("dialog", name="Cancel job")
    expect(dialog).to_contain_text("will not be rendered")
    check_accessible(page)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert farm.status(job).state is not JobState.CANCELLED
    here.get_by_role("button", name="Cancel job: a long one").click()
    dialog.get_by_role("button", name="Cancel job").click()
    expect(here).to_contain_text("Cancelled")
    here.get_by_role("button", name="Delete: a long one").click()
    page.get_by_role("dialog", name="Delete").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Deleted a long one.")).to_be_visible()
    expect(here).to_have_count(0)
    with pytest.raises(NotFound):
        farm.status(job)


def test_jobs_are_put_in_order_by_keyboard_and_by_drag(
    visit: Callable[..., Visit], farm: FaultyFarm, paused: list[str]
) -> None:
    page = visit().page
    page.goto("/")
    jobs = page.get_by_role("list", name="Jobs").get_by_role("listitem")
    page.get_by_role("spinbutton", name="Priority of third").focus()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("spinbutton", name="Priority of third")).to_have_attribute("aria-valuenow", "1")
    expect(jobs.first).to_contain_text("third")
    assert farm.status(paused[2]).priority == 1
    drag(page, "second", "third")
    expect(jobs.first).to_contain_text("second")
    assert farm.status(paused[1]).priority == 2
    drag(page, "first", "second")
    expect(jobs.first).to_contain_text("first")
    assert [farm.status(job).priority for job in paused] == [3, 2, 1]


def drag(page: Page, name: str, before: str) -> None:
    """By its handle, to the upper edge of another job's row."""
    handle = page.get_by_role("spinbutton", name=f"Priority of {name}").bounding_box()
    target = row(page, before).bounding_box()
    assert handle is not None
    assert target is not None
    page.mouse.move(handle["x"] + 10, handle["y"] + 10)
    page.mouse.down()
    page.mouse.move(handle["x"] + 10, target["y"] + 20, steps=3)
    page.mouse.move(handle["x"] + 10, target["y"] + 5)
    page.mouse.up()


def test_jobs_are_searched_and_filtered(visit: Callable[..., Visit], paused: list[str]) -> None:
    page = visit().page
    page.goto("/")
    page.get_by_role("button", name="Under way").click()
    for name in ("first", "second", "third"):  # and none that another test has cancelled
        expect(row(page, name)).to_have_count(1)
    page.get_by_role("searchbox").fill("SECO")
    expect(row(page, "first")).to_have_count(0)
    expect(row(page, "second")).to_be_visible()
    page.get_by_role("searchbox").fill("no such thing")
    expect(page.get_by_role("heading", name="No matching jobs")).to_be_visible()
    check_accessible(page)


def mask(size: int = 64) -> bytes:
    data = io.BytesIO()
    image = Image.new("L", (size, size))
    image.paste(255, (0, 0, size // 2, size))
    image.save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def done_job(farm: FaultyFarm) -> str:
    """Three pictures with a mask that are done, and a fourth that is none."""
    inputs = [Picture(image=picture(at), mask=mask(), name=f"cat {at}") for at in range(3)]
    inputs.append(Picture(image=b"no picture", mask=mask(), name="broken"))
    job = farm.producer.submit(inputs, name="cats", prompt="an oil painting", **SMALL)
    farm.done(job)
    return job


@pytest.mark.parametrize(("size", "dark"), [(DESK, False), (PHONE, True)])
def test_every_view_is_accessible_and_fits(
    visit: Callable[..., Visit], done_job: str, size: tuple[int, int], dark: bool
) -> None:
    page = visit(size=size, dark=dark).page
    page.goto("/")
    expect(page.get_by_role("link", name="cats", exact=True)).to_be_visible()
    check_accessible(page)
    check_fits(page)
    page.goto(f"/jobs/{done_job}")
    expect(page.get_by_role("link", name="broken: Failed")).to_be_visible()
    check_accessible(page)
    check_fits(page)
    page.get_by_role("link", name="cat 1: Done").click()
    expect(page.get_by_text("Steps: 2")).to_be_visible()
    check_accessible(page)
    check_fits(page)
    page.goto("/workers")
    expect(page.get_by_text("Speed")).to_be_visible()
    check_accessible(page)
    check_fits(page)


def test_a_result_is_looked_at(visit: Callable[..., Visit], done_job: str) -> None:
    page = visit().page
    page.goto(f"/jobs/{done_job}")
    page.get_by_role("link", name="cat 0: Done").click()
    viewer = page.get_by_role("dialog", name="cat 0")
    slider = viewer.get_by_role("slider", name="Before and after")
    slider.fill("80")
    expect(slider).to_have_attribute("aria-valuetext", "80% before")
    expect(viewer.get_by_role("img", name="cat 0 before")).to_have_css("clip-path", "inset(0px 20% 0px 0px)")
    for image in (
        viewer.get_by_role("img", name="cat 0", exact=True),
        viewer.get_by_role("img", name="cat 0 before"),
    ):
        assert image.evaluate("each => each.decode().then(() => each.naturalWidth)") == 64
    viewer.get_by_role("button", name="Mask").click()
    shown = viewer.get_by_role("img", name="Mask of cat 0")
    assert shown.evaluate("each => each.decode().then(() => each.naturalWidth)") == 64
    expect(viewer.get_by_text("Steps: 2")).to_contain_text("Seed: 7")
    expect(viewer.get_by_role("heading", name="Prompt")).to_be_visible()
    again = viewer.get_by_role("link", name="Again with these parameters")
    expect(again).to_have_attribute("href", f"/studio?job={done_job}&image=0")
    viewer.press("ArrowRight")
    expect(page.get_by_role("dialog", name="cat 1")).to_contain_text("Seed: 8")
    expect(page).to_have_url(f"/jobs/{done_job}?image=1")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_thumbnails_that_did_not_load_come_once_the_gateway_is_back(
    visit: Callable[..., Visit], done_job: str
) -> None:
    here = visit(refused=True)
    here.page.route(re.compile(r"/thumbnail\?"), lambda route: route.abort())
    here.page.goto("/")
    expect(here.page.locator(".thumbnail.none").first).to_be_visible()
    expect(here.page.locator("img.thumbnail")).to_have_count(0)
    here.page.unroute_all(behavior="wait")
    here.context.set_offline(True)
    expect(here.page.get_by_text("What you see may be out of date")).to_be_visible()
    here.context.set_offline(False)
    expect(here.page.locator("img.thumbnail").first).to_be_visible()


def test_an_infotext_is_copied_from_a_page_without_tls(visit: Callable[..., Visit], done_job: str) -> None:
    page = visit().page
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.goto(f"/jobs/{done_job}?image=0")
    page.get_by_role("dialog").get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_text("Infotext copied.")).to_be_visible()
    assert "Steps: 2" in page.evaluate("getSelection().toString()")


def test_results_are_downloaded_one_some_and_all(
    visit: Callable[..., Visit], farm: FaultyFarm, done_job: str
) -> None:
    page = visit().page
    page.goto(f"/jobs/{done_job}?image=2")
    expect(page.get_by_role("dialog", name="cat 2")).to_be_visible()
    data, name = downloaded(page, "Download")
    assert (data, name) == (farm.pictures(done_job)[2], "cat 2.png")
    assert "an oil painting" in read_texts(data)["parameters"]
    page.goto(f"/jobs/{done_job}")
    for at in (0, 2):
        page.get_by_role("checkbox", name=f"Choose cat {at}").check()
    expect(page.get_by_text("2 chosen")).to_be_visible()
    check_accessible(page)
    data, _ = downloaded(page, "Download chosen")
    assert zipfile.ZipFile(io.BytesIO(data)).namelist() == ["cat 0.png", "cat 2.png"]
    data, _ = downloaded(page, "Download all")
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    assert names == ["cat 0.png", "cat 1.png", "cat 2.png", "missing.txt"]


def downloaded(page: Page, link: str) -> tuple[bytes, str]:
    with page.expect_download() as found:
        page.get_by_role("link", name=link, exact=True).click()
    return found.value.path().read_bytes(), found.value.suggested_filename


def test_failures_are_told_by_name_and_retried(visit: Callable[..., Visit], farm: FaultyFarm) -> None:
    job = farm.producer.submit(
        [Picture(image=b"no picture", name="broken"), Picture(image=picture(1), name="whole")],
        name="mixed",
        **SMALL,
    )
    farm.done(job)
    page = visit().page
    page.goto(f"/jobs/{job}")
    page.get_by_role("button", name="Failed 1").click()
    expect(page.get_by_role("listitem")).to_have_count(1)
    expect(page.get_by_role("listitem")).to_contain_text("image is a file of 10 bytes: give a picture")
    page.get_by_role("button", name="Retry failed").click()
    expect(page.get_by_text("1 image will be rendered again.")).to_be_visible()
    eventually("it was tried again", lambda: farm.attempts(job)[0] == 2)
    expect(page.get_by_role("listitem")).to_contain_text("give a picture")


def test_an_image_is_seen_while_it_is_rendered(visit: Callable[..., Visit], farm: FaultyFarm) -> None:
    job = farm.producer.submit([picture(1)] * 100, name="slow", **LONG)
    page = visit().page
    page.goto(f"/jobs/{job}")
    shown = page.get_by_role("link", name=re.compile(": Running$")).locator("img[src^=blob]")
    expect(shown.first).to_be_visible()
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel job").click()
    expect(page.get_by_role("link", name="Image 60: Cancelled")).to_be_attached()


def test_hostile_texts_are_texts(visit: Callable[..., Visit], farm: FaultyFarm) -> None:
    job = farm.producer.submit(
        [
            Picture(image=picture(1), name=HOSTILE + 40 * " long"),
            Picture(image=f"<svg/onload=alert(1)>{HOSTILE}".encode()),
        ],
        name=HOSTILE.replace("\u202e", ""),
        prompt=HOSTILE,
        negative_prompt="</script><script>alert(1)</script>",
        tags=["<b>tag</b>"],
        **SMALL,
    )
    farm.done(job)
    page = visit().page
    asked: list[str] = []

    def asks(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", asks)
    page.goto("/")
    page.get_by_role("link", name="<img src=x onerror=alert(1)>").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x onerror=alert(1)>")
    expect(page.get_by_text("<b>tag</b>")).to_be_visible()
    expect(page.get_by_role("link", name="long: Done")).to_be_visible()
    wide = (
        "[...document.querySelectorAll('.tile')].filter((each) => each.scrollWidth > each.clientWidth).length"
    )
    assert page.evaluate(wide) == 0, "a tile reaches into the next one"
    page.get_by_role("link", name="Done").filter(has_text="").first.click()
    expect(page.get_by_text("</script><script>alert(1)</script>").first).to_be_visible()
    check_accessible(page)
    assert page.locator("img[src=x], b, #page script").count() == 0
    assert asked == []


def test_workers_are_looked_after(visit: Callable[..., Visit], farm: FaultyFarm) -> None:
    page = visit().page
    page.goto("/workers")
    worker = page.get_by_role("listitem")
    expect(worker).to_contain_text("demo")
    worker.get_by_role("button", name="Disable").click()
    enable = worker.get_by_role("button", name="Enable")
    expect(enable).to_be_visible()
    check_accessible(page)
    eventually("it claims nothing", lambda: farm.producer.workers()[0].report.trouble)
    enable.click()
    expect(worker.get_by_role("button", name="Disable")).to_be_visible()
    worker.get_by_role("button", name="Drain").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("ends when those it has are done")
    dialog.get_by_role("button", name="Cancel").click()
    assert farm.producer.workers()[0].report.trouble is None
