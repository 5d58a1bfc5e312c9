"""What every request works with: the farm's service, whose blocking calls go to threads."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import ParamSpec, Self, TypeVar

from anyio import CapacityLimiter, to_thread

from img2img_gateway.gateway_settings import GatewaySettings
from img2img_shared.checkpoints import Checkpoint
from img2img_shared.errors import FarmError, NotFound, NoWorkers, Refused, Unavailable
from img2img_shared.farm import store_janitor
from img2img_shared.farm.patience import OUTAGE
from img2img_shared.farm.service import FarmService
from img2img_shared.farm.submission import Submission
from img2img_shared.ledger.file_names import FileKind, FileNames
from img2img_shared.ledger.inversion_names import InversionInfo, InversionNames
from img2img_shared.ledger.lora_names import LoraNames
from img2img_shared.params import Params
from img2img_shared.pushed_models.pushed_model import ModelKind
from img2img_shared.records import WorkerStatus

log = logging.getLogger(__name__)

#: calls of the ledger or the store at a time
THREADS = 40
#: seconds between two looks at an embedded farm's processes
SUPERVISE_EVERY = 1.0
#: seconds for which a caller waits that jobs are cancelled
CANCEL_SOON = 1.0

P = ParamSpec("P")
T = TypeVar("T")


class AsyncFarm:
    """One farm, as the gateway's requests share it. Made in the event loop that they run in.

    Raises:
        Refused, Unavailable: as `FarmService`.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.service = service = FarmService(settings)
        self.redis_url, self.redis = service.redis_url, service.redis
        self.ledger, self.store, self.previews = service.ledger, service.store, service.previews
        self._lora_names = LoraNames(self.redis)
        self._inversion_names = InversionNames(self.redis)
        self._file_names = FileNames(self.redis)
        #: models whose embedded workers are looked after
        self._serving: set[str] = set()
        #: why an embedded worker does not start, by model
        self._trouble: dict[str, Unavailable] = {}
        self._limiter = CapacityLimiter(THREADS)
        self._cancelling: set[asyncio.Task[None]] = set()

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a blocking `function` gives, from a thread that is free for others right after."""
        return await to_thread.run_sync(partial(function, *args, **kwargs), limiter=self._limiter)

    async def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that are served, and those an embedded farm could start a worker for."""
        return await self.call(self.service.checkpoints)

    async def checkpoint(self, wanted: str | None) -> Checkpoint | None:
        """The one that is meant; None: the default one, if there is one."""
        if wanted is None:
            try:
                wanted = await self.call(self.service.default_model, now=True)
            except (Refused, NoWorkers):
                return None
        return await self.call(self.service.find_checkpoint, wanted)

    async def served_checkpoint(self, model: str) -> Checkpoint:
        """What is served as `model`; an embedded farm's worker is started, and waited for.

        Raises:
            Unavailable: it does not start, or its last worker has just gone.
        """
        if self.service.is_embedded:
            await self.call(self.service.serve, model)
            while not await self.call(self.service.supervise, model):
                await asyncio.sleep(0.1)
        for each in await self.checkpoints():
            if each.model == model:
                return each
        raise Unavailable(f"no worker serves {model!r} any more")

    async def workers(self) -> list[WorkerStatus]:
        """The workers that live."""
        return await self.call(self.service.workers)

    async def loras(self, model: str | None = None) -> dict[str, str] | None:
        """The LoRAs that workers have (of a model, or all), by name, and the names that trainers gave them.

        None: no worker has said.
        """
        return await self.call(self._lora_names.of, await self._workers_of(model))

    async def files(self, kind: FileKind, model: str | None = None) -> list[str] | None:
        """The names of files of a kind that workers have (of a model, or all); None: no worker has said."""
        return await self.call(self._file_names.of, await self._workers_of(model), kind)

    async def inversions(self, model: str | None = None) -> dict[str, InversionInfo]:
        """The textual inversions that workers have, by name, and those that they have no use for.

        Args:
            model: of those that have it on their device.
        """
        workers = [worker.info for worker in await self.workers()]
        held = [info.id for info in workers if model is None or info.model == model]
        return await self.call(self._inversion_names.of, held)

    async def listed_files(self, kind: FileKind) -> list[str]:
        """What lists of a kind hold: what workers have, and what any that came to live could fetch."""
        return [*dict.fromkeys([*(await self.files(kind) or []), *await self.pushed_names(kind)])]

    async def pushed_names(self, kind: ModelKind | FileKind) -> list[str]:
        """What lists call the files of a kind in the store."""
        found = await self.call(self.service.model_index.all)
        return [name for each in found.values() if each.kind == kind for name in each.listed_as]

    async def pushed(self, kind: ModelKind, wanted: Iterable[str]) -> set[str]:
        """Those of the names and hashes `wanted` by which files of a kind in the store are meant."""
        return {each for each in wanted if await self.call(self.service.model_index.find, kind, each)}

    async def _workers_of(self, model: str | None) -> list[str]:
        workers = [worker.info for worker in await self.workers()]
        return [info.id for info in workers if model is None or model in info.models]

    async def model(self, wanted: str | None, *, now: bool) -> str:
        """The model that a job means; None: see `FarmService.default_model`.

        Args:
            now: somebody waits for it, so that it must be served already.

        Raises:
            Refused: nobody serves it, or several are served and none is named.
            NoWorkers: nobody serves anything, and somebody waits.
        """
        if wanted is None:
            return await self.call(self.service.default_model, now=now)
        checkpoint = await self.checkpoint(wanted)
        if checkpoint is not None:
            return checkpoint.model
        if not now and not self.service.is_embedded:
            return wanted  # its workers may come later
        known = ", ".join(each.model for each in await self.checkpoints())
        if not known:
            raise NoWorkers
        raise Refused("model", wanted, f"give one that is served: {known}")

    async def begin(
        self,
        tenant: str,
        model: str | None,
        params: Params,
        *,
        name: str | None = None,
        owner: str | None = None,
        tags: Collection[str] = (),
        keep: str | None = None,
        priority: int = 0,
        idempotency_key: str | None = None,
        webhook: str | None = None,
        sets_tags_aside: bool = False,
        draws_seeds: bool = True,
    ) -> Submission:
        """As `FarmService.begin`; an embedded worker is looked after from now on.

        Raises:
            Refused: also where an embedded farm has no such model.
        """
        if model is not None:
            await self.model(model, now=False)
        submission = await self.call(
            self.service.begin,
            tenant=tenant,
            model=model,
            params=params,
            name=name,
            owner=owner,
            tags=tags,
            keep=keep,
            priority=priority,
            idempotency_key=idempotency_key,
            webhook=webhook,
            sets_tags_aside=sets_tags_aside,
            draws_seeds=draws_seeds,
        )
        self._trouble.pop(submission.job.model, None)
        self._serving.add(submission.job.model)
        return submission

    async def cancel(self, tenant: str, jobs: Iterable[str]) -> None:
        """End jobs for which nobody waits any more; while Redis is away, as soon as it answers."""
        task = asyncio.create_task(self._cancel(tenant, tuple(jobs)))
        self._cancelling.add(task)  # nothing else keeps it
        task.add_done_callback(self._cancelling.discard)
        await asyncio.wait([task], timeout=CANCEL_SOON)

    async def _cancel(self, tenant: str, jobs: Iterable[str]) -> None:
        for job in jobs:
            end = time.monotonic() + OUTAGE
            while time.monotonic() < end:
                try:
                    with suppress(NotFound):  # it was not written after all
                        await self.call(self.ledger.cancel, job, tenant)
                    break
                except Unavailable:
                    await asyncio.sleep(1.0)

    def check(self, model: str) -> None:
        """That an embedded worker for `model` has not failed to start.

        Raises:
            Unavailable: it has; with the last lines of its log.
        """
        if model in self._trouble:
            raise self._trouble[model]

    async def notify_workers(self, model: str) -> None:
        """Tickets for images that wait."""
        await self.call(self.service.notify_workers, model)

    async def supervise(self) -> None:
        """Look after an embedded farm's processes, for as long as the gateway runs."""
        while self.service.is_embedded:
            for model in list(self._serving):
                try:
                    await self.call(self.service.supervise, model)
                except Unavailable as error:
                    log.warning("%s", error)
                    self._trouble[model] = error
                    self._serving.discard(model)
            await asyncio.sleep(SUPERVISE_EVERY)

    async def tidy(self) -> None:
        """Take part in removing from the store what nobody needs, for as long as the gateway runs."""
        while True:
            try:
                await self.call(self.service.janitor.round)
            except FarmError as error:
                log.warning("cannot remove what nobody needs from the store for now: %s", error)
            await asyncio.sleep(store_janitor.EVERY)

    def close(self) -> None:
        """Let go of the farm; an embedded one's processes end unless others use them."""
        self.service.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
