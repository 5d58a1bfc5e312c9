"""The programs in examples/, run as a user runs them, against a farm with a real worker."""

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import discord
import pytest
from PIL import Image

from examples.discord_bot import Bot
from examples.ffmpeg_pipe import frames as split_frames
from img2img_producer import AsyncFarm, Picture
from img2img_shared.picture_texts import read_texts
from img2img_shared.settings import Settings
from tests.checkpoints import cached, sd1
from tests.eventually import eventually
from tests.faults.farm import LEASE, FaultyFarm, ForkServer, picture
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
    tested |= {"ffmpeg_pipe.py", "discord_bot.py"}
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


def test_frames_come_out_in_the_order_in_which_they_went_in(farm: FaultyFarm) -> None:
    frames = [picture(number) for number in range(5)]
    urls = {"IMG2IMG_REDIS_URL": farm.server.url, "IMG2IMG_STORE_URL": str(farm.store_url)}
    command = [sys.executable, str(EXAMPLES / "ffmpeg_pipe.py"), *SMALL, "--at-once", "2"]
    environment = {**os.environ, **urls}
    given = b"".join(frames)
    done = subprocess.run(command, input=given, env=environment, capture_output=True, timeout=240, check=True)
    painted = list(split_frames(io.BytesIO(done.stdout)))
    inputs = [Picture(image=frame, seed=7) for frame in frames]
    size = {"width": 64, "height": 64, "resize_mode": 1, "steps": 2, "denoising_strength": 0.4}
    job = farm.producer.submit(inputs, model=farm.model, params=size)
    wanted = {result.index: result.read() for result in farm.producer.results(job)}
    assert [pixels(each) for each in painted] == [pixels(wanted[index]) for index in range(5)]


def test_a_discord_bot_answers_with_the_picture(farm: FaultyFarm) -> None:
    settings = Settings(redis_url=farm.server.url, store_url=str(farm.store_url))
    asked = Interaction()
    small = {"width": 64, "height": 64, "steps": 2}

    async def use() -> None:
        async with AsyncFarm(settings=settings) as client, Bot(client, small) as bot:
            (command,) = bot.tree.get_commands()
            assert isinstance(command, discord.app_commands.Command)
            assert [each.name for each in command.parameters] == ["picture", "prompt", "strength"]
            for data in (picture(1), b"no picture"):
                asked.id += 1
                await command.callback(command.binding, asked, Attachment(data), "snow", 0.5)  # type: ignore[arg-type]

    asyncio.run(use())
    file, reason = asked.sent
    assert isinstance(file, discord.File)
    assert Image.open(io.BytesIO(file.fp.read())).size == (64, 64)
    assert str(reason).startswith("it failed: ")


class Interaction:
    """What Discord sends when somebody types the command, as far as the bot looks at it."""

    def __init__(self) -> None:
        self.id = 4711
        self.user = self
        self.name = "ann"
        self.response = self.followup = self
        self.sent: list[object] = []

    async def defer(self, *, thinking: bool) -> None:
        assert thinking

    async def send(self, text: str | None = None, *, file: object = None) -> None:
        self.sent.append(text or file)


class Attachment:
    """A file of a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    async def read(self) -> bytes:
        return self._data


def pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return image.tobytes()
