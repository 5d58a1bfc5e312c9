"""A worker process: one checkpoint, loaded once, and Celery's threads that claim images for it."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import torch
from celery import Celery
from prometheus_client import REGISTRY

from img2img_shared.errors import Unavailable
from img2img_shared.farm.marker import StoreMarker
from img2img_shared.farm.store_janitor import StoreJanitor
from img2img_shared.file_hashes import FileHashes
from img2img_shared.ledger import Ledger, connect
from img2img_shared.ledger.connect import FarmRedis
from img2img_shared.ledger.file_names import FileNames
from img2img_shared.ledger.inversion_names import InversionNames
from img2img_shared.ledger.keys import queue_name
from img2img_shared.ledger.lora_names import LoraNames
from img2img_shared.ledger.previews import Previews
from img2img_shared.metrics import shown, time_ledger
from img2img_shared.settings import Settings
from img2img_shared.store import Store
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.measure import find_slots
from img2img_worker.farm import memory
from img2img_worker.farm.celery_worker import n_threads, take_tickets, ticket_app
from img2img_worker.farm.checks import StoreCheck, sample_render
from img2img_worker.farm.claim_loop import ClaimLoop
from img2img_worker.farm.events import Ended, Loaded, Observer, OutOfMemory, tell_all
from img2img_worker.farm.health import Check, Health
from img2img_worker.farm.leases import Leases
from img2img_worker.farm.loaded_checkpoint import LoadedCheckpoint, other_checkpoints
from img2img_worker.farm.log_observer import LogObserver
from img2img_worker.farm.maintenance import WorkerMaintenance
from img2img_worker.farm.metrics_observer import EngineCollector, MetricsObserver
from img2img_worker.farm.preview_publisher import PreviewPublisher
from img2img_worker.farm.redis_wait import when_redis_answers
from img2img_worker.farm.reporter import Reporter
from img2img_worker.farm.shutdown import Shutdown
from img2img_worker.farm.urgent import UrgentClaims
from img2img_worker.models.checkpoints.loading import load_other
from img2img_worker.models.faces.restorers import FaceRestorers
from img2img_worker.models.families.family import Family
from img2img_worker.models.upscalers.upscalers import Upscalers

log = logging.getLogger(__name__)


def run(
    model: str,
    redis_url: str,
    store_url: str,
    settings: Settings,
    hashes: FileHashes,
    *,
    rebind: bool = False,
) -> int:
    """Serve `model` until SIGTERM or SIGINT, which returns images in hand; a second one ends at once.

    Args:
        hashes: of checkpoints that were read before.
        rebind: from now on the farm knows this checkpoint by the name, whichever it knew before.

    Returns:
        the process' exit status.

    Raises:
        Refused: the model is no checkpoint, or not the farm's of that name, or a URL is none.
    """
    begun = time.monotonic()
    store = Store(store_url)
    # first: a wrong URL is said before minutes of loading
    redis = when_redis_answers(partial(connect, redis_url, settings.prefix))
    time_ledger(redis)
    ledger = Ledger(redis, lease=settings.lease)
    checkpoint = LoadedCheckpoint.load(model, ledger, settings, hashes, rebind=rebind)
    observers = Observers(checkpoint, begun)
    with shown(settings.metrics), _engine(checkpoint.family, settings, observers.tell) as engine:
        REGISTRY.register(EngineCollector(model, engine, checkpoint.family.device))
        process = WorkerProcess(
            redis=redis,
            ledger=ledger,
            store=store,
            checkpoint=checkpoint,
            engine=engine,
            settings=settings,
            observers=observers,
        )
        app = ticket_app(redis_url, settings.prefix, process.claim_loop, engine.slots)
        with process.running(app):
            memory_told = memory.told(checkpoint.family.device)
            observers.tell(
                Loaded(
                    worker=process.info,
                    family=checkpoint.family.name,
                    memory=memory_told,
                    seconds=time.monotonic() - begun,
                )
            )
            return take_tickets(app, process.info.id, queue_name(model))


@contextmanager
def _engine(family: Family, settings: Settings, observe: Observer) -> Iterator[Engine]:
    """The engine, with as many slots as pay, and compiled for the sizes that are wanted."""
    # what is not compiled by the warm-up runs as it is: no image waits minutes for a compiler
    torch.compiler.set_stance("eager_on_recompile")
    slots = settings.slots
    if slots == "auto":
        slots = find_slots(family, deterministic=settings.deterministic)

    def out_of_memory(slots: int, put_back: int) -> None:
        observe(OutOfMemory(slots=slots, put_back=put_back))

    with Engine(
        family,
        slots=slots,
        deterministic=settings.deterministic,
        others=partial(load_other, settings=settings),
        most_others=settings.other_checkpoints,
        on_out_of_memory=out_of_memory,
    ) as engine:
        if settings.compile:
            log.info("compiling for pictures of %s: this takes minutes", settings.compile)
            engine.warm_up(settings.compiled_sizes).result()
        yield engine


class Observers:
    """Who hears of what happens here."""

    def __init__(self, checkpoint: LoadedCheckpoint, begun: float) -> None:
        self.log = LogObserver()
        self.reporter = Reporter(checkpoint.family.device, begun)
        self.tell = tell_all(self.log, self.reporter, MetricsObserver(checkpoint.model))


class WorkerProcess:
    """What claims images, renders them, and keeps the farm informed."""

    def __init__(
        self,
        *,
        redis: FarmRedis,
        ledger: Ledger,
        store: Store,
        checkpoint: LoadedCheckpoint,
        engine: Engine,
        settings: Settings,
        observers: Observers,
    ) -> None:
        self.info = checkpoint.worker_info(engine.slots)
        self._redis, self._ledger, self._store = redis, ledger, store
        self._checkpoint, self._engine, self._settings = checkpoint, engine, settings
        self._observers = observers
        self._stopping = threading.Event()
        self._leases = Leases(ledger, observers.tell)
        self._upscalers = Upscalers(settings.models_dir, checkpoint.family.device)
        self._face_restorers = FaceRestorers(settings.models_dir, checkpoint.family.device)
        served = checkpoint.served(settings, self._upscalers, self._face_restorers)
        store_check = StoreCheck(store, StoreMarker(store, ledger), self.info.id)
        self._health = Health(
            store=Check(store_check),
            rendering=Check(sample_render(engine, served)),
            stopping=self._stopping,
            longest=ledger.lease,
            observe=observers.tell,
        )
        self.claim_loop = ClaimLoop(
            ledger=ledger,
            store=store,
            store_check=store_check,
            engine=engine,
            upscalers=self._upscalers,
            face_restorers=self._face_restorers,
            leases=self._leases,
            health=self._health,
            served=served,
            worker=self.info.id,
            stopping=self._stopping,
            observe=observers.tell,
        )
        self._urgent = UrgentClaims(
            ledger=ledger,
            leases=self._leases,
            health=self._health,
            claim_loop=self.claim_loop,
            model=self.info.model,
            full=n_threads(engine.slots),
            most=engine.slots,
            stopping=self._stopping,
            observe=observers.tell,
        )

    @contextmanager
    def running(self, app: Celery) -> Iterator[None]:
        """While it serves: leases are renewed, previews published, signals heard."""
        maintenance, publisher = self._maintenance(app), self._publisher()
        Shutdown(
            stopping=self._stopping,
            leases=self._leases,
            ledger=self._ledger,
            worker=self.info,
            observe=self._observers.tell,
        ).take_over()
        self._health.check_all()
        maintenance.start()
        publisher.start()
        self._urgent.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._leases.lose_all()
            self._urgent.stop()
            publisher.stop()
            maintenance.stop()
            with suppress(Unavailable):  # else it is listed, and waited for, for another half a lease
                self._ledger.leave(self.info.id)
            self._observers.tell(Ended(worker=self.info))

    def _maintenance(self, app: Celery) -> WorkerMaintenance:
        family = self._checkpoint.family
        return WorkerMaintenance(
            app=app,
            ledger=self._ledger,
            leases=self._leases,
            worker=self.info,
            loras=family.loras,
            lora_names=LoraNames(self._redis),
            inversions=family.inversions,
            inversion_names=InversionNames(self._redis),
            hypernetworks=family.hypernetworks,
            vaes=family.vaes,
            controls=family.controls,
            file_names=FileNames(self._redis),
            upscalers=self._upscalers,
            face_restorers=self._face_restorers,
            checkpoints=partial(other_checkpoints, self._settings),
            store_janitor=StoreJanitor(self._redis, self._store, self._settings),
            health=self._health,
            reporter=self._observers.reporter,
            log=self._observers.log,
            observe=self._observers.tell,
        )

    def _publisher(self) -> PreviewPublisher:
        return PreviewPublisher(
            previews=Previews(self._redis),
            engine=self._engine,
            leases=self._leases,
            seconds=self._settings.preview_seconds,
        )
