"""The farm as other programs use it: submit pictures, watch, take the results."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from img2img_producer.backends.backend import Backend, JobOptions
from img2img_producer.backends.direct import DirectBackend
from img2img_producer.farm_models import FarmModels
from img2img_producer.inputs import Picture, Source, as_picture
from img2img_producer.parameters import merge_params
from img2img_producer.results import TICK, Result, Results
from img2img_shared.durations import read_duration
from img2img_shared.errors import Refused
from img2img_shared.farm.job_filter import JobFilter
from img2img_shared.farm.orphans import Orphan
from img2img_shared.farm.patience import patiently
from img2img_shared.farm.service import FarmService
from img2img_shared.farm.storage import TenantStorage
from img2img_shared.farm.store_janitor import Cleaned
from img2img_shared.job import Job, JobState
from img2img_shared.ledger.audit import AuditLine
from img2img_shared.params import Params
from img2img_shared.records import ImageStatus, JobStatus, WorkerOrder, WorkerStatus
from img2img_shared.settings import Settings

#: seconds after which somebody who submits would rather know that Redis is away
SUBMIT = 25.0
#: seconds, at least, between two statuses of a watch
INTERVAL = 0.2
#: seconds without any news, after which a watch looks what the job waits for
QUIET = 5.0


class Farm:
    """A farm: by the URL of its gateway, by those of its Redis and its store, or one of your own in a folder.

    >>> with Farm() as farm:  # doctest: +SKIP
    ...     job = farm.submit(["portrait.jpg"], prompt="an oil painting", denoising_strength=0.4)
    ...     for result in farm.results(job):
    ...         result.save("out")
    >>> Farm("https://farm.example", key="i2i_...")  # doctest: +SKIP
    >>> Farm("redis://farm:6379/0", "s3://renders")  # doctest: +SKIP

    What is not given comes from the ``IMG2IMG_…`` variables. With no farm named there either, a Redis is
    started under ``IMG2IMG_DATA_DIR`` (or joined, where another program of yours runs it), and so is a
    worker for each model that a job asks for. A `Farm` may be shared between threads; in asyncio, use
    `AsyncFarm`.

    Args:
        redis_url: redis://, rediss://, unix:// or sentinel://; or, in its place, https:// of a gateway.
        store_url: with a Redis: a folder that all machines share, or s3://, gs://, az://.
        tenant: with a Redis: whose jobs are submitted and seen. A gateway goes by the key.
        key: with a gateway: its API key.

    Raises:
        Refused: a URL that is none, a Redis without a store, or a gateway with one.
        Unavailable: Redis does not answer, or cannot be started.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        store_url: str | Path | None = None,
        tenant: str | None = None,
        settings: Settings | None = None,
        *,
        key: str | None = None,
    ) -> None:
        is_gateway = redis_url is not None and redis_url.startswith(("http://", "https://"))
        given = {
            "farm_url" if is_gateway else "redis_url": redis_url,
            "store_url": store_url and str(store_url),
            "tenant": tenant,
            "key": key,
        }
        self.settings = (settings or Settings()).model_copy(
            update={name: value for name, value in given.items() if value}
        )
        if redis_url and not is_gateway:
            self.settings = self.settings.model_copy(update={"farm_url": None})
        elif is_gateway and store_url:
            raise Refused("store_url", str(store_url), f"leave it out: {redis_url} has a store of its own")
        self.tenant = self.settings.tenant
        self._backend = _reach(self.settings)

    @property
    def redis_url(self) -> str:
        """Of its Redis, as whoever connects to it needs it."""
        return self._service.redis_url

    @property
    def store_url(self) -> str:
        """Of its store."""
        return self._service.store_url

    @property
    def is_embedded(self) -> bool:
        """Whether it lives in a folder of this machine and ends with the programs that use it."""
        return self._backend.is_embedded

    @property
    def where(self) -> str:
        """Which farm it is, for people: its folder, its URL without a password, the tenant."""
        return self._backend.where

    @property
    def models(self) -> FarmModels:
        """The models in its store, which workers fetch for jobs that name them."""
        return FarmModels(self._backend.models)

    def submit(
        self,
        /,
        inputs: Iterable[Picture | Source | tuple[Source, Source] | Mapping[str, Any]] | Picture | Source,
        *,
        model: str | None = None,
        params: Params | Mapping[str, Any] | None = None,
        mask: Source | None = None,
        pictures: Mapping[str, Source] | None = None,
        name: str | None = None,
        tags: Collection[str] = (),
        keep: str | float | None = None,
        priority: int = 0,
        idempotency_key: str | None = None,
        progress: Callable[[int], None] | None = None,
        **parameters: Any,
    ) -> str:
        """Write a job and return its id; workers begin with it at once, whether or not you wait for it.

        >>> farm.submit("cat.png", denoising_strength=0.4)  # doctest: +SKIP
        >>> farm.submit([("room.png", "wall.png")], inpainting_fill=1, model="sd-1.5")  # doctest: +SKIP
        >>> farm.submit([{"image": data, "prompt": "rain", "seed": 7}], images_per_input=4)  # doctest: +SKIP

        Args:
            inputs: pictures, each rendered on its own: paths, encoded bytes, (image, mask) pairs, `Picture`s
                or dicts of its fields. Read as it goes: a generator over 100,000 files is fine.
            model: the checkpoint, by the name its workers serve it under; None: see `default_model`.
            params: parameters as `Params` or a dict; named ones win over them.
            mask: for all inputs that bring none.
            pictures: by their roles, as a `Picture` has them, for all inputs that bring none.
            name: for people, to find the job by; several may share one.
            tags: the same, as words: "summer", "client=acme".
            keep: how long its results, and what it was made from, stay after its end: "30d", "12h",
                "forever", or seconds; None: as ``IMG2IMG_KEEP`` says.
            priority: -100..100, higher goes first.
            idempotency_key: a repeat with the same key returns the first job's id and does nothing else;
                so ask again with it after an `Unavailable`.
            progress: told how many inputs are stored.

        Raises:
            Refused: a parameter or an input is not allowed; nothing was submitted.
            Conflict: the idempotency key has made a job from another request.
            StoreError: the store does not take the inputs; nothing was submitted.
            Unavailable: Redis does not answer, or takes no writes, for half a minute: whether the job was
                written is not known.
        """
        merged = merge_params(params, parameters)
        if isinstance(inputs, Picture | str | Path | bytes | Mapping):
            inputs = [inputs]
        wanted = JobOptions(
            model=model,
            params=merged,
            name=name,
            tags=tuple(tags),
            keep=keep,
            priority=priority,
            idempotency_key=idempotency_key,
        )
        return self._backend.submit(
            (as_picture(item, index) for index, item in enumerate(inputs)),
            {**({} if mask is None else {"mask": mask}), **(pictures or {})},
            wanted,
            progress,
        )

    def status(self, job_id: str) -> JobStatus:
        """Counts, rate (images a second), seconds to go, times of a job; and what it waits for, if it does.

        Raises:
            NotFound: there is no such job.
        """
        return self._backend.status(job_id)

    def watch(self, job_id: str) -> Iterator[JobStatus]:
        """The job's status now, after each change (five times a second at most), and now and then besides.

        It ends with the job.

        >>> for status in farm.watch(job):  # doctest: +SKIP
        ...     print(f"{status.done} of {status.n}, {status.eta} s to go")

        Raises:
            NotFound: there is no such job.
            Unavailable: Redis stays away, or the embedded farm's worker does not start.
        """
        with self._backend.feed(job_id) as feed:
            status = self._backend.watched(job_id)
            if status.finished is None:
                self._backend.serve(status.model)
            while True:
                yield status
                if status.finished is not None:
                    return
                time.sleep(INTERVAL)
                quiet_since = time.monotonic()
                quiet = TICK if status.running else QUIET  # running images have steps
                while not feed.all(TICK) and time.monotonic() - quiet_since < quiet:
                    self._backend.supervise(status.model)
                self._backend.supervise(status.model)
                status = patiently(lambda: self._backend.watched(job_id))

    def results(
        self, job_id: str, *, wait: bool = True, progress: Callable[[JobStatus], None] | None = None
    ) -> Iterator[Result]:
        """Each image of a job as it ends, in the order in which they do; failed ones carry their reason.

        Args:
            wait: go on until the job has ended; else give what has ended by now.
            progress: told the job's status about once a second.

        Raises:
            NotFound: there is no such job.
            Unavailable: Redis stays away, or the embedded farm's worker does not start.
        """
        job = self._backend.job(job_id)
        results = Results(self._backend, job)
        if not wait:
            yield from results.now()
            return
        if self.status(job_id).finished is None:
            self._backend.serve(job.model)
        told = 0.0

        def tick() -> None:
            nonlocal told
            self._backend.supervise(job.model)
            if progress is not None and time.monotonic() - told >= INTERVAL:
                progress(patiently(lambda: self._backend.watched(job_id)))
                told = time.monotonic()

        yield from results.follow(tick)
        if progress is not None:
            progress(self.status(job_id))

    def images(self, job_id: str) -> Iterator[ImageStatus]:
        """The state of every image of a job, by index, with its input's name and path.

        Raises:
            NotFound: there is no such job.
        """
        return self._backend.named_images(self.job(job_id))

    def preview(self, job_id: str, index: int = 0) -> bytes | None:
        """What an image under way looks like: a small JPEG, an eighth of the picture's size each way.

        None where there is none: before the workers have heard that you look (ask again within ten
        seconds), where they make none (``IMG2IMG_PREVIEW_SECONDS=0``), or a while after the image's end.

        Raises:
            NotFound: there is no such job.
        """
        return self._backend.preview(job_id, index)

    def job(self, job_id: str) -> Job:
        """The job as it was written: its parameters, with the seeds that were drawn.

        Raises:
            NotFound: there is no such job.
        """
        return self._backend.job(job_id)

    def cancel(self, job_id: str) -> int:
        """End a job, between two steps of its running images; how many are thereby not rendered."""
        return self._backend.cancel(job_id)

    def pause(self, job_id: str) -> bool:
        """Begin no further image of a job until `resume`; whether that changed anything."""
        return self._backend.pause(job_id)

    def resume(self, job_id: str) -> bool:
        """Go on with a paused job; whether that changed anything."""
        return self._backend.resume(job_id)

    def retry(self, job_id: str) -> int:
        """Give the failed images of a job another chance; how many these are."""
        return self._backend.retry(job_id)

    def set_priority(self, job_id: str, priority: int) -> bool:
        """Let a job go before those of lower priority (-100..100); whether that changed anything."""
        return self._backend.set_priority(job_id, priority)

    def set_keep(self, job_id: str, keep: str | float | None) -> None:
        """Change how long a job's results stay after its end: "30d", "12h", seconds, "forever"."""
        self._backend.set_keep(job_id, read_duration(keep))

    def jobs(
        self,
        limit: int = 100,
        *,
        search: str | None = None,
        states: Collection[JobState] = (),
        model: str | None = None,
        owner: str | None = None,
        tags: Collection[str] = (),
    ) -> list[JobStatus]:
        """Your jobs, newest first.

        Args:
            limit: so many at most.
            search: in their names or ids, in any case.
            states: those in one of these; none: in any.
            model: those of this one.
            owner: those that this one submitted.
            tags: those that have all of these.
        """
        wanted = JobFilter(search=search, states=tuple(states), model=model, owner=owner, tags=tuple(tags))
        return list(islice(self._backend.find(wanted), limit))

    def remove(self, job_id: str) -> int:
        """Forget a job that has ended, with its results; how many objects of the store these were.

        Raises:
            NotFound: there is no such job.
            Refused: the job has not ended: cancel it first.
        """
        return self._backend.remove(job_id)

    def clean(
        self,
        *,
        uploads: str | float | None = None,
        orphans: str | float | None = None,
        dry_run: bool = False,
    ) -> Cleaned:
        """Remove from the store what nobody needs, now rather than when the farm's janitor comes to it.

        Args:
            uploads: how long pictures stay that no job names; None: as ``IMG2IMG_KEEP_UPLOADS`` says.
            orphans: how long jobs stay listed that only the store knows; None: as ``IMG2IMG_KEEP_ORPHANS``.
            dry_run: say only what would be removed.

        Raises:
            Refused: another process is doing it.
        """
        given = {"uploads": uploads, "orphans": orphans}
        kept = {name: read_duration(value, name) for name, value in given.items() if value is not None}
        return self._backend.operator.clean(kept, dry_run=dry_run)

    def storage(self) -> list[TenantStorage]:
        """What each tenant has in the store, the largest first; to a key of the role submit, its own."""
        return self._backend.operator.storage()

    def audit(self, subject: str | None = None) -> Iterator[AuditLine]:
        """Who did what to jobs and keys of all tenants, and to workers, newest first.

        Through a gateway these are the last thousand, with a key of the role submit those of its tenant.

        Args:
            subject: to this job, worker or key alone, by its id.
        """
        return self._backend.operator.audit(subject)

    def orphans(self) -> Iterator[Orphan]:
        """What the store keeps of jobs, of any tenant, that were forgotten, or lost with their ledger."""
        return self._backend.operator.orphans()

    def workers(self) -> list[WorkerStatus]:
        """The workers that live, whatever they serve."""
        return self._backend.workers()

    def order(self, worker: str, order: WorkerOrder | None) -> list[str]:
        """Have a worker do something, from its next beat on, some seconds from now; None: as by itself again.

        Args:
            worker: its id, or the name of its host, which means all workers there.

        Raises:
            NotFound: none of them lives.
        """
        return self._backend.operator.order(worker, order)

    def default_model(self) -> str:
        """The model of a job that names none, as `FarmService.default_model`.

        Raises:
            Refused: several are served, and "demo" is none of them.
        """
        return self._service.default_model()

    def serve_by_default(self, model: str) -> bool:
        """On an embedded farm, have a worker for `model`, which for ten seconds is the `default_model`.

        Returns:
            whether the worker is ready.

        Raises:
            Unavailable: it does not start; the message ends with its log's last lines.
        """
        name = self._service.name_of(model)
        self._service.serve_by_default(name)
        return self._service.supervise(name)

    def serve(self, model: str) -> None:
        """On an embedded farm, have a worker for `model` and wait until it is ready.

        Raises:
            Unavailable: it does not start; the message ends with its log's last lines.
        """
        name = self._service.name_of(model)
        self._service.serve(name)
        while not self._service.supervise(name):
            time.sleep(INTERVAL)

    def close(self) -> None:
        """Let go of the farm. An embedded one's processes stop, unless another program uses them."""
        self._backend.close()

    def __enter__(self) -> "Farm":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _service(self) -> FarmService:
        """What only its operator has: Redis and the store."""
        if isinstance(self._backend, DirectBackend):
            return self._backend.service
        raise Refused(
            "farm_url", self.where, "name the farm's Redis and store for that; a gateway does not do it"
        )


def _reach(settings: Settings) -> Backend:
    if settings.farm_url is None:
        return DirectBackend(FarmService(settings, outage=SUBMIT), settings)
    # not before somebody needs HTTP: importing it takes as long as the rest
    from img2img_producer.backends.gateway_client import GatewayClient
    from img2img_producer.backends.through_gateway import GatewayBackend

    return GatewayBackend(GatewayClient(settings.farm_url, settings.key))
