"""The farm as other programs use it: submit pictures, watch, take the results."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from img2img_producer.feed import Feed
from img2img_producer.inputs import Picture, Source, as_picture, read_source
from img2img_producer.parameters import merge_params
from img2img_producer.results import TICK, Result, Results
from img2img_shared.errors import Unavailable
from img2img_shared.farm.job_filter import JobFilter
from img2img_shared.farm.orphans import Orphan, find_orphans
from img2img_shared.farm.patience import patiently
from img2img_shared.farm.service import FarmService
from img2img_shared.farm.submission import Upload
from img2img_shared.job import Job, JobState
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
    """A farm, by the URLs of its Redis and its store; or, with neither, one of your own in a folder.

    >>> with Farm() as farm:  # doctest: +SKIP
    ...     job = farm.submit(["portrait.jpg"], prompt="an oil painting", denoising_strength=0.4)
    ...     for result in farm.results(job):
    ...         result.save("out")

    What is not given comes from the ``IMG2IMG_…`` variables. With no Redis named there either, one is
    started under ``IMG2IMG_DATA_DIR`` (or joined, where another program of yours runs it), and so is a
    worker for each model that a job asks for. A `Farm` may be shared between threads.

    Raises:
        Refused: a URL that is none, or a Redis without a store.
        Unavailable: Redis does not answer, or cannot be started.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        store_url: str | Path | None = None,
        tenant: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        given = {"redis_url": redis_url, "store_url": store_url and str(store_url), "tenant": tenant}
        self.settings = (settings or Settings()).model_copy(
            update={name: value for name, value in given.items() if value}
        )
        self.tenant = self.settings.tenant
        self._service = FarmService(self.settings, outage=SUBMIT)
        self.redis_url, self.store_url = self._service.redis_url, self._service.store_url

    @property
    def is_embedded(self) -> bool:
        """Whether it lives in a folder of this machine and ends with the programs that use it."""
        return self._service.is_embedded

    @property
    def where(self) -> str:
        """Which farm it is, for people: its folder or its Redis without a password, and the tenant."""
        return self._service.where

    def submit(
        self,
        inputs: Iterable[Picture | Source | tuple[Source, Source] | Mapping[str, Any]] | Picture | Source,
        *,
        model: str | None = None,
        params: Params | Mapping[str, Any] | None = None,
        mask: Source | None = None,
        pictures: Mapping[str, Source] | None = None,
        name: str | None = None,
        tags: Collection[str] = (),
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
        submission = self._service.begin(  # what is wrong is said before anything is uploaded
            tenant=self.tenant,
            model=model,
            params=merged,
            name=name,
            owner=self.settings.owner,
            tags=tags,
            priority=priority,
            idempotency_key=idempotency_key,
            stored=progress,
        )
        if isinstance(inputs, Picture | str | Path | bytes | Mapping):
            inputs = [inputs]
        try:
            for role, source in {**({} if mask is None else {"mask": mask}), **(pictures or {})}.items():
                submission.set_picture(role, partial(_read, source, role))
            for index, item in enumerate(inputs):
                submission.add(_upload(item, index))
            return submission.commit().id
        except Exception:  # not on Ctrl-C: this asks the store, which may be what hangs
            submission.abandon()
            raise

    def status(self, job_id: str) -> JobStatus:
        """Counts, rate (images a second), seconds to go, times of a job; and what it waits for, if it does.

        Raises:
            NotFound: there is no such job.
        """
        return self._service.status(job_id, self.tenant)

    def watch(self, job_id: str) -> Iterator[JobStatus]:
        """The job's status now, after each change (five times a second at most), and now and then besides.

        It ends with the job.

        >>> for status in farm.watch(job):  # doctest: +SKIP
        ...     print(f"{status.done} of {status.n}, {status.eta} s to go")

        Raises:
            NotFound: there is no such job.
            Unavailable: Redis stays away, or the embedded farm's worker does not start.
        """
        feed = Feed(self._service.ledger, job_id, self.tenant)
        status = self._watched(job_id)
        if status.finished is None:
            self._service.serve(status.model)
        while True:
            yield status
            if status.finished is not None:
                return
            time.sleep(INTERVAL)
            quiet_since = time.monotonic()
            quiet = TICK if status.running else QUIET  # running images have steps
            while not feed.all(TICK) and time.monotonic() - quiet_since < quiet:
                self._service.supervise(status.model)
            self._service.supervise(status.model)
            status = patiently(lambda: self._watched(job_id))

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
        job = self._service.ledger.job(job_id, self.tenant)
        results = Results(self._service.ledger, self._service.store, job)
        if not wait:
            yield from results.now()
            return
        if self.status(job_id).finished is None:
            self._service.serve(job.model)
        told = 0.0

        def tick() -> None:
            nonlocal told
            self._service.supervise(job.model)
            if progress is not None and time.monotonic() - told >= INTERVAL:
                progress(patiently(lambda: self._watched(job_id)))
                told = time.monotonic()

        yield from results.follow(tick)
        if progress is not None:
            progress(self.status(job_id))

    def images(self, job_id: str) -> Iterator[ImageStatus]:
        """The state of every image of a job, by index, with its input's name and path.

        Raises:
            NotFound: there is no such job.
        """
        return self._service.named_images(self.job(job_id))

    def preview(self, job_id: str, index: int = 0) -> bytes | None:
        """What an image under way looks like: a small JPEG, an eighth of the picture's size each way.

        None where there is none: before the workers have heard that you look (ask again within ten
        seconds), where they make none (``IMG2IMG_PREVIEW_SECONDS=0``), or a while after the image's end.

        Raises:
            NotFound: there is no such job.
        """
        return self._service.previews.look(job_id, self.tenant, index)

    def job(self, job_id: str) -> Job:
        """The job as it was written: its parameters, with the seeds that were drawn.

        Raises:
            NotFound: there is no such job.
        """
        return self._service.ledger.job(job_id, self.tenant)

    def cancel(self, job_id: str) -> int:
        """End a job, between two steps of its running images; how many are thereby not rendered."""
        return self._service.ledger.cancel(job_id, self.tenant)

    def pause(self, job_id: str) -> bool:
        """Begin no further image of a job until `resume`; whether that changed anything."""
        return self._service.ledger.pause(job_id, self.tenant)

    def resume(self, job_id: str) -> bool:
        """Go on with a paused job; whether that changed anything."""
        changed = self._service.ledger.resume(job_id, self.tenant)
        self._notify_workers(job_id)
        return changed

    def retry(self, job_id: str) -> int:
        """Give the failed images of a job another chance; how many these are."""
        count = self._service.ledger.retry(job_id, self.tenant)
        self._notify_workers(job_id)
        return count

    def set_priority(self, job_id: str, priority: int) -> bool:
        """Let a job go before those of lower priority (-100..100); whether that changed anything."""
        return self._service.ledger.set_priority(job_id, self.tenant, priority)

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
        return list(islice(self._service.find(self.tenant, wanted), limit))

    def remove(self, job_id: str) -> int:
        """Forget a job that has ended, with its results; how many objects of the store these were.

        Raises:
            NotFound: there is no such job.
            Refused: the job has not ended: cancel it first.
        """
        return self._service.remove(job_id, self.tenant)

    def orphans(self) -> Iterator[Orphan]:
        """What the store keeps of jobs, of any tenant, that were forgotten, or lost with their ledger."""
        return find_orphans(self._service.store, self._service.ledger)

    def workers(self) -> list[WorkerStatus]:
        """The workers that live, whatever they serve."""
        return self._service.workers()

    def order(self, worker: str, order: WorkerOrder | None) -> list[str]:
        """Have a worker do something, from its next beat on, some seconds from now; None: as by itself again.

        Args:
            worker: its id, or the name of its host, which means all workers there.

        Raises:
            NotFound: none of them lives.
        """
        return self._service.order(worker, order)

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
        self._service.close()

    def __enter__(self) -> "Farm":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watched(self, job_id: str) -> JobStatus:
        return self._service.watched(job_id, self.tenant)

    def _notify_workers(self, job_id: str) -> None:
        """Tickets for a job that has images to give out again; the workers' janitor comes a second later."""
        with suppress(Unavailable):
            self._service.notify_workers(self.status(job_id).model)


def _upload(item: object, index: int) -> Upload:
    picture = as_picture(item, index)
    sources = {
        role: partial(_read, source, f"inputs[{index}].{role}") for role, source in picture.pictures.items()
    }
    return Upload(
        pictures=sources,
        params=picture.params,
        name=picture.label,
        folder=picture.folder,
        path=picture.path,
    )


@contextmanager
def _read(source: Source, field: str) -> Iterator[bytes]:
    yield read_source(source, field)
