"""What every request works with: ledger, store and tickets, whose blocking calls go to threads."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

import redis
from anyio import CapacityLimiter, to_thread

from img2img_gateway.gateway_settings import GatewaySettings
from img2img_producer.client import DEFAULT_MODEL
from img2img_producer.embedded.farm import EmbeddedFarm
from img2img_shared.connect import connect
from img2img_shared.errors import Refused, Unavailable
from img2img_shared.keys import farm_key
from img2img_shared.ledger import Ledger
from img2img_shared.lora_names import LoraNames
from img2img_shared.previews import Previews
from img2img_shared.queue import celery_app, top_up
from img2img_shared.records import WorkerStatus
from img2img_shared.store import Store

log = logging.getLogger(__name__)

#: calls of the ledger or the store at a time
THREADS = 40
#: seconds between two looks at an embedded farm's processes
SUPERVISE_EVERY = 1.0

P = ParamSpec("P")
T = TypeVar("T")


class FarmService:
    """One farm, as the gateway's requests share it. Made in the event loop that they run in.

    Raises:
        Refused, Unavailable: as `Farm`.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self._embedded: EmbeddedFarm | None = None
        #: why an embedded worker does not start, by model
        self._trouble: dict[str, Unavailable] = {}
        self._serving: set[str] = set()
        with ExitStack() as closing:
            redis_url, store_url = self._urls(closing)
            self.redis_url = redis_url
            self.store = Store(store_url)
            self.redis: redis.Redis = closing.enter_context(connect(redis_url))
            self.tickets = closing.enter_context(celery_app(redis_url, settings.prefix))
            self.ledger = Ledger(
                self.redis, prefix=settings.prefix, lease=settings.lease, keep_jobs=settings.keep_jobs
            )
            self.previews = Previews(self.redis, prefix=settings.prefix)
            self._lora_names = LoraNames(self.redis, prefix=settings.prefix)
            self._closing = closing.pop_all()
        self._limiter = CapacityLimiter(THREADS)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a blocking `function` gives, from a thread that is free for others right after."""
        return await to_thread.run_sync(partial(function, *args, **kwargs), limiter=self._limiter)

    def key(self, *parts: str) -> str:
        """A Redis key of the gateway's own, under the farm's prefix."""
        return ":".join((farm_key(self.settings.prefix), "gateway", *parts))

    async def models(self) -> list[str]:
        """The checkpoints that are served, and those an embedded farm could start a worker for."""
        served = {worker.info.model for worker in await self.workers()}
        if self._embedded is not None:
            served |= {DEFAULT_MODEL, *await self.call(_models_in, self.settings)}
        return sorted(served)

    async def workers(self) -> list[WorkerStatus]:
        """The workers that live."""
        return await self.call(self.ledger.workers)

    async def loras(self) -> list[str]:
        """The names of the LoRAs that any of them has."""
        ids = [worker.info.id for worker in await self.workers()]
        return await self.call(self._lora_names.of, ids)

    async def model(self, wanted: str | None, *, now: bool) -> str:
        """The model that a job means; None: the one that is served, else "demo".

        Args:
            now: somebody waits for it, so that it must be served already.

        Raises:
            Refused: nobody serves it, or several are served and none is named.
        """
        if wanted is not None and not now and self._embedded is None:
            return wanted  # its workers may come later
        known = await self.models()
        if wanted is not None:
            if wanted in known:
                return wanted
            raise Refused("model", wanted, f"one that is served: {', '.join(known) or 'none is, for now'}")
        served = sorted({worker.info.model for worker in await self.workers()})
        if len(served) == 1:
            return served[0]
        if DEFAULT_MODEL in known or not (known or now):
            return DEFAULT_MODEL
        names = ", ".join(known) or "none is, for now"
        raise Refused("model", None, f"one of those that are served: {names}")

    async def serve(self, model: str) -> None:
        """On an embedded farm, have a worker for `model`; it is looked after from now on.

        Raises:
            Unavailable: it cannot run here.
        """
        if self._embedded is not None:
            self._trouble.pop(model, None)
            await self.call(self._embedded.serve, model)
            self._serving.add(model)

    def check(self, model: str) -> None:
        """That an embedded worker for `model` has not failed to start.

        Raises:
            Unavailable: it has; with the last lines of its log.
        """
        if model in self._trouble:
            raise self._trouble[model]

    async def notify_workers(self, model: str) -> None:
        """Tickets for images that wait; if Redis is away, the workers' janitor brings them."""
        with suppress(Unavailable):
            await self.call(top_up, self.tickets, self.ledger, model)

    async def supervise(self) -> None:
        """Look after an embedded farm's processes, for as long as the gateway runs."""
        while self._embedded is not None:
            for model in list(self._serving):
                try:
                    await self.call(self._embedded.supervise, model, partial(self._is_served, model))
                except Unavailable as error:
                    log.warning("%s", error)
                    self._trouble[model] = error
                    self._serving.discard(model)
            await asyncio.sleep(SUPERVISE_EVERY)

    def close(self) -> None:
        """Let go of the farm; an embedded one's processes end unless others use them."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_served(self, model: str) -> bool:
        return any(worker.info.model == model for worker in self.ledger.workers())

    def _urls(self, closing: ExitStack) -> tuple[str, str]:
        if self.settings.redis_url is None:
            self._embedded = closing.enter_context(EmbeddedFarm(self.settings))
            return self._embedded.redis_url, self._embedded.store_url
        if self.settings.store_url is None:
            wanted = "the store that the workers of this Redis use (IMG2IMG_STORE_URL)"
            raise Refused("store_url", None, wanted)
        return self.settings.redis_url, self.settings.store_url


def _models_in(settings: GatewaySettings) -> list[str]:
    """What a worker of this machine could serve by name."""
    folder = settings.models_dir
    if folder is None or not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return [path.stem if path.is_file() else path.name for path in found if _is_checkpoint(path)]


def _is_checkpoint(path: Path) -> bool:
    return (path / "model_index.json").is_file() or path.suffix == ".safetensors"
