"""A worker process: one model loaded at a time, and Celery's threads that claim images for it."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from celery import Celery
from prometheus_client import REGISTRY

from img2img_shared.errors import Unavailable
from img2img_shared.farm.marker import StoreMarker
from img2img_shared.farm.store_janitor import StoreJanitor
from img2img_shared.file_hashes import FileHashes
from img2img_shared.ledger import Ledger, connect
from img2img_shared.ledger.connect import FarmRedis
from img2img_shared.ledger.previews import Previews
from img2img_shared.ledger.submissions import Submissions
from img2img_shared.metrics import serve_metrics, time_ledger
from img2img_shared.pushed_models.model_index import ModelIndex
from img2img_shared.pushed_models.model_objects import ModelObjects
from img2img_shared.records import WorkerInfo
from img2img_shared.settings import Settings
from img2img_shared.store import Store
from img2img_worker.farm.celery_worker import TicketTaker, n_threads, ticket_app
from img2img_worker.farm.checks import StoreCheck, sample_render
from img2img_worker.farm.claim_loop import ClaimLoop
from img2img_worker.farm.current_model import CurrentModel
from img2img_worker.farm.events import Ended, tell_all
from img2img_worker.farm.file_announcer import FileAnnouncer
from img2img_worker.farm.health import Check, Health
from img2img_worker.farm.host_memory import HostMemory
from img2img_worker.farm.image_pace import ImagePace
from img2img_worker.farm.leases import Leases
from img2img_worker.farm.loaded_checkpoint import worker_id
from img2img_worker.farm.log_observer import LogObserver
from img2img_worker.farm.maintenance import WorkerMaintenance
from img2img_worker.farm.metrics_observer import EngineCollector, MetricsObserver
from img2img_worker.farm.model_janitor import ModelJanitor
from img2img_worker.farm.model_loader import ModelLoader
from img2img_worker.farm.model_switcher import ModelSwitcher
from img2img_worker.farm.other_workers import OtherWorkers
from img2img_worker.farm.own_files import OwnFiles
from img2img_worker.farm.preview_publisher import PreviewPublisher
from img2img_worker.farm.redis_wait import when_redis_answers
from img2img_worker.farm.reporter import Reporter
from img2img_worker.farm.shutdown import Shutdown
from img2img_worker.farm.tile_jobs import TileJobs
from img2img_worker.farm.travel.model_files import ModelFiles
from img2img_worker.farm.urgent import UrgentClaims
from img2img_worker.models.checkpoints.loading import find_device
from img2img_worker.models.faces.restorers import FaceRestorers
from img2img_worker.models.upscalers.upscalers import Upscalers


def run(
    models: Sequence[str],
    redis_url: str,
    store_url: str,
    settings: Settings,
    hashes: FileHashes,
    *,
    rebind: bool = False,
) -> int:
    """Serve `models` until SIGTERM or SIGINT, which returns images in hand; a second one ends at once.

    Args:
        models: their names; none: all that the folder of models has, at any time.
        hashes: of checkpoints that were read before.
        rebind: bind the checkpoints' names to these files, even if the farm knows others by them.

    Returns:
        the process' exit status.

    Raises:
        Refused: there is no such model, none can be loaded, or something is not a URL.
    """
    begun = time.monotonic()
    store = Store(store_url)
    # first: a wrong URL is said before minutes of loading
    redis = when_redis_answers(partial(connect, redis_url, settings.prefix))
    time_ledger(redis)
    with serve_metrics(settings.metrics):
        process = WorkerProcess(
            models=models,
            redis=redis,
            redis_url=redis_url,
            store=store,
            settings=settings,
            hashes=hashes,
            rebind=rebind,
            begun=begun,
        )
        return process.run()


class WorkerProcess:
    """Claims and renders images, and keeps the farm informed."""

    def __init__(
        self,
        *,
        models: Sequence[str],
        redis: FarmRedis,
        redis_url: str,
        store: Store,
        settings: Settings,
        hashes: FileHashes,
        rebind: bool,
        begun: float,
    ) -> None:
        self._redis, self._redis_url, self._store, self._settings = redis, redis_url, store, settings
        self._ledger = ledger = Ledger(redis, lease=settings.lease)
        device = find_device(settings.device)
        self._reporter, self._log, pace = Reporter(device, begun), LogObserver(), ImagePace()
        self._tell = observe = tell_all(self._log, self._reporter, pace, MetricsObserver())
        self._stopping = threading.Event()
        self._leases = Leases(ledger, observe)
        self._upscalers = Upscalers(settings.models_dir, device)
        self._face_restorers = FaceRestorers(settings.models_dir, device)
        self._files = files = ModelFiles(
            index=ModelIndex(redis, ModelObjects(store)),
            objects=ModelObjects(store),
            settings=settings,
            hashes=hashes,
            stopping=self._stopping,
        )
        for model in models:
            files.check(model)
        self._own_files = OwnFiles(self._upscalers, self._face_restorers, checkpoints=lambda: files.others)
        is_one = len(files.served(models)) == 1
        info = WorkerInfo(id=worker_id(), model="", device=str(device), slots=0)
        self._current = CurrentModel(info)
        REGISTRY.register(EngineCollector(self._current, device))
        store_check = StoreCheck(store, StoreMarker(store, ledger), info.id)
        self._health = Health(
            store=Check(store_check),
            rendering=Check(sample_render(self._current)),
            stopping=self._stopping,
            longest=ledger.lease,
            observe=observe,
        )
        self._claim_loop = ClaimLoop(
            ledger=ledger,
            store=store,
            store_check=store_check,
            current=self._current,
            files=files,
            upscalers=self._upscalers,
            face_restorers=self._face_restorers,
            other_workers=OtherWorkers(ledger, redis, self._own_files),
            tile_jobs=TileJobs(ledger, store, Submissions(redis), prove=store_check),
            leases=self._leases,
            health=self._health,
            worker=info.id,
            stopping=self._stopping,
            observe=observe,
        )
        self._tickets = TicketTaker(info.id)
        loader = ModelLoader(
            ledger=ledger,
            settings=settings,
            hashes=hashes,
            files=files,
            upscalers=self._upscalers,
            face_restorers=self._face_restorers,
            host_memory=HostMemory(0 if is_one else int(settings.host_memory * 2**30)),
            rebind=rebind,
            observe=observe,
        )
        self._switcher = ModelSwitcher(
            ledger=ledger,
            loader=loader,
            current=self._current,
            leases=self._leases,
            health=self._health,
            pace=pace,
            catalog=partial(files.served, models),
            follow=self._tickets.follow,
            stopping=self._stopping,
            observe=observe,
            begun=begun,
        )

    def run(self) -> int:
        """Run until stopped; returns the exit status."""
        self._switcher.load_first()
        slots = self._current.info.slots
        app = ticket_app(self._redis_url, self._settings.prefix, self._claim_loop, slots)
        try:
            with self._running(app, slots):
                return self._tickets.run(app, self._switcher.start)
        finally:
            if (loaded := self._current.loaded) is not None:
                loaded.engine.close()

    @contextmanager
    def _running(self, app: Celery, slots: int) -> Iterator[None]:
        """While it serves: leases are renewed, previews published, models exchanged, signals heard."""
        maintenance, publisher = self._maintenance(app), self._publisher()
        urgent = self._urgent_claims(slots)
        Shutdown(
            stopping=self._stopping,
            leases=self._leases,
            ledger=self._ledger,
            worker=self._current.info,
            observe=self._tell,
        ).take_over()
        self._health.check_all()
        maintenance.start()
        publisher.start()
        urgent.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._leases.lose_all()
            urgent.stop()
            self._switcher.stop()
            publisher.stop()
            maintenance.stop()
            with suppress(Unavailable):  # else it is listed, and waited for, for another half a lease
                self._ledger.leave(self._current.info.id)
            self._tell(Ended(worker=self._current.info))

    def _maintenance(self, app: Celery) -> WorkerMaintenance:
        return WorkerMaintenance(
            ledger=self._ledger,
            leases=self._leases,
            current=self._current,
            switcher=self._switcher,
            files=self._files,
            announcer=FileAnnouncer(
                self._redis,
                current=self._current,
                own=self._own_files,
                fetched=self._files,
                observe=self._tell,
            ),
            model_janitor=ModelJanitor(
                app,
                ledger=self._ledger,
                current=self._current,
                switcher=self._switcher,
                observe=self._tell,
            ),
            store_janitor=StoreJanitor(self._redis, self._store, self._settings),
            health=self._health,
            reporter=self._reporter,
            log=self._log,
            observe=self._tell,
        )

    def _urgent_claims(self, slots: int) -> UrgentClaims:
        return UrgentClaims(
            ledger=self._ledger,
            leases=self._leases,
            health=self._health,
            claim_loop=self._claim_loop,
            current=self._current,
            full=n_threads(slots),
            most=slots,
            stopping=self._stopping,
            observe=self._tell,
        )

    def _publisher(self) -> PreviewPublisher:
        return PreviewPublisher(
            previews=Previews(self._redis), leases=self._leases, seconds=self._settings.preview_seconds
        )
