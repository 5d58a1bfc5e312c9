"""Models that are pushed into the store, and fetched by workers that have nothing."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from tests.checkpoints import cached, sd1_published
from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm, ForkServer
from tests.original import write_original
from tests.s3 import S3Server
from tests.unit import loras


@pytest.fixture
def checkpoint(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A single file that no worker has."""
    folder = tmp_path / "laptop"
    folder.mkdir()
    return write_original(cached(tmp_path_factory, sd1_published), folder / "anime.safetensors")


@pytest.fixture
def farm(
    tmp_path: Path, fork_server: ForkServer, s3_server: S3Server, s3_url: str, checkpoint: Path
) -> Iterator[FaultyFarm]:
    """A farm with a store on S3, and without workers."""
    environment = {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    with FaultyFarm(tmp_path, fork_server, checkpoint, store_url=s3_url, environment=environment) as farm:
        yield farm


def models(farm: FaultyFarm, *words: str) -> Any:
    """What img2img models says, in JSON."""
    said = farm.command_line("models", *words, "--json")
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def test_a_pushed_checkpoint_is_rendered_where_no_worker_has_it(farm: FaultyFarm, checkpoint: Path) -> None:
    pushed = models(farm, "push", str(checkpoint))
    assert (pushed["kind"], pushed["name"], pushed["was_there"]) == ("checkpoint", "anime", False)
    assert models(farm, "push", str(checkpoint))["was_there"]

    waiting = farm.submit(1, model="anime")
    refused = farm.command_line("models", "rm", "anime")
    assert refused.returncode == 2
    assert f"img2img cancel them first ({waiting})" in " ".join(refused.stderr.split())

    stranger = farm.worker(model="")
    by_hash = farm.submit(1, model=pushed["sha256"][:10])
    assert farm.done(waiting).done == farm.done(by_hash).done == 1
    (listed,) = models(farm, "list")
    (worker,) = farm.producer.workers()
    assert (listed["name"], listed["workers"]) == ("anime", [worker.info.id])

    stranger.signal("TERM")
    assert stranger.exit_status == 0
    owner = {"IMG2IMG_MODELS_DIR": str(checkpoint.parent), "IMG2IMG_MODEL_CACHE": str(farm.folder / "cache")}
    farm.worker(model="", environment=owner)
    local = farm.submit(1, model="anime")
    farm.done(local)
    assert not (farm.folder / "cache").exists()
    assert farm.pictures(waiting) == farm.pictures(by_hash) == farm.pictures(local)

    assert models(farm, "rm", "anime")["sha256"] == pushed["sha256"]
    store = farm.producer._service.store
    eventually("the store has it no more", lambda: not list(store.list("models")))
    assert farm.command_line("models", "rm", "anime").returncode != 0


def test_who_dies_while_it_fetches_leaves_what_it_has_to_the_next(
    farm: FaultyFarm, checkpoint: Path, account: Account
) -> None:
    models(farm, "push", str(checkpoint))
    log, died = farm.folder / "reads", farm.folder / "died"
    victim = farm.worker(model="", slow_fetch={"log": str(log), "dies": str(died)})
    job = farm.submit(2, model="anime")
    eventually("it dies", lambda: not victim.alive)
    account.fault()
    for _ in range(2):  # of one machine: one of them goes on with it, and the other one waits
        farm.worker(model="", slow_fetch={"log": str(log)})
    account.settle(farm, "SIGKILL while a model is fetched", job)
    size = checkpoint.stat().st_size
    assert [int(line) for line in log.read_text().split()] == [*range(0, size, 2**20)]


def test_what_is_damaged_in_the_store_is_said_and_never_rendered_with(
    farm: FaultyFarm, checkpoint: Path
) -> None:
    pushed = models(farm, "push", str(checkpoint))
    part = f"models/{pushed['sha256']}/parts/000000"
    store = farm.producer._service.store
    data = bytearray(store.get(part))
    data[-1] ^= 1
    store.put(part, bytes(data))
    worker = farm.worker(model="")
    assert worker.exit_status == 1
    assert worker.said("checkpoint anime in the store is damaged")
    assert not list(farm.settings.data_dir.rglob("anime.safetensors"))
    models(farm, "rm", "anime")
    models(farm, "push", str(checkpoint))
    farm.worker(model="")
    assert farm.done(farm.submit(1, model="anime")).done == 1


def test_two_checkpoints_of_one_name_never_mix(
    farm: FaultyFarm, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = models(farm, "push", str(checkpoint))
    before = farm.submit(1, model="anime")
    other = checkpoint.parent / "other"
    other.mkdir()
    write_original(sd1_published(tmp_path_factory.mktemp("other"), seed=7), other / checkpoint.name)
    second = models(farm, "push", str(other / checkpoint.name))
    after = farm.submit(1, model="anime")
    of_first = farm.submit(1, model=first["sha256"])
    # it has a third file of that name
    third = farm.folder / "models"
    third.mkdir()
    write_original(sd1_published(tmp_path_factory.mktemp("third"), seed=8), third / checkpoint.name)
    farm.worker(model="", environment={"IMG2IMG_MODELS_DIR": str(third)})
    for job, meant in ((before, first), (after, second), (of_first, first)):
        assert f"Model hash: {meant['sha256'][:10]}" in text(farm, job)
    assert farm.pictures(before) == farm.pictures(of_first) != farm.pictures(after)


def test_a_job_keeps_the_lora_that_its_prompt_meant(farm: FaultyFarm, checkpoint: Path) -> None:
    models(farm, "push", str(checkpoint))
    family = open_checkpoint(checkpoint)
    assert isinstance(family, StableDiffusion)
    local = farm.folder / "models" / "Lora"
    local.mkdir(parents=True)
    jobs = []
    for seed in (1, 2):
        file = local / f"own-{seed}.safetensors"
        loras.write_kohya(file, family.unet, loras.UNET, seed=seed)
        assert models(farm, "push", str(file), "--name", "ink")["kind"] == "lora"
        jobs.append(farm.submit(1, model="anime", prompt="a cat <lora:ink:1>"))
    # the worker's own of that name is the first one, whose name means the second one by now
    shutil.copy(local / "own-1.safetensors", local / "ink.safetensors")
    farm.worker(model="", environment={"IMG2IMG_MODELS_DIR": str(local.parent)})
    own = [farm.submit(1, model="anime", prompt=f"a cat <lora:own-{seed}:1>") for seed in (1, 2)]
    first, second = (pixels(farm, job) for job in jobs)
    assert (first, second) == tuple(pixels(farm, job) for job in own)
    assert first != second


def pixels(farm: FaultyFarm, job: str) -> bytes:
    """Of the job's one picture."""
    assert farm.done(job).done == 1
    with Image.open(io.BytesIO(farm.pictures(job)[0])) as image:
        return image.tobytes()


def text(farm: FaultyFarm, job: str) -> str:
    """What that picture's file says of how it was made."""
    assert farm.done(job).done == 1
    with Image.open(io.BytesIO(farm.pictures(job)[0])) as image:
        return str(image.info["parameters"])
