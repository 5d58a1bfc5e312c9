"""The studio's journeys, on a farm that renders: from a dropped picture to its results, and back."""

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import FilePayload, Page, expect

from img2img_shared.ledger.lora_names import LoraNames
from img2img_shared.param_fields import GROUPS, SWITCHES
from img2img_shared.param_reference import description, title
from img2img_shared.params import Params
from tests.integration.gateway import FakeWorker, Gateway
from tests.page.browser import DESK, PHONE, Visit, check_accessible, check_fits
from tests.servers import RedisServer

HOSTILE = """<img src=x onerror=alert(1)> '"; $(touch pwned) `touch pwned`\\ </script>\n#end"""


def file(name: str = "photo.png", colour: tuple[int, int, int] = (90, 140, 60)) -> FilePayload:
    data = io.BytesIO()
    Image.new("RGB", (96, 64), colour).save(data, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": data.getvalue()}


def studio(visit: Visit, address: str = "/studio", *files: FilePayload, **values: str) -> Page:
    """The studio with pictures, and values for parameters by their titles."""
    page = visit.page
    page.goto(address)
    expect(page.get_by_role("button", name="Choose pictures")).to_be_visible()
    add(page, *files)
    for name, value in {"steps": "2", "seed": "5", **values}.items():
        fill(page, name, value)
    return page


def add(page: Page, *files: FilePayload, n: int | None = None) -> None:
    """`n`: how many there are then."""
    if files:
        page.locator(".pictures input[type=file]").first.set_input_files(list(files))
        expect(page.locator(".thumbs li")).to_have_count(len(files) if n is None else n)


def fill(page: Page, name: str, value: str) -> None:
    """By the search: most groups are closed."""
    page.get_by_role("searchbox", name="Search parameters").fill(name)
    if name == "sampler_name":
        page.get_by_role("combobox", name=title(name), exact=True).select_option(value)
    else:
        page.get_by_role("textbox", name=title(name), exact=True).fill(value)
    page.get_by_role("searchbox", name="Search parameters").fill("")


def render(page: Page, gateway: Gateway, begin: Callable[[], None] | None = None) -> dict[str, Any]:
    """The job that it becomes, once that has ended; it is sent by the button, or by `begin`."""
    with page.expect_response(lambda response: response.url.endswith("/v1/jobs")) as sent:
        (begin or page.locator(".send").get_by_role("button", name="Render").click)()
    job: dict[str, Any] = sent.value.json()
    expect(page.locator(f".results a[href='/jobs/{job['id']}']")).to_be_visible()
    expect(page.locator(".results .state")).to_have_text("Done")
    params = gateway.http.get(f"/v1/jobs/{job['id']}/params").json()
    inputs = gateway.http.get(f"/v1/jobs/{job['id']}/inputs").json()["inputs"]
    return {**job, "params": params, "inputs": inputs}


def loaded(page: Page, selector: str) -> int:
    """How many of these pictures the browser shows."""
    script = f"[...document.querySelectorAll('{selector}')].filter((each) => each.naturalWidth).length"
    return int(page.evaluate(script))


EMPTY: FilePayload = {"name": "empty.png", "mimeType": "image/png", "buffer": b""}


def test_a_picture_that_cannot_be_sent_is_left_out_and_named(
    visit: Callable[..., Visit], gateway: Gateway
) -> None:
    page = studio(visit(refused=True), "/studio", file("a.png"), EMPTY, file("b.png", (10, 20, 200)))
    job = render(page, gateway)
    assert [each["name"] for each in job["inputs"]] == ["a", "b"]
    told = page.get_by_role("alert").filter(has_text="sent without a picture. empty.png: body is empty")
    expect(told).to_be_visible()
    expect(page.locator(".thumbs figcaption")).to_have_text(["a.png", "b.png"])


def test_of_pictures_none_of_which_can_be_sent_nothing_is(visit: Callable[..., Visit]) -> None:
    page = studio(visit(refused=True), "/studio", EMPTY)
    page.locator(".send").get_by_role("button", name="Render").click()
    expect(page.get_by_role("alert").filter(has_text="empty.png: body is empty")).to_be_visible()
    expect(page.locator(".thumbs li")).to_have_count(1)


def test_files_of_several_pictures_are_named(visit: Callable[..., Visit]) -> None:
    frames = [Image.effect_noise((40, 30), 90).convert("RGB") for _ in range(3)]
    files: list[FilePayload] = []
    for kind in ("gif", "png", "webp", "avif"):
        for name, more in (("moving", frames[1:]), ("still", [])):
            data = io.BytesIO()
            frames[0].save(data, kind, **({"save_all": True, "append_images": more} if more else {}))
            files.append({"name": f"{name}.{kind}", "mimeType": f"image/{kind}", "buffer": data.getvalue()})
    page = studio(visit(), "/studio", *files)
    expect(page.get_by_role("alert").filter(has_text="Only the first picture")).to_contain_text(
        "of moving.avif, moving.gif, moving.png, moving.webp will"
    )


def test_in_place_of_a_picture_that_browsers_do_not_show_there_is_a_pictogram(
    visit: Callable[..., Visit], gateway: Gateway
) -> None:
    data = io.BytesIO()
    Image.new("RGB", (96, 64), (200, 30, 30)).save(data, "TIFF")
    scan: FilePayload = {"name": "scan.tif", "mimeType": "image/tiff", "buffer": data.getvalue()}
    page = studio(visit(), "/studio", scan, file("b.png"))
    expect(page.locator(".thumbs .thumbnail.none")).to_have_count(1)
    expect(page.locator(".thumbs figcaption")).to_have_text(["b.png", "scan.tif"])
    check_accessible(page)
    job = render(page, gateway)
    page.goto(f"/jobs/{job['id']}?image=1")
    before = page.get_by_role("img", name="scan before")
    expect(before).to_have_attribute("src", re.compile("/thumbnail/image"))
    assert before.evaluate("each => each.decode().then(() => each.naturalWidth)") == 96


def test_pictures_are_masked_rendered_and_shown(visit: Callable[..., Visit], gateway: Gateway) -> None:
    page = studio(visit(), "/studio", file("a.png"), file("b.png", (10, 20, 200)))
    page.get_by_role("button", name="Paint a mask for b.png").click()
    surface = page.locator(".mask-surface")
    expect(surface).to_be_focused()
    box = surface.bounding_box()
    assert box
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1])
    page.mouse.up()
    check_accessible(page)
    for _ in range(2):  # of what was painted nothing is lost by a key
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog", name="Discard the mask?")).to_be_visible()
        check_accessible(page)
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog", name="Discard the mask?")).to_have_count(0)
    page.get_by_role("button", name="Use this mask").click()
    expect(page.locator("dialog")).to_have_count(0)
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a lake, oil painting")
    job = render(page, gateway)
    assert [each["name"] for each in job["inputs"]] == ["a", "b"]
    assert [sorted(each["pictures"]) for each in job["inputs"]] == [["image"], ["image", "mask"]]
    told = job["params"]
    assert (told["steps"], told["seed"], told["fit"], told["prompt"]) == (2, 5, 0, "a lake, oil painting")
    stored = gateway.http.get(f"/v1/jobs/{job['id']}/inputs/1/mask").content
    mask = Image.open(io.BytesIO(stored)).convert("L")
    assert mask.size == (96, 64)
    assert [mask.getpixel(place) for place in ((50, 32), (5, 5))] == [255, 0]
    page.wait_for_function(
        "[...document.querySelectorAll('.result img')].filter((each) => each.naturalWidth).length === 2"
    )
    check_accessible(page)


def test_every_parameter_is_there_with_what_is_told_of_it(visit: Callable[..., Visit]) -> None:
    page = studio(visit())
    shown = page.locator(".groups summary h3").all_inner_texts()
    assert shown == ["Most used", *GROUPS]
    for name in ("Seed", "CFG scale", "Denoising strength", "Width"):
        expect(page.get_by_role("textbox", name=name, exact=True)).to_be_visible()
    width, height = (page.get_by_role("textbox", name=name, exact=True) for name in ("Width", "Height"))
    expect(width).to_have_attribute("placeholder", "(auto)")
    expect(width).to_have_value("")
    width.fill("512")  # the usual one, which counts from now on
    expect(height).to_have_value("512")
    expect(page.get_by_role("textbox", name="Longer side", exact=True)).to_have_value("")
    page.get_by_role("searchbox", name="Search parameters").fill(".")  # every description has one
    found = dict(
        page.evaluate(
            """[...document.querySelectorAll(".groups > .group > .parameters > .parameter")].map((each) =>
               [each.querySelector(".about code").textContent, each.querySelector(".help").textContent])"""
        )
    )
    assert found.keys() == Params.model_fields.keys() - {"prompt", "negative_prompt", "control"}
    for name, told in found.items():
        assert description(name).replace("`", "") in told
    assert "1 to 150 · default 20" in found["steps"]
    page.get_by_role("searchbox", name="Search parameters").fill("")
    assert not set(SWITCHES["enable_hr"]) & set(page.locator(".parameter .about code").all_inner_texts())


def test_a_result_and_a_pasted_infotext_fill_the_form(visit: Callable[..., Visit], gateway: Gateway) -> None:
    first = studio(visit(), "/studio", file(), cfg_scale="3.5")
    first.get_by_role("textbox", name="Prompt", exact=True).fill("a harbour at night")
    job = render(first, gateway, lambda: first.keyboard.press("Control+Enter"))
    result = gateway.http.get(f"/v1/jobs/{job['id']}/images/0/picture").content
    page = studio(visit(), steps="9")
    add(page, {"name": "result.png", "mimeType": "image/png", "buffer": result})
    page.get_by_role("button", name="Use its parameters").click()
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    expect(prompt).to_have_value("a harbour at night")
    expect(page.get_by_role("textbox", name="Sampling steps", exact=True)).to_have_value("2")
    again = render(page, gateway)
    assert {name: again["params"][name] for name in ("steps", "seed", "cfg_scale")} == {
        "steps": 2,
        "seed": 5,
        "cfg_scale": 3.5,
    }
    text = "two boats\nNegative prompt: fog\nSteps: 7, Sampler: Heun, Seed: 12, Size: 128x64, Clip skip: 2"
    prompt.focus()
    page.evaluate(
        """(text) => {
          const clipboardData = new DataTransfer();
          clipboardData.setData("text/plain", text);
          const paste = { clipboardData, bubbles: true, cancelable: true };
          document.activeElement.dispatchEvent(new ClipboardEvent("paste", paste));
        }""",
        text,
    )
    expect(prompt).to_have_value("two boats")
    expect(page.get_by_role("textbox", name="Negative prompt", exact=True)).to_have_value("fog")
    expect(page.get_by_role("combobox", name="Sampling method", exact=True)).to_have_value("Heun")
    expect(page.get_by_role("textbox", name="Width", exact=True)).to_have_value("128")
    page.evaluate(
        """(bytes) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([Uint8Array.from(bytes)], "result.png", { type: "image/png" }));
          const drop = { dataTransfer, bubbles: true, cancelable: true };
          document.activeElement.dispatchEvent(new DragEvent("drop", drop));
        }""",
        list(result),
    )
    expect(prompt).to_have_value("a harbour at night")


def test_a_folder_is_one_job(visit: Callable[..., Visit], tmp_path: Path) -> None:
    folder = tmp_path / "shoot"
    (folder / "day two").mkdir(parents=True)
    for name in ("10.png", "9.png", "day two/a.png"):
        (folder / name).write_bytes(file()["buffer"])
    (folder / "notes.txt").write_text("no picture")
    page = studio(visit())
    page.locator(".pictures input[webkitdirectory]").set_input_files(folder)
    expect(page.locator(".thumbs figcaption")).to_have_text(
        ["shoot/9.png", "shoot/10.png", "shoot/day two/a.png"]
    )
    expect(page.locator(".send .primary")).to_have_text("Render 3 images")
    page.get_by_role("button", name="Remove shoot/9.png").click()
    expect(page.locator(".thumbs li")).to_have_count(2)
    page.get_by_role("button", name="Remove all").click()
    expect(page.locator(".thumbs li")).to_have_count(0)
    expect(page.locator(".send .primary")).to_be_disabled()


def test_a_job_is_made_again_from_its_address(visit: Callable[..., Visit], gateway: Gateway) -> None:
    job = render(studio(visit(), "/studio", file("a.png"), file("b.png", (10, 20, 200))), gateway)
    page = visit().page
    page.goto(f"/studio?job={job['id']}")
    expect(page.locator(".thumbs li")).to_have_count(2)
    again = render(page, gateway)
    before, now = (
        [gateway.http.get(f"/v1/jobs/{each['id']}/images/{index}/picture").content for index in range(2)]
        for each in (job, again)
    )
    assert [Image.open(io.BytesIO(each)).tobytes() for each in now] == [
        Image.open(io.BytesIO(each)).tobytes() for each in before
    ]
    page.goto(f"/studio?job={job['id']}&image=1")
    expect(page.locator(".thumbs figcaption")).to_have_text(["b.png"])
    expect(page.get_by_role("textbox", name="Sampling steps", exact=True)).to_have_value("2")
    alone = render(page, gateway)
    picture = gateway.http.get(f"/v1/jobs/{alone['id']}/images/0/picture").content
    assert Image.open(io.BytesIO(picture)).tobytes() == Image.open(io.BytesIO(before[1])).tobytes()


def test_a_grid_is_one_job_whose_results_are_labelled(visit: Callable[..., Visit], gateway: Gateway) -> None:
    page = studio(visit(), "/studio", file(), seed="-1")
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a red boat")
    page.locator(".axes summary").click()
    page.get_by_role("combobox", name="X: parameter").select_option(label="Sampling steps")
    page.get_by_role("textbox", name="X: values").fill("1-3 (+2)")
    page.get_by_role("combobox", name="Y: parameter").select_option(label="Prompt, search and replace")
    page.get_by_role("textbox", name="Y: values").fill('red, "blue, old"')
    job = render(page, gateway)
    own = [(each["params"]["steps"], each["params"].get("prompt")) for each in job["inputs"]]
    assert own == [(1, "a red boat"), (3, "a red boat"), (1, "a blue, old boat"), (3, "a blue, old boat")]
    assert len({each["params"]["seed"] for each in job["inputs"]}) == 1
    table = page.locator(".grid-table")
    expect(table.locator("thead th")).to_have_text(["Sampling steps 1", "Sampling steps 3"])
    expect(table.locator("tbody th")).to_have_text(["Prompt red", "Prompt blue, old"])
    expect(table.get_by_role("img", name="Sampling steps 3, Prompt blue, old")).to_be_visible()
    assert job["id"] in str(table.get_by_role("img").last.get_attribute("src"))
    check_accessible(page)


@pytest.fixture
def well_stocked(tmp_path: Path) -> Iterator[Gateway]:
    """A farm of its own, with styles, and with a worker that says it has a LoRA."""
    styles = tmp_path / "styles.csv"
    styles.write_text('name,prompt,negative_prompt\nOil,"oil painting of {prompt}",photo\n')
    server = RedisServer()
    with Gateway(server.url, tmp_path / "store", styles_file=styles) as gateway:
        worker = FakeWorker(server.url, tmp_path / "store")
        LoraNames(worker.client).say(worker.worker, {"fog": "Fog"})
        yield gateway
        worker.client.close()
    server.remove()


def test_loras_and_styles_go_into_the_prompt(visiting: Callable[..., Visit], well_stocked: Gateway) -> None:
    page = studio(visiting(well_stocked.url))
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    prompt.fill("a boat, night")
    prompt.evaluate("field => field.setSelectionRange(6, 6)")
    page.get_by_role("button", name="LoRAs, embeddings, styles").click()
    page.get_by_role("button", name="fog").click()
    check_accessible(page)
    page.get_by_role("button", name="Styles", exact=True).click()
    page.get_by_role("button", name="Oil").click()
    page.keyboard.press("Escape")
    expect(prompt).to_have_value("oil painting of a boat<lora:fog:1>, night")
    expect(page.get_by_role("textbox", name="Negative prompt", exact=True)).to_have_value("photo")


def test_presets_are_kept_and_can_be_taken_elsewhere(visit: Callable[..., Visit], tmp_path: Path) -> None:
    first = studio(visit(), seed="18446744073709551615", cfg_scale="2")
    first.get_by_role("button", name="Presets").click()
    first.get_by_label("Save the parameters as").fill("mine <b>")
    first.keyboard.press("Enter")
    with first.expect_download() as download:
        first.get_by_role("button", name="Export all").click()
    check_accessible(first)
    path = tmp_path / "presets.json"
    download.value.save_as(path)
    assert json.loads(path.read_text())["mine <b>"]["values"]["seed"] == "18446744073709551615"
    second = studio(visit(), steps="30", seed="1")
    second.get_by_role("button", name="Presets").click()
    second.locator("dialog input[type=file]").set_input_files(path)
    second.get_by_role("button", name="mine <b>", exact=True).click()
    expect(second.get_by_role("textbox", name="Sampling steps", exact=True)).to_have_value("2")
    second.reload()
    expect(second.get_by_role("textbox", name="Sampling steps", exact=True)).to_have_value("2")


def test_a_refusal_stands_at_its_field(visit: Callable[..., Visit]) -> None:
    seen = visit()
    page = studio(seen, "/studio", file(), steps="900", token_merging_ratio="much")  # noqa: S106 (no password)
    page.locator(".send").get_by_role("button", name="Render").click()
    steps = page.get_by_role("textbox", name="Sampling steps", exact=True)
    expect(steps).to_have_attribute("aria-invalid", "true")
    expect(steps).to_be_focused()
    expect(steps).to_have_accessible_description(
        "Steps of the whole schedule; denoising_strength says how many of them are run. "
        "1 to 150 · default 20 steps Give a whole number from 1 to 150."
    )
    expect(page.get_by_role("textbox", name="Token merging ratio", exact=True)).to_have_attribute(
        "aria-invalid", "true"
    )
    check_accessible(page)
    steps.fill("2")
    expect(steps).not_to_have_attribute("aria-invalid", "true")
    fill(page, "token_merging_ratio", "0")
    page.get_by_text("Control (ControlNet)").click()
    page.get_by_role("button", name="Add a unit").click()
    page.get_by_role("combobox", name="Preprocessor", exact=True).select_option("canny")
    page.locator(".send").get_by_role("button", name="Render").click()
    expect(page.get_by_role("combobox", name="Network")).to_have_attribute("aria-invalid", "true")
    assert all("422" in each for each in seen.said)
    seen.said.clear()


@pytest.mark.parametrize(("size", "dark"), [(DESK, False), (PHONE, True)])
def test_it_is_accessible_and_fits(visit: Callable[..., Visit], size: tuple[int, int], dark: bool) -> None:
    page = studio(visit(size=size, dark=dark), "/studio", file(f"{HOSTILE[:30]}.png"))
    page.locator("#prompt").fill(HOSTILE)
    page.get_by_role("searchbox", name="Search parameters").fill(".")
    page.locator(".code summary").click()
    page.get_by_text("Add a unit").click()
    check_accessible(page)
    check_fits(page)
    assert page.locator(".thumbs figcaption").inner_text() == f"{HOSTILE[:30]}.png"
    assert page.locator("main img:not(.thumbs img)").count() == 0
