"""The farm's service for asyncio: its blocking calls run in threads."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
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
from img2img_shared.ledger.lora_names import EVERY, LoraNames
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
    """The farm that the gateway's requests share. Create it in the event loop they run in.

    Raises:
        Refused, Unavailable: like `FarmService`.
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
        """The result of a blocking `function`, run in a thread."""
        return await to_thread.run_sync(partial(function, *args, **kwargs), limiter=self._limiter)

    async def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that are served, or could be by an embedded farm."""
        return await self.call(self.service.checkpoints)

    async def checkpoint(self, wanted: str | None) -> Checkpoint | None:
        """The checkpoint that is meant; None: the default one, if there is one."""
        if wanted is None:
            try:
                wanted = await self.call(self.service.default_model, now=True)
            except (Refused, NoWorkers):
                return None
        return await self.call(self.service.find_checkpoint, wanted)

    async def served_checkpoint(self, model: str) -> Checkpoint:
        """The checkpoint that is served as `model`; an embedded farm's worker is started, and waited for.

        Raises:
            Unavailable: it does not start, or its last worker has just ended.
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
        """All live workers."""
        return await self.call(self.service.workers)

    async def loras(self) -> dict[str, str] | None:
        """The LoRAs of all workers: their names, and the names that trainers gave them.

        None: no worker has announced any.
        """
        return await self.call(self._lora_names.of, await self._workers_of(None))

    async def files(self, kind: FileKind) -> list[str] | None:
        """The files of a kind that workers have; None: none has announced any."""
        return await self.call(self._file_names.of, await self._workers_of(None), kind)

    async def loras_of(self, model: str) -> Collection[str] | None:
        """The names of the LoRAs that a model's workers have; see `files_of`."""
        return await self._said(model, self._lora_names.of_each)

    async def files_of(self, kind: FileKind, model: str) -> Collection[str] | None:
        """The files of a kind that a model's workers have; None: one of them has not said.

        An embedded farm's worker is started, and waited for: else its first request were read differently.

        Raises:
            Unavailable: it does not start.
        """
        return await self._said(model, lambda workers: self._file_names.of_each(workers, kind))

    async def _said(
        self, model: str, ask: Callable[[Collection[str]], Sequence[Collection[str] | None]]
    ) -> Collection[str] | None:
        """What all workers of a model have together; None: one of them has not said."""
        patience = 0.0
        if self.service.is_embedded:
            await self.served_checkpoint(model)
            patience = 2 * EVERY  # it lives a little before it has looked into its folders
        end = time.monotonic() + patience
        while True:
            said = await self.call(ask, await self._workers_of(model))
            if said and None not in said:
                return dict.fromkeys(name for each in said for name in each or ())
            if time.monotonic() >= end:
                return None
            await asyncio.sleep(0.1)

    async def inversions(self, model: str | None = None) -> dict[str, InversionInfo]:
        """The textual inversions that workers have, by name, including those that they cannot use.

        Args:
            model: only workers that have it on their device.
        """
        workers = [worker.info for worker in await self.workers()]
        held = [info.id for info in workers if model is None or info.model == model]
        return await self.call(self._inversion_names.of, held)

    async def listed_files(self, kind: FileKind) -> list[str]:
        """The files in lists of a kind: those that workers have, and those that any worker could fetch."""
        return [*dict.fromkeys([*(await self.files(kind) or []), *await self.pushed_names(kind)])]

    async def pushed_names(self, kind: ModelKind | FileKind) -> list[str]:
        """The names in lists of the store's files of a kind."""
        found = await self.call(self.service.model_index.all)
        return [name for each in found.values() if each.kind == kind for name in each.listed_as]

    async def pushed(self, kind: ModelKind, wanted: Iterable[str]) -> set[str]:
        """Those of the names and hashes in `wanted` that mean a file of this kind in the store."""
        return {each for each in wanted if await self.call(self.service.model_index.find, kind, each)}

    async def _workers_of(self, model: str | None) -> list[str]:
        workers = [worker.info for worker in await self.workers()]
        return [info.id for info in workers if model is None or model in info.models]

    async def model(self, wanted: str | None, *, now: bool) -> str:
        """The model that a job means; None: see `FarmService.default_model`.

        Args:
            now: the caller waits for it, so that it must be served already.

        Raises:
            Refused: nobody serves it, or several are served and none is named.
            NoWorkers: `now`, and no worker serves any model.
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
        """Like `FarmService.begin`; from now on an embedded worker is supervised.

        Raises:
            Refused: also if an embedded farm has no such model.
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
        """End jobs that nobody waits for any more; if Redis is away, as soon as it answers."""
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
        """Check that an embedded worker for `model` has not failed to start.

        Raises:
            Unavailable: it has; with the last lines of its log.
        """
        if model in self._trouble:
            raise self._trouble[model]

    async def notify_workers(self, model: str) -> None:
        """Queue tickets for waiting images."""
        await self.call(self.service.notify_workers, model)

    async def supervise(self) -> None:
        """Supervise an embedded farm's processes, for as long as the gateway runs."""
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
        """Take part in cleaning the store, for as long as the gateway runs."""
        while True:
            try:
                await self.call(self.service.janitor.round)
            except FarmError as error:
                log.warning("cannot remove what nobody needs from the store for now: %s", error)
            await asyncio.sleep(store_janitor.EVERY)

    def close(self) -> None:
        """Disconnect from the farm; an embedded one's processes end unless others use them."""
        self.service.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
