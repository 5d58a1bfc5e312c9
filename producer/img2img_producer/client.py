"""The Python client: submit pictures, watch jobs, fetch results."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from img2img_producer.backends.backend import JobOptions
from img2img_producer.backends.direct import DirectBackend
from img2img_producer.backends.open_backend import farm_settings, open_backend
from img2img_producer.farm_jobs import FarmJobs
from img2img_producer.farm_models import FarmModels
from img2img_producer.farm_operator import FarmOperator
from img2img_producer.inputs import Picture, Source, as_picture
from img2img_producer.parameters import merge_params
from img2img_producer.results import TICK, Result, Results
from img2img_shared.errors import Refused
from img2img_shared.farm.patience import patiently
from img2img_shared.farm.service import FarmService
from img2img_shared.params import Params
from img2img_shared.records import JobStatus
from img2img_shared.settings import Settings

#: seconds after which somebody who submits would rather know that Redis is away
SUBMIT = 25.0
#: seconds, at least, between two statuses of a watch
INTERVAL = 0.2
#: seconds without any news, after which a watch looks what the job waits for
QUIET = 5.0


class Farm(FarmJobs, FarmOperator):
    """A farm: by the URL of its gateway, by those of its Redis and its store, or one of your own in a folder.

    >>> with Farm() as farm:  # doctest: +SKIP
    ...     job = farm.submit(["portrait.jpg"], prompt="an oil painting", denoising_strength=0.4)
    ...     for result in farm.results(job):
    ...         result.save("out")
    >>> Farm("https://farm.example", key="i2i_...")  # doctest: +SKIP
    >>> Farm("redis://farm:6379/0", "s3://renders")  # doctest: +SKIP

    Arguments that are not given come from the ``IMG2IMG_…`` variables. If these name no farm either, a Redis
    is started under ``IMG2IMG_DATA_DIR`` (or joined, if another program of yours runs it), and so is a worker
    for each model that a job needs. A `Farm` may be shared between threads; in asyncio, use `AsyncFarm`.

    Args:
        redis_url: redis://, rediss://, unix:// or sentinel://; or instead https:// of a gateway.
        store_url: with a Redis: a folder that all machines share, or s3://, gs://, az://.
        tenant: with a Redis: the tenant whose jobs are submitted and seen. With a gateway, the key decides.
        key: with a gateway: its API key.

    Raises:
        Refused: something that is not a URL, a Redis without a store, or a gateway with one.
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
        self.settings = farm_settings(settings or Settings(), redis_url, store_url, tenant, key)
        self.tenant = self.settings.tenant
        self._backend = open_backend(self.settings, outage=SUBMIT)

    @property
    def redis_url(self) -> str:
        """The URL of the farm's Redis, password included. Refused for clients of a gateway."""
        return self._service.redis_url

    @property
    def store_url(self) -> str:
        """The URL of the farm's store. Refused for clients of a gateway."""
        return self._service.store_url

    @property
    def is_embedded(self) -> bool:
        """Whether the farm is in a folder of this machine, and ends with the programs that use it."""
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
        """Submit a job and return its id; workers begin at once, whether or not you wait for it.

        >>> farm.submit("cat.png", denoising_strength=0.4)  # doctest: +SKIP
        >>> farm.submit([("room.png", "wall.png")], inpainting_fill=1, model="sd-1.5")  # doctest: +SKIP
        >>> farm.submit([{"image": data, "prompt": "rain", "seed": 7}], images_per_input=4)  # doctest: +SKIP

        Args:
            inputs: pictures, each rendered on its own: paths, encoded bytes, (image, mask) pairs, `Picture`s
                or dicts of its fields. Read as it goes: a generator over 100,000 files is fine.
            model: the checkpoint, by the name its workers serve it under; None: see `default_model`.
            params: parameters as `Params` or a dict; named ones win over them.
            mask: for all inputs without a mask of their own.
            pictures: the same by role ("mask", "control/0", ...), as a `Picture` has them.
            name: for people to find the job by; jobs may share one.
            tags: words to find it by: "summer", "client=acme".
            keep: how long its inputs and results stay after its end: "30d", "12h", "forever", or seconds;
                None: ``IMG2IMG_KEEP``.
            priority: -100..100, higher goes first.
            idempotency_key: a repeat with the same key returns the first job's id and does nothing else, so
                submitting again with it after an `Unavailable` is safe.
            progress: called with the number of inputs stored so far.

        Raises:
            Refused: a parameter or an input is not allowed; nothing was submitted.
            Conflict: a different request was submitted with this idempotency key before.
            StoreError: the store failed to take the inputs; nothing was submitted.
            Unavailable: Redis has not answered, or taken no writes, for half a minute; it is not known
                whether the job was submitted.
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

    def watch(self, job_id: str) -> Iterator[JobStatus]:
        """The job's status now and after each change, five times a second at most, until the job has ended.

        Without a change it is repeated: every second while images run, else every five.

        >>> for status in farm.watch(job):  # doctest: +SKIP
        ...     print(f"{status.done} of {status.n}, {status.eta} s to go")

        Raises:
            NotFound: there is no such job.
            Unavailable: Redis does not come back, or the embedded farm's worker does not start.
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
        """The images of a job in the order in which they end; failed ones carry their reason.

        Args:
            wait: follow the job until it has ended; False: only the images that have ended by now.
            progress: called with the job's status, about once a second, at most five times.

        Raises:
            NotFound: there is no such job.
            Unavailable: Redis does not come back, or the embedded farm's worker does not start.
        """
        job = self._backend.job(job_id)
        results = Results(self._backend, job)
        if not wait:
            yield from results.now()
            return
        if self.status(job_id).finished is None:
            self._backend.serve(job.model)
        reported = 0.0

        def tick() -> None:
            nonlocal reported
            self._backend.supervise(job.model)
            if progress is not None and time.monotonic() - reported >= INTERVAL:
                progress(patiently(lambda: self._backend.watched(job_id)))
                reported = time.monotonic()

        yield from results.follow(tick)
        if progress is not None:
            progress(self.status(job_id))

    def default_model(self) -> str:
        """The model of a job that names none; see `FarmService.default_model`.

        Raises:
            Refused: several are served, and "demo" is not among them.
        """
        return self._service.default_model()

    def serve_by_default(self, model: str) -> bool:
        """On an embedded farm, start a worker for `model`, which is the `default_model` for ten seconds.

        Returns:
            whether the worker is ready.

        Raises:
            Unavailable: it does not start; the message ends with its log's last lines.
        """
        name = self._service.name_of(model)
        self._service.serve_by_default(name)
        return self._service.supervise(name)

    def serve(self, model: str) -> None:
        """On an embedded farm, start a worker for `model` and wait until it is ready.

        Raises:
            Unavailable: it does not start; the message ends with its log's last lines.
        """
        name = self._service.name_of(model)
        self._service.serve(name)
        while not self._service.supervise(name):
            time.sleep(INTERVAL)

    def close(self) -> None:
        """Close the connection. An embedded farm's processes stop, unless another program uses them."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _service(self) -> FarmService:
        """The service on Redis and store, which clients of a gateway do not reach.

        Raises:
            Refused: this is a gateway's client.
        """
        if isinstance(self._backend, DirectBackend):
            return self._backend.service
        raise Refused(
            "farm_url", self.where, "name the farm's Redis and store for that; a gateway does not do it"
        )
