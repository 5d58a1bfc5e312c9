"""A worker process: one checkpoint, loaded once, and Celery's threads that claim images for it."""

import logging
import os
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import torch
from celery import Celery, signals
from celery.exceptions import SecurityWarning
from prometheus_client import REGISTRY

from img2img_shared.checkpoints import (
    PICKLES,
    SAFE,
    Checkpoint,
    checkpoints_in,
    identity,
    is_checkpoint,
    sha256_of,
)
from img2img_shared.errors import Unavailable
from img2img_shared.farm.input_janitor import InputJanitor
from img2img_shared.farm.marker import StoreMarker
from img2img_shared.ledger import Ledger, connect
from img2img_shared.ledger.file_names import FileNames
from img2img_shared.ledger.inversion_names import InversionNames
from img2img_shared.ledger.keys import queue_name
from img2img_shared.ledger.lora_names import LoraNames
from img2img_shared.ledger.previews import Previews
from img2img_shared.ledger.submissions import Submissions
from img2img_shared.metrics import shown, time_ledger
from img2img_shared.queue import TICKET, celery_app
from img2img_shared.records import WorkerInfo
from img2img_shared.settings import Settings
from img2img_shared.store import Store
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.measure import find_slots
from img2img_worker.farm import memory
from img2img_worker.farm.checks import StoreCheck, sample_render
from img2img_worker.farm.claim_loop import ClaimLoop
from img2img_worker.farm.consumer import TicketWorker
from img2img_worker.farm.events import Ended, Loaded, Observer, OutOfMemory, tell_all
from img2img_worker.farm.health import Check, Health
from img2img_worker.farm.leases import Leases
from img2img_worker.farm.log_observer import LogObserver
from img2img_worker.farm.maintenance import WorkerMaintenance
from img2img_worker.farm.metrics_observer import EngineCollector, MetricsObserver
from img2img_worker.farm.preview_publisher import PreviewPublisher
from img2img_worker.farm.recipe import Served
from img2img_worker.farm.reporter import Reporter
from img2img_worker.farm.shutdown import Shutdown
from img2img_worker.models.checkpoints import catalog
from img2img_worker.models.checkpoints.loading import load, load_other
from img2img_worker.models.checkpoints.vae_files import VaeFiles
from img2img_worker.models.control.annotators import Annotators
from img2img_worker.models.families.family import Family
from img2img_worker.models.upscalers.upscalers import Upscalers
from img2img_worker.pictures.decode import Decoder

log = logging.getLogger(__name__)

T = TypeVar("T")

#: seconds a ticket goes on claiming before it returns to Celery, which makes hand-over cheap
TICKET_SECONDS = 5.0
#: seconds between two tries to reach Redis at start
PATIENCE = 2.0


def run(model: str, redis_url: str, store_url: str, settings: Settings, *, rebind: bool = False) -> int:
    """Serve `model` until SIGTERM or SIGINT, which puts images in hand back; a second one ends at once.

    Args:
        rebind: from now on the farm knows this checkpoint by the name, whichever it knew before.

    Returns:
        the process' exit status.

    Raises:
        Refused: the model is no checkpoint, or not the farm's of that name, or a URL is none.
    """
    begun = time.monotonic()
    stopping = threading.Event()
    store = Store(store_url)
    # first: a wrong URL is said before minutes of loading
    redis = _when_redis_answers(partial(connect, redis_url, settings.prefix))
    ledger = Ledger(redis, lease=settings.lease)
    path = catalog.find_model(model, settings.models_dir)
    if not rebind:
        _check_name(ledger, model, path, settings)
    family = load(model, settings)
    sha256 = sha256_of(path)
    vae = family.vaes.automatic
    vae_sha256 = None if vae is None else sha256_of(vae.path)
    _when_redis_answers(partial(ledger.bind_model, model, identity(sha256, vae_sha256), rebind=rebind))
    log_observer = LogObserver()
    reporter = Reporter(family.device, begun)
    observe = tell_all(log_observer, reporter, MetricsObserver(model))
    time_ledger(redis)
    leases = Leases(ledger, observe)
    # what is not compiled by the warm-up runs as it is: no image waits minutes for a compiler
    torch.compiler.set_stance("eager_on_recompile")
    slots = settings.slots
    if slots == "auto":
        slots = find_slots(family, deterministic=settings.deterministic)
    with (
        shown(settings.metrics),
        Engine(
            family,
            slots=slots,
            deterministic=settings.deterministic,
            others=partial(load_other, settings=settings),
            most_others=settings.other_checkpoints,
            on_out_of_memory=_told_to(observe),
        ) as engine,
    ):
        REGISTRY.register(EngineCollector(model, engine, family.device))
        if settings.compile:
            log.info("compiling for pictures of %s: this takes minutes", settings.compile)
            engine.warm_up(settings.compiled_sizes).result()
        info = WorkerInfo(
            id=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}",
            model=model,
            device=str(family.device),
            slots=engine.slots,
            file_name=path.name,
            sha256=sha256,
            vae_sha256=vae_sha256,
            takes=_own_parameters(family),
            version=version("img2img-farm"),
        )
        upscalers = Upscalers(settings.models_dir, family.device)
        checkpoint = Checkpoint(model=model, file_name=path.name, sha256=sha256)
        served = Served(
            model=model,
            title=checkpoint.name,
            model_hash=checkpoint.short_hash,
            vae=family.vaes.told,
            decoder=Decoder(settings.max_pixels),
            depth=Annotators(settings.models_dir, device=family.device).depth,
            vae_factor=family.vae_factor,
            native_side=family.native_side,
            side_multiple=family.side_multiple,
            lora_hashes=family.loras.hashes,
            inversion_hashes=family.inversions.hashes,
            levels=family.levels,
            context_length=family.context_length,
            inpaints=family.inpaints,
            run_upscaler=upscalers.enlarge,
            other_title=partial(_title, models_dir=settings.models_dir),
        )
        store_check = StoreCheck(store, StoreMarker(store, ledger), info.id)
        health = Health(
            store=Check(store_check),
            rendering=Check(sample_render(engine, served)),
            stopping=stopping,
            longest=ledger.lease,
            observe=observe,
        )
        claim_loop = ClaimLoop(
            ledger=ledger,
            store=store,
            store_check=store_check,
            engine=engine,
            upscalers=upscalers,
            leases=leases,
            health=health,
            served=served,
            worker=info.id,
            stopping=stopping,
            observe=observe,
        )
        app = _app(redis_url, settings.prefix, claim_loop, threads=_threads(engine.slots))
        maintenance = WorkerMaintenance(
            app=app,
            ledger=ledger,
            leases=leases,
            worker=info,
            loras=family.loras,
            lora_names=LoraNames(redis),
            inversions=family.inversions,
            inversion_names=InversionNames(redis),
            hypernetworks=family.hypernetworks,
            vaes=family.vaes,
            controls=family.controls,
            checkpoints=partial(_other_names, settings),
            file_names=FileNames(redis),
            upscalers=upscalers,
            input_janitor=InputJanitor(Submissions(redis), store),
            health=health,
            reporter=reporter,
            log=log_observer,
            observe=observe,
        )
        previews = Previews(redis)
        publisher = PreviewPublisher(
            previews=previews, engine=engine, leases=leases, seconds=settings.preview_seconds
        )
        shutdown = Shutdown(stopping=stopping, leases=leases, ledger=ledger, worker=info, observe=observe)
        shutdown.take_over()
        health.check_all()
        maintenance.start()
        publisher.start()
        seconds = time.monotonic() - begun
        observe(Loaded(worker=info, family=family.name, memory=memory.told(family.device), seconds=seconds))
        try:
            return _celery(app, info.id, queue_name(model))
        finally:
            stopping.set()
            leases.lose_all()
            publisher.stop()
            maintenance.stop()
            with suppress(Unavailable):  # else it is listed, and waited for, for another half a lease
                ledger.leave(info.id)
            observe(Ended(worker=info))


def _told_to(observe: Observer) -> Callable[[int, int], None]:
    return lambda slots, put_back: observe(OutOfMemory(slots=slots, put_back=put_back))


def _other_names(settings: Settings) -> list[str]:
    """Checkpoints that images may name beside the one that is served."""
    known = checkpoints_in(settings.models_dir, pickles=settings.allow_pickles)
    return [*known] if settings.other_checkpoints else []


def _title(wanted: str, models_dir: Path | None) -> str:
    checkpoint = catalog.find_other(wanted, models_dir)
    return f"{checkpoint.name} [{checkpoint.short_hash}]"


def _own_parameters(family: Family) -> tuple[str, ...]:
    """Parameters that this checkpoint takes and most others refuse."""
    taken = {
        "image_cfg_scale": family.edits,
        "distilled_cfg_scale": family.distilled,
        "inpainting_mask_weight": family.inpaints,
    }
    return tuple(name for name, is_taken in taken.items() if is_taken)


def _threads(slots: int) -> int:
    """Threads carry one image each: those in the batch, and half as many being prepared or stored."""
    return slots + max(2, slots // 2)


def _check_name(ledger: Ledger, model: str, path: Path, settings: Settings) -> None:
    """That the farm knows no other checkpoint by this name; what is none, or unreadable, `load` refuses."""
    if not is_checkpoint(path, SAFE + PICKLES):
        return
    try:
        vae = VaeFiles.of(settings.models_dir, path).automatic()
        own = identity(sha256_of(path), None if vae is None else sha256_of(vae))
    except OSError:
        return
    _when_redis_answers(partial(ledger.check_model, model, own))


def _when_redis_answers(ask: Callable[[], T]) -> T:
    """What it answers, as soon as it does: machines of a farm start in any order."""
    while True:
        try:
            return ask()
        except Unavailable as error:
            log.warning("%s; trying again", error)
            threading.Event().wait(PATIENCE)


def _app(redis_url: str, prefix: str, claim_loop: ClaimLoop, threads: int) -> Celery:
    """Celery's application: one task, the ticket, in a pool of threads."""
    app = celery_app(redis_url, prefix)
    app.conf.update(
        worker_pool="threads",
        worker_concurrency=threads,
        worker_consumer="img2img_worker.farm.consumer:TicketConsumer",
        worker_redirect_stdouts=False,
    )

    @app.task(name=TICKET)  # type: ignore[untyped-decorator]  # celery ships no types
    def ticket() -> None:
        claim_loop.serve(TICKET_SECONDS)

    return app


def _celery(app: Celery, name: str, queue: str) -> int:
    """Take tickets until stopped; gives the exit status."""
    signals.setup_logging.connect(_leave_logging_alone)
    # two lines a ticket, what our own log says better, and a line a second while Redis is away
    for chatty in ("celery.worker.strategy", "celery.app.trace", "celery.apps.worker"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("celery.worker.consumer.consumer").setLevel(logging.CRITICAL)
    # root: its tickets are no code, and hold nothing that is read
    warnings.filterwarnings("ignore", category=SecurityWarning)
    worker = TicketWorker(
        app=app,
        hostname=f"img2img@{name}",
        queues=[queue],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _leave_logging_alone(**_: object) -> None:
    """A receiver of this signal keeps Celery from setting up logging of its own."""
