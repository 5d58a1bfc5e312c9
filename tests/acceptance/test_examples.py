"""The programs in examples/, run as a user runs them, against a farm with a real worker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from img2img_shared.picture_texts import read_texts
from tests.checkpoints import cached, sd1
from tests.faults.farm import LEASE, FaultyFarm, ForkServer, eventually, picture
from tests.integration.gateway import Gateway

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = ("--size", "64", "--steps", "2")


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyFarm]:
    fork_server = ForkServer()
    folder = tmp_path_factory.mktemp("farm")
    with FaultyFarm(folder, fork_server, cached(tmp_path_factory, sd1)) as farm:
        farm.worker()
        eventually("the worker is there", farm.producer.workers)
        yield farm
    fork_server.close()


@pytest.fixture(scope="module")
def gateway(farm: FaultyFarm) -> Iterator[Gateway]:
    with Gateway(farm.server.url, farm.store_url, lease=LEASE) as gateway:
        yield gateway


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"photo{number}.png").write_bytes(picture(number))
    return folder


def run(farm: FaultyFarm, program: str, *arguments: str | Path) -> str:
    urls = {"IMG2IMG_REDIS_URL": farm.server.url, "IMG2IMG_STORE_URL": str(farm.store_url)}
    command = [sys.executable, str(EXAMPLES / program), *map(str, arguments), *SMALL]
    done = subprocess.run(
        command, env={**os.environ, **urls}, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: size(path) for path in sorted(folder.iterdir())}


def test_every_example_is_run_here() -> None:
    tested = {"render_folder.py", "watch_folder.py", "over_http.py", "a1111_client.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_a_folder_is_rendered_into_another(farm: FaultyFarm, photos: Path, tmp_path: Path) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    mask.save(photos / "photo1.mask.png")
    run(farm, "render_folder.py", photos, tmp_path / "out", "--prompt", "snow")
    assert sizes(tmp_path / "out") == {"photo1.png": (64, 64), "photo2.png": (64, 64)}


def test_a_manifest_is_rendered_with_what_is_each_lines_own(farm: FaultyFarm, tmp_path: Path) -> None:
    urls = {"IMG2IMG_REDIS_URL": farm.server.url, "IMG2IMG_STORE_URL": str(farm.store_url)}
    command = [sys.executable, "-m", "img2img", "render", "--manifest", str(EXAMPLES / "manifest.csv")]
    command += ["--out", str(tmp_path / "out"), "--size", "64x64", "--steps", "2"]
    subprocess.run(command, env={**os.environ, **urls}, check=True, timeout=240)
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert found == {"night/harbour.png", "winter/harbour.png", "lake-masked.png", "coast.png"}
    texts = read_texts((tmp_path / "out/night/harbour.png").read_bytes())["parameters"]
    assert texts.startswith("a harbour at night, oil painting\nSteps: 2,")
    assert "Seed: 7, Size: 64x64" in texts
    assert "Denoising strength: 0.5" in texts


def test_what_is_put_into_a_folder_is_rendered(farm: FaultyFarm, photos: Path, tmp_path: Path) -> None:
    said = run(farm, "watch_folder.py", photos, tmp_path / "out", "--stop-after", "2")
    assert said.count("->") == 2
    assert len(sizes(tmp_path / "out")) == 2


def test_another_service_gets_its_pictures_over_http(
    farm: FaultyFarm, gateway: Gateway, photos: Path, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{gateway.port}"
    said = run(farm, "over_http.py", *sorted(photos.iterdir()), tmp_path / "out", "--url", url)
    assert "2 of 2 done, 0 failed" in said
    assert len(sizes(tmp_path / "out")) == 2


def test_a_program_written_for_a1111_gets_its_picture(
    farm: FaultyFarm, gateway: Gateway, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "painted.png"
    said = run(farm, "a1111_client.py", photos / "photo1.png", out, "--port", str(gateway.port))
    assert "Sampler: DPM++ 2M" in said
    assert size(out) == (64, 64)
