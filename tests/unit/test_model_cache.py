"""What a worker keeps of pushed models: fetched once, gone on with, held against its hash, within a bound."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import Any

import pytest

from img2img_shared.errors import WorkerError
from img2img_shared.pushed_models import download
from img2img_shared.pushed_models.download import Damaged
from img2img_shared.pushed_models.model_objects import ModelObjects
from img2img_shared.pushed_models.pushed_model import ModelKind, PushedModel
from img2img_shared.pushed_models.upload import hash_of, send
from img2img_shared.store import Store
from img2img_worker.farm.travel.model_cache import ModelCache, NoRoom
from tests.eventually import eventually
from tests.faults.farm import ROOT

PART, PIECE = 1000, 300
#: bytes of every file here: three parts, of which the last is not full
SIZE = 2500


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PIECE", PIECE)


@pytest.fixture
def objects(tmp_path: Path) -> ModelObjects:
    return ModelObjects(Store(tmp_path / "store"))


@pytest.fixture
def push(tmp_path: Path, objects: ModelObjects) -> Callable[[str], PushedModel]:
    """Pushes a file whose bytes its name tells."""

    def push(name: str, kind: ModelKind = "lora") -> PushedModel:
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes((name.encode() * SIZE)[:SIZE])
        sha256, size = hash_of(path)
        model = PushedModel(
            kind=kind, name=name, ending=".safetensors", sha256=sha256, size=size, part=PART, pushed=time()
        )
        send([path], model, objects, part=PART)
        return model

    return push


class Counted:
    """Gives what the store has, and notes from where on it was asked."""

    def __init__(self, objects: ModelObjects) -> None:
        self._objects = objects
        self.asked: list[int] = []

    def read(self, model: PushedModel, start: int, size: int) -> bytes:
        self.asked.append(start)
        return self._objects.read(model, start, size)


class BrokenOffError(Exception):
    """A worker ends."""


def nobody_waits() -> None:
    raise AssertionError("nobody else fetches it")


def test_a_file_is_fetched_once(
    tmp_path: Path, objects: ModelObjects, push: Callable[[str], PushedModel]
) -> None:
    model, giver = push("cat"), Counted(objects)
    cache = ModelCache(tmp_path / "cache", 10**6)
    for _ in range(2):
        held = cache.fetch(model, giver, nobody_waits)
        assert held.path.read_bytes() == (tmp_path / "cat.safetensors").read_bytes()
        assert held.path.name == "cat.safetensors"
    assert giver.asked == [0, 300, 600, 900, 1000, 1300, 1600, 1900, 2000, 2300]
    assert cache.hashes == [model.sha256]


def test_what_broke_off_is_gone_on_with(
    tmp_path: Path, objects: ModelObjects, push: Callable[[str], PushedModel]
) -> None:
    model, giver = push("cat"), Counted(objects)
    cache = ModelCache(tmp_path / "cache", 10**6)

    def break_off(done: int) -> None:
        if done == 1300:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        cache.fetch(model, giver, nobody_waits, break_off)
    assert not cache.hashes
    giver.asked.clear()
    # another process, which knows only what lies there
    held = ModelCache(tmp_path / "cache", 10**6).fetch(model, giver, nobody_waits)
    assert giver.asked[0] == 1300
    assert hash_of(held.path)[0] == model.sha256


def test_what_is_damaged_is_never_given(
    tmp_path: Path, objects: ModelObjects, push: Callable[[str], PushedModel]
) -> None:
    model, cache = push("cat"), ModelCache(tmp_path / "cache", 10**6)
    objects.put_part(model.sha256, 1, b"x" * PART)
    with pytest.raises(Damaged, match=r"img2img models rm"):
        cache.fetch(model, objects, nobody_waits)
    assert not cache.hashes
    assert not [each for each in (tmp_path / "cache").rglob("*") if each.is_file() and each.stat().st_size]
    push("cat")  # the part has the right size, and is not sent again
    with pytest.raises(Damaged):
        cache.fetch(model, objects, nobody_waits)
    objects.remove(model.sha256)
    push("cat")
    assert hash_of(cache.fetch(model, objects, nobody_waits).path)[0] == model.sha256


def test_what_a_power_cut_has_damaged_is_fetched_anew(
    tmp_path: Path, objects: ModelObjects, push: Callable[[str], PushedModel]
) -> None:
    model = push("cat")
    partial = tmp_path / "cache" / model.sha256 / ".partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(1200))
    held = ModelCache(tmp_path / "cache", 10**6).fetch(model, objects, nobody_waits)
    assert hash_of(held.path)[0] == model.sha256


def test_what_was_used_least_recently_makes_room(
    tmp_path: Path, objects: ModelObjects, push: Callable[[str], PushedModel]
) -> None:
    models = {name: push(name) for name in ("ant", "bee", "cow", "dog")}
    cache = ModelCache(tmp_path / "cache", 3 * SIZE)
    for age, name in enumerate(("ant", "bee", "cow")):
        cache.fetch(models[name], objects, nobody_waits).close()
        used = time() - 100 + age
        os.utime(tmp_path / "cache" / models[name].sha256, (used, used))
    cache.fetch(models["ant"], objects, nobody_waits).close()
    cache.fetch(models["dog"], objects, nobody_waits)
    assert set(cache.hashes) == {models[name].sha256 for name in ("ant", "cow", "dog")}


def test_what_is_in_use_makes_no_room(
    tmp_path: Path, objects: ModelObjects, push: Callable[[str], PushedModel]
) -> None:
    ant, bee = push("ant"), push("bee")
    cache = ModelCache(tmp_path / "cache", SIZE)
    held = cache.fetch(ant, objects, nobody_waits)
    # in another process it would be the same: who uses a file has it locked
    with pytest.raises(WorkerError, match=r"IMG2IMG_MODEL_CACHE_SIZE\), of which 2,500 are in use"):
        ModelCache(tmp_path / "cache", SIZE).fetch(bee, objects, nobody_waits)
    assert hash_of(held.path)[0] == ant.sha256
    held.close()
    cache.fetch(bee, objects, nobody_waits)
    assert cache.hashes == [bee.sha256]


def test_a_disk_that_has_less_than_the_limit_is_the_limit(
    tmp_path: Path,
    objects: ModelObjects,
    push: Callable[[str], PushedModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ant, bee = push("ant"), push("bee")
    cache = ModelCache(tmp_path / "cache", 10**6)
    held = cache.fetch(ant, objects, nobody_waits)
    disk = SIZE + 100

    def usage(folder: Path) -> Any:
        used = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
        return SimpleNamespace(free=disk - used)

    monkeypatch.setattr("shutil.disk_usage", usage)
    with pytest.raises(NoRoom, match=r"may have 2,600 \(its disk has no more\), of which 2,500 are in use"):
        cache.fetch(bee, objects, nobody_waits)
    held.close()
    cache.fetch(bee, objects, nobody_waits)
    assert cache.hashes == [bee.sha256]


def test_a_disk_that_fills_while_it_is_written_to_is_a_shortage_that_passes(
    tmp_path: Path, push: Callable[[str], PushedModel]
) -> None:
    class Full:
        def read(self, model: PushedModel, start: int, size: int) -> bytes:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(NoRoom, match="No space left on device; see IMG2IMG_MODEL_CACHE"):
        ModelCache(tmp_path / "cache", 10**6).fetch(push("ant"), Full(), nobody_waits)


def test_what_can_never_have_room_is_no_shortage(
    tmp_path: Path, objects: ModelObjects, push: Callable[[str], PushedModel]
) -> None:
    with pytest.raises(WorkerError) as raised:
        ModelCache(tmp_path / "cache", SIZE - 1).fetch(push("ant"), objects, nobody_waits)
    assert not isinstance(raised.value, NoRoom)


#: fetches one, and says from where on it asked; `sys.argv[3]` is its name among the files by which it tells
FETCH = """
import sys
from pathlib import Path
from time import sleep
from img2img_shared.pushed_models.model_objects import ModelObjects
from img2img_shared.store import Store
from img2img_worker.farm.travel.model_cache import ModelCache

folder, sha256, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
objects = ModelObjects(Store(folder / "store"))
asked = []

class Giver:
    def read(self, model, start, size):
        asked.append(start)
        (folder / f"{name}-reads").touch()
        while not (folder / "go").exists():
            sleep(0.01)
        return objects.read(model, start, size)

def pause():
    (folder / f"{name}-waits").touch()
    sleep(0.01)

held = ModelCache(folder / "cache", 10**6).fetch(objects.about(sha256), Giver(), pause)
print(asked, held.path.stat().st_size)
"""


def test_two_processes_of_a_machine_fetch_a_file_once(
    tmp_path: Path, objects: ModelObjects, push: Callable[[str], PushedModel]
) -> None:
    model = push("cat")
    objects.put_about(model)

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", FETCH, str(tmp_path), model.sha256, name]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    first = start("first")
    eventually("the first one fetches", (tmp_path / "first-reads").exists)
    second = start("second")
    eventually("the second one waits", (tmp_path / "second-waits").exists)
    (tmp_path / "go").touch()
    assert first.communicate()[0] == f"[0, 1000, 2000] {SIZE}\n"
    assert second.communicate()[0] == f"[] {SIZE}\n"
