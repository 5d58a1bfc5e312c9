"""Checkpoints that wait in the host's memory, and how long an image of a model takes."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from img2img_shared.records import Claim
from img2img_shared.settings import Settings
from img2img_worker.farm import memory
from img2img_worker.farm.events import Claimed, Finished, LetGo
from img2img_worker.farm.host_memory import HostMemory, WaitingCheckpoint
from img2img_worker.farm.image_pace import ImagePace
from img2img_worker.farm.loaded_checkpoint import _read
from img2img_worker.models.checkpoints.loading import read
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from tests.checkpoints import cached, sd1
from tests.unit.engine_toys import ToyFamily


def waiting(size: int, identity: str = "one") -> WaitingCheckpoint:
    return WaitingCheckpoint(identity=identity, size=size, build=ToyFamily)


def test_those_that_were_used_last_stay() -> None:
    host_memory = HostMemory(100)
    for model in ("a", "b", "c"):
        host_memory.keep(model, waiting(30))
    assert host_memory.find("a", "one") is not None
    host_memory.keep("d", waiting(30))
    assert list(host_memory.models) == ["c", "a", "d"]


def test_what_is_larger_than_the_bound_does_not_wait() -> None:
    host_memory = HostMemory(100)
    host_memory.keep("a", waiting(30))
    host_memory.keep("huge", waiting(101))
    assert list(host_memory.models) == ["a"]
    assert not HostMemory(0).has_room(1)


def test_what_its_files_have_become_since_is_read_again() -> None:
    host_memory = HostMemory(100)
    host_memory.keep("a", waiting(30, identity="before"))
    assert host_memory.find("a", "after") is None
    assert not host_memory.models


def test_half_of_what_is_free_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 100)
    host_memory = HostMemory(1000)
    assert host_memory.has_room(50)
    assert not host_memory.has_room(51)
    host_memory.keep("a", waiting(50))
    assert host_memory.has_room(75)  # which is free where "a" goes


def claim(number: int, model: str = "a") -> Claim:
    return Claim(
        job_id="j", tenant="t", index=number, attempt=1, model=model, worker="w", nonce="n", alone=False
    )


def test_an_image_takes_the_time_in_hand_over_those_that_are_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("img2img_worker.farm.image_pace.time.monotonic", lambda: now)
    pace = ImagePace()
    for first in (0, 100):  # idle in between
        now = float(first)
        for number in range(4):
            pace(Claimed(claim=claim(number)))
        now = first + 8.0
        for number in range(4):
            pace(Finished(claim=claim(number), seconds=8.0))
            pace(LetGo(claim=claim(number)))
    now = 500.0
    assert pace.take() == ("a", 2.0)
    assert pace.take() is None
    pace(Claimed(claim=claim(9, "b")))
    now = 501.0
    pace(Finished(claim=claim(9, "b"), seconds=1.0))
    assert pace.take() is None  # one says nothing


@pytest.fixture
def checkpoint(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(cached(tmp_path_factory, sd1), tmp_path / "m"))


def test_what_waits_in_memory_needs_its_files_no_more(checkpoint: Path) -> None:
    settings = Settings(device="cpu")
    before = read(checkpoint, settings).build()
    waits = read(checkpoint, settings).copied()
    assert (
        waits.size
        == sum(weight.numel() for part in waits.parts.components for weight in part.weights.values()) * 4
    )
    for file in checkpoint.rglob("*.safetensors"):  # in place: what is mapped changes with it
        file.write_bytes(bytes(file.stat().st_size))
    after = waits.build()
    assert isinstance(before, StableDiffusion)
    assert isinstance(after, StableDiffusion)
    for name, weight in before.unet.state_dict().items():
        assert torch.equal(weight, after.unet.state_dict()[name])


def test_what_goes_to_a_device_waits_in_memory_beside(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, host_memory = Settings(device="cpu"), HostMemory(10**9)
    found = read(checkpoint, settings)
    device = replace(found, builder=replace(found.builder, device=torch.device("meta")))
    for read_as, waiting_then in ((found, []), (device, [str(checkpoint)])):
        monkeypatch.setattr(
            "img2img_worker.farm.loaded_checkpoint.read_for", lambda *_, read_as=read_as: read_as
        )
        first = _read(str(checkpoint), checkpoint, settings, host_memory, "one")
        assert first.size == read_as.size
        assert list(host_memory.models) == waiting_then
