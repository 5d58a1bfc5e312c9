"""What the studio shows of a job for other programs is run, as it is shown, and makes the same pictures."""

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.integration.gateway import PATIENCE, Gateway
from tests.page.browser import Visit
from tests.page.test_studio import HOSTILE, add, file, fill, render, studio

#: quotes, what a shell would run, and what curl's forms give a meaning
NAMED = """it's "a";type=x $(touch pwned), b.png"""


def shown(page: Page, kind: str) -> str:
    page.evaluate("document.querySelector('.code').open = true")
    page.locator(".code").get_by_role("button", name=kind, exact=True).click()
    expect(page.locator(".code pre")).to_have_attribute("aria-label", kind)
    return str(page.locator(".code pre").text_content())


def run(folder: Path, words: dict[str, str]) -> dict[str, list[bytes]]:
    """The pixels of the results of each, by what it is written in; all of them at once."""
    pictures = [*folder.glob("*.png")]

    def one(kind: str) -> list[bytes]:
        own = folder / kind
        own.mkdir()
        for each in pictures:
            (own / each.name).write_bytes(each.read_bytes())
        program = [sys.executable, "-c"] if kind == "Python" else ["bash", "-euc"]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path}
        command = [*program, words[kind]]
        done = subprocess.run(
            command, cwd=own, env=environment, capture_output=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, (words[kind], done)
        assert not [*own.rglob("pwned")]
        return results(own)

    with ThreadPoolExecutor() as threads:
        return dict(zip(words, threads.map(one, words), strict=True))


def results(folder: Path) -> list[bytes]:
    if (folder / "results.zip").exists():
        with zipfile.ZipFile(folder / "results.zip") as archive:
            archive.extractall(folder / "out")
    return [pixels(path.read_bytes()) for path in sorted((folder / "out").rglob("*.png"))]


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def rendered(page: Page, gateway: Gateway) -> list[bytes]:
    job = render(page, gateway)
    return [
        pixels(gateway.http.get(f"/v1/jobs/{job['id']}/images/{index}/picture").content)
        for index in range(job["n"])
    ]


@pytest.fixture
def page(visit: Callable[..., Visit]) -> Page:
    """With a prompt that is no friend of quotes."""
    page = studio(visit())
    page.locator("#prompt").fill(HOSTILE)
    return page


def test_a_simple_job(page: Page, gateway: Gateway, tmp_path: Path) -> None:
    for picture in (file(NAMED), file("-b.png", (200, 20, 90))):
        add(page, picture, n=page.locator(".thumbs li").count() + 1)
        (tmp_path / picture["name"]).write_bytes(picture["buffer"])
    fill(page, "sampler_name", "Euler a")
    fill(page, "seed", str(2**63 + 1))
    words = {kind: shown(page, kind) for kind in ("Command line", "Python", "curl")}
    assert "inputs.jsonl" not in words["Command line"]
    expected = rendered(page, gateway)
    assert len(set(expected)) == 2
    for kind, found in run(tmp_path, words).items():
        assert sorted(found) == sorted(expected), kind


def test_a_job_with_masks_a_grid_and_control(page: Page, gateway: Gateway, tmp_path: Path) -> None:
    picture = file("photo.png")
    add(page, picture)
    (tmp_path / "photo.png").write_bytes(picture["buffer"])
    page.get_by_role("button", name="Paint a mask for photo.png").click()
    expect(page.locator(".mask-surface")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Use this mask").click()
    expect(page.locator("dialog")).to_have_count(0)
    page.get_by_text("Control (ControlNet)").click()
    page.get_by_role("button", name="Add a unit").click()
    page.get_by_role("combobox", name="Preprocessor", exact=True).select_option("canny")
    control = file("edges.png", (255, 255, 255))
    page.locator(".unit input[type=file]").set_input_files(control)
    (tmp_path / "edges.png").write_bytes(control["buffer"])
    page.get_by_role("searchbox", name="Search parameters").fill("control_only")
    page.get_by_role("checkbox", name="Preprocess only").check()
    page.get_by_role("searchbox", name="Search parameters").fill("")
    page.locator(".axes summary").click()
    page.get_by_role("combobox", name="X: parameter").select_option(label="Seed")
    page.get_by_role("textbox", name="X: values").fill("3, 4")
    page.evaluate("document.querySelector('.code').open = true")
    with page.expect_download() as download:
        page.get_by_role("link", name="photo-mask.png").click()
    download.value.save_as(tmp_path / "photo-mask.png")
    words = {kind: shown(page, kind) for kind in ("Command line", "Python", "curl")}
    expected = rendered(page, gateway)
    assert len(expected) == 2
    for kind, found in run(tmp_path, words).items():
        assert sorted(found) == sorted(expected), kind


def test_a_job_from_text_alone(page: Page, gateway: Gateway, tmp_path: Path) -> None:
    page.get_by_role("checkbox", name="From text alone").check()
    page.get_by_role("textbox", name="Width", exact=True).fill("64")
    page.get_by_role("textbox", name="Height", exact=True).fill("64")
    words = {kind: shown(page, kind) for kind in ("Command line", "Python", "curl")}
    expected = rendered(page, gateway)
    for kind, found in run(tmp_path, words).items():
        assert found == expected, kind
