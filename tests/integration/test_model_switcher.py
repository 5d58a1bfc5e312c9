"""A worker's models: which is loaded first, exchanged, set aside, and what the farm hears of it."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from img2img_shared.errors import Refused
from img2img_shared.file_hashes import FileHashes
from img2img_shared.ledger import FarmRedis, Ledger
from img2img_shared.pushed_models.model_index import ModelIndex
from img2img_shared.pushed_models.model_objects import PART, ModelObjects
from img2img_shared.pushed_models.pushed_model import PushedModel
from img2img_shared.pushed_models.upload import hash_of, send
from img2img_shared.records import WorkerInfo, WorkerReport
from img2img_shared.settings import Settings
from img2img_shared.store import Store
from img2img_worker.farm.checks import sample_render
from img2img_worker.farm.current_model import CurrentModel
from img2img_worker.farm.events import Event, Loaded, Warned
from img2img_worker.farm.health import Check, Health
from img2img_worker.farm.host_memory import HostMemory
from img2img_worker.farm.image_pace import ImagePace
from img2img_worker.farm.leases import Leases
from img2img_worker.farm.model_loader import ModelLoader
from img2img_worker.farm.model_switcher import ModelSwitcher
from img2img_worker.farm.models_set_aside import ModelsSetAside
from img2img_worker.farm.travel.model_files import ModelFiles
from img2img_worker.models.checkpoints.loading import read_for
from img2img_worker.models.faces.restorers import FaceRestorers
from img2img_worker.models.upscalers.upscalers import Upscalers
from tests.checkpoints import cached, sd1, sd1_published
from tests.integration.ledger_helpers import FARM, a_job
from tests.loaded_model import loaded_model
from tests.original import write_original

MODELS = ("alpha", "beta", "gamma")
#: what reads a checkpoint's files
READ = "img2img_worker.farm.loaded_checkpoint.read_for"


@pytest.fixture(autouse=True)
def looks_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker looks at its folder once, and after that when a test says so, however long that takes."""
    monkeypatch.setattr("img2img_worker.farm.model_switcher.LOOK", 86_400.0)


@pytest.fixture
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three checkpoints of different hashes."""
    for number, name in enumerate(MODELS):
        shutil.copytree(cached(tmp_path_factory, sd1), tmp_path / name)
        with (tmp_path / name / "model_index.json").open("a") as index:
            index.write(number * "\n")
    return tmp_path


class Worker:
    """What of a worker has to do with its models; it claims, but nothing is rendered."""

    def __init__(self, folder: Path, ledger: Ledger, redis: FarmRedis, *models: str) -> None:
        self.ledger = ledger
        self.told: list[Event] = []
        self.followed: list[str] = []
        self.stopping = threading.Event()
        self.leases = Leases(ledger, self.told.append)
        settings = Settings(device="cpu", models_dir=folder, slots=1, data_dir=folder / ".data")
        hashes = FileHashes(folder / ".hashes")
        self.objects = ModelObjects(Store(folder / ".store"))
        self.index = ModelIndex(redis, self.objects)
        files = ModelFiles(
            index=self.index,
            objects=self.objects,
            settings=settings,
            hashes=hashes,
            stopping=self.stopping,
        )
        self.current = CurrentModel(WorkerInfo(id="w", model="", device="cpu", slots=1))
        self.memory = HostMemory(10**9)
        self.health = Health(
            store=Check(lambda: None),
            rendering=Check(sample_render(self.current)),
            stopping=self.stopping,
            longest=1.0,
            observe=self.told.append,
        )
        self.switcher = ModelSwitcher(
            ledger=ledger,
            loader=ModelLoader(
                ledger=ledger,
                settings=settings,
                hashes=hashes,
                files=files,
                upscalers=Upscalers(folder, torch.device("cpu")),
                face_restorers=FaceRestorers(folder, torch.device("cpu")),
                host_memory=self.memory,
                rebind=False,
                observe=self.told.append,
            ),
            current=self.current,
            leases=self.leases,
            health=self.health,
            pace=ImagePace(),
            catalog=lambda: files.served(models),
            follow=self.followed.append,
            stopping=self.stopping,
            observe=self.told.append,
            begun=0.0,
        )

    @property
    def model(self) -> str | None:
        loaded = self.current.loaded
        return None if loaded is None else loaded.served.model

    @property
    def warnings(self) -> str:
        return "\n".join(event.text for event in self.told if isinstance(event, Warned))

    def ask(self, raw: Any) -> None:
        """As it does each second, when what was kept of the last answer is gone; it beats before."""
        self.ledger.beat(self.current.info, WorkerReport(trouble=self.health.trouble))
        raw.delete(f"{FARM}:board")
        self.switcher.round()

    def close(self) -> None:
        if self.current.loaded is not None:
            self.current.loaded.engine.close()


@pytest.fixture
def worker(folder: Path, ledger: Ledger, farm_redis: FarmRedis) -> Iterator[Worker]:
    """One that serves all of the folder."""
    worker = Worker(folder, ledger, farm_redis)
    yield worker
    worker.close()


def submit(ledger: Ledger, model: str, name: str = "", **fields: Any) -> None:
    ledger.submit(a_job(name or f"job-{model}", 3, model=model, **fields))


def test_the_model_that_is_wanted_is_loaded_first(worker: Worker, ledger: Ledger) -> None:
    submit(ledger, "beta")
    worker.switcher.load_first()
    assert worker.model == "beta"
    assert worker.followed == ["beta"]
    assert worker.current.info.others == {name: name for name in MODELS}
    assert worker.current.info.sha256 is not None
    (loaded,) = [event for event in worker.told if isinstance(event, Loaded)]
    assert loaded.worker.model == "beta"


def test_where_nothing_waits_it_is_one_that_nobody_has(worker: Worker, ledger: Ledger) -> None:
    for number, model in enumerate(("alpha", "gamma", "alpha")):
        others = {name: name for name in MODELS}
        ledger.beat(WorkerInfo(id=f"w{number}", model=model, device="none", slots=1, others=others))
    worker.switcher.load_first()
    assert worker.model == "beta"


def test_a_model_is_exchanged_for_what_waits_and_waits_in_memory_itself(
    worker: Worker, ledger: Ledger, raw: Any
) -> None:
    worker.switcher.load_first()
    worker.ask(raw)
    assert worker.model == "alpha"
    first = worker.current.loaded
    assert first is not None
    submit(ledger, "gamma")
    worker.ask(raw)
    assert worker.model == "gamma"
    assert first.engine.broken is False
    assert list(worker.memory.models) == ["alpha"]
    assert worker.followed == ["alpha", "gamma"]
    demands = ledger.placement().demands
    assert (demands["alpha"].workers, demands["gamma"].workers) == (0, 1)
    assert demands["gamma"].load_seconds is not None
    ledger.cancel("job-gamma", "default")
    submit(ledger, "alpha")
    worker.ask(raw)
    again = worker.current.loaded
    assert again is not None
    assert again.was_waiting
    assert again.checkpoint.family is first.checkpoint.family


def test_what_is_in_hand_is_finished_before(worker: Worker, ledger: Ledger, raw: Any) -> None:
    submit(ledger, "alpha")
    worker.switcher.load_first()
    claims = [ledger.claim("alpha", "w", f"nonce-{n}", idle=False) for n in range(3)]
    with worker.current.claiming() as model:
        assert model is not None
        held = [worker.leases.hold(claim, model) for claim in claims if claim is not None]
    submit(ledger, "beta")
    raw.hset(f"{FARM}:starved", "beta", 1)
    exchange = threading.Thread(target=worker.ask, args=[raw])
    exchange.start()
    while worker.current.info.model != "beta":  # it has decided, and drains
        assert exchange.is_alive()
    with worker.current.claiming() as model:
        assert model is None or worker.current.info.model == "beta"
    assert worker.model == "alpha"
    for each in held:
        assert ledger.finish(each.claim)
        worker.leases.let_go(each)
    exchange.join()
    assert worker.model == "beta"
    with worker.current.claiming() as model:
        assert model is not None
        assert model.served.model == "beta"


def test_a_checkpoint_that_is_broken_is_set_aside_and_the_others_go_on(
    folder: Path, worker: Worker, ledger: Ledger, raw: Any
) -> None:
    (folder / "beta" / "unet" / "config.json").write_text("{}")
    submit(ledger, "beta")
    worker.switcher.load_first()
    assert worker.model in ("alpha", "gamma")
    assert "beta is set aside for 60 s" in worker.warnings
    assert "beta" not in worker.current.info.others
    worker.ask(raw)
    assert worker.model in ("alpha", "gamma")


def test_one_that_has_vanished_is_not_served_any_more_and_the_loaded_one_stays(
    folder: Path, worker: Worker, ledger: Ledger, raw: Any
) -> None:
    worker.switcher.load_first()
    before = worker.current.loaded
    shutil.rmtree(folder / "gamma")  # it has not looked since
    submit(ledger, "gamma")
    worker.ask(raw)
    assert worker.model == "alpha"
    assert worker.current.info.model == "alpha"
    assert worker.current.loaded is before
    assert "gamma is set aside" in worker.warnings
    demands = ledger.placement().demands
    assert (demands["alpha"].workers, demands["gamma"].workers) == (1, 0)
    assert worker.health.trouble is None


def test_where_memory_is_short_nothing_waits_and_it_is_tried_once_more(
    worker: Worker, ledger: Ledger, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.switcher.load_first()
    short = [True, True, True]

    def short_read(path: Path, settings: Settings) -> Any:
        if short and short.pop():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read_for(path, settings)

    monkeypatch.setattr(READ, short_read)
    submit(ledger, "gamma")
    worker.ask(raw)
    # twice for the one that is wanted, once for the one before, which did not wait any more
    assert worker.model == "alpha"
    assert "gamma is set aside" in worker.warnings
    assert "out of memory" in worker.warnings
    assert not short


def test_where_none_can_be_loaded_the_worker_says_so_and_comes_back(
    folder: Path, worker: Worker, ledger: Ledger, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.switcher.load_first()
    worker.memory.keep = lambda *_: None  # type: ignore[method-assign]

    def cannot(path: Path, _: Settings) -> Any:
        raise Refused("model", str(path), "the share is away")

    monkeypatch.setattr(READ, cannot)
    submit(ledger, "gamma")
    worker.ask(raw)
    assert worker.model is None
    assert worker.health.trouble == "none of its models can be loaded"
    assert worker.current.info.others == {}
    monkeypatch.setattr(READ, read_for)
    worker.switcher._aside = ModelsSetAside()  # a minute later
    worker.ask(raw)
    assert worker.model == "gamma"
    assert worker.health.trouble is None


def test_a_name_that_stands_for_another_checkpoint_is_given_up(
    worker: Worker, ledger: Ledger, raw: Any
) -> None:
    worker.switcher.load_first()
    ledger.bind_model("alpha", "another", rebind=True)
    assert ledger.beat(worker.current.info).is_replaced
    worker.switcher.replaced("alpha")
    worker.ask(raw)
    assert worker.model in ("beta", "gamma")
    assert "alpha" not in worker.current.info.models


def test_one_that_renders_nothing_right_is_exchanged(worker: Worker, ledger: Ledger, raw: Any) -> None:
    worker.switcher.load_first()
    worker.health._rendering.trouble = "ValueError: no picture"
    worker.ask(raw)
    assert worker.model in ("beta", "gamma")


def test_a_worker_that_an_operator_disabled_keeps_its_model(worker: Worker, ledger: Ledger, raw: Any) -> None:
    worker.switcher.load_first()
    worker.health.obey("it was disabled by an operator")
    submit(ledger, "gamma")
    worker.ask(raw)
    assert worker.model == "alpha"


def pushed(worker: Worker, path: Path) -> PushedModel:
    """A checkpoint's file, in the store and in the index."""
    sha256, size = hash_of(path)
    facts: Any = {"kind": "checkpoint", "name": "delta", "model": "delta", "ending": ".safetensors"}
    model = PushedModel(**facts, sha256=sha256, size=size, part=PART, pushed=0.0)
    send([path], model, worker.objects)
    worker.objects.put_about(model)
    worker.index.put(model)
    return model


def test_what_was_pushed_is_fetched_while_the_loaded_one_renders(
    worker: Worker,
    ledger: Ledger,
    raw: Any,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker.switcher.load_first()
    before = worker.model
    file = write_original(
        cached(tmp_path_factory, sd1_published), tmp_path_factory.mktemp("x") / "f.safetensors"
    )
    model = pushed(worker, file)
    seen: list[tuple[str | None, str]] = []
    read = worker.objects.read

    def noted(*words: Any) -> bytes:
        with worker.current.claiming() as loaded:
            assert loaded is not None
        seen.append((worker.model, worker.current.info.model))
        return read(*words)

    monkeypatch.setattr(worker.objects, "read", noted)
    submit(ledger, "delta")
    worker.switcher._next_look = 0.0  # ten seconds later
    worker.ask(raw)
    assert set(seen) == {(before, "delta")}
    assert worker.model == "delta"
    assert worker.current.info.sha256 == model.sha256
    assert worker.current.info.file_name == "delta.safetensors"


def test_what_cannot_be_fetched_is_set_aside_and_the_loaded_one_renders_on(
    worker: Worker, ledger: Ledger, raw: Any, tmp_path: Path
) -> None:
    worker.switcher.load_first()
    before = worker.current.loaded
    (tmp_path / "delta.bin").write_bytes(b"not what was pushed")
    model = pushed(worker, tmp_path / "delta.bin")
    worker.objects.put_part(model.sha256, 0, bytes(model.size))
    submit(ledger, "delta")
    worker.switcher._next_look = 0.0
    worker.ask(raw)
    assert worker.current.loaded is before
    assert "checkpoint delta in the store is damaged" in worker.switcher.aside["delta"]
    with worker.current.claiming() as loaded:
        assert loaded is before


def test_a_single_model_is_refused_as_it_was(folder: Path, ledger: Ledger, farm_redis: FarmRedis) -> None:
    (folder / "beta" / "unet" / "config.json").write_text("{}")
    worker = Worker(folder, ledger, farm_redis, "beta")
    with pytest.raises(Refused, match="it lacks"):
        worker.switcher.load_first()


def test_a_single_model_asks_nothing(folder: Path, ledger: Ledger, farm_redis: FarmRedis, raw: Any) -> None:
    worker = Worker(folder, ledger, farm_redis, "beta")
    worker.switcher.load_first()
    submit(ledger, "gamma")
    worker.ask(raw)
    assert worker.model == "beta"
    assert worker.current.info.others == {}
    assert raw.exists(f"{FARM}:board") == 0
    worker.close()


def test_a_checkpoint_that_is_added_to_the_folder_is_served(
    folder: Path, worker: Worker, ledger: Ledger, raw: Any
) -> None:
    worker.switcher.load_first()
    shutil.copytree(folder / "gamma", folder / "delta")
    worker.switcher._next_look = 0.0  # ten seconds later
    submit(ledger, "delta")
    worker.ask(raw)
    assert worker.model == "delta"


def test_what_a_model_takes_is_known_when_it_is_not_loaded(worker: Worker, ledger: Ledger) -> None:
    assert ledger.known_takes() == {}
    worker.switcher.load_first()
    assert ledger.known_takes() == {"alpha": frozenset()}
    ledger.describe("edit", ["image_cfg_scale"])
    assert ledger.known_takes()["edit"] == {"image_cfg_scale"}
    assert ledger.known_hashes() == {"alpha": worker.current.info.sha256}


def test_nobody_keeps_house_for_a_model_that_nobody_has(worker: Worker, ledger: Ledger, raw: Any) -> None:
    worker.switcher.load_first()
    ledger.take_back("alpha", "w")
    worker.ask(raw)
    assert sorted(worker.switcher.orphans) == ["beta", "gamma"]


def test_claims_and_an_exchange_wait_for_each_other() -> None:
    current = CurrentModel(WorkerInfo(id="w", model="", device="cpu", slots=1))
    closed = threading.Event()

    def close() -> None:
        current.close()
        closed.set()

    current.put(loaded_model(None))
    with current.claiming() as model:
        assert model is not None
        thread = threading.Thread(target=close)
        thread.start()
        while True:  # until it has asked
            with current.claiming() as second:
                if second is None:
                    break
        assert not closed.is_set()
    thread.join()
    assert closed.is_set()
