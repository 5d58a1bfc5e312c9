"""One farm, as whoever submits works with it: ledger, store, tickets, an embedded farm's processes."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from img2img_shared.embedded.farm import EmbeddedFarm
from img2img_shared.errors import Refused
from img2img_shared.farm.input_janitor import InputJanitor
from img2img_shared.farm.patience import patiently
from img2img_shared.farm.submission import UPLOADS, Submission, new_job, request_of
from img2img_shared.job import Job
from img2img_shared.ledger import IMAGES, Ledger, connect
from img2img_shared.ledger.previews import Previews
from img2img_shared.ledger.submissions import Submissions
from img2img_shared.params import Params
from img2img_shared.queue import celery_app, top_up
from img2img_shared.records import ImageStatus, WorkerStatus
from img2img_shared.settings import Settings
from img2img_shared.store import Store

log = logging.getLogger(__name__)

#: the checkpoint that comes with the worker
DEFAULT_MODEL = "demo"


class FarmService:
    """The farm that `settings` name; with no Redis among them, one of this machine's own in a folder.

    Its methods block, and may be called from any thread.

    Args:
        outage: seconds for which a submit asks Redis again while it is away.

    Raises:
        Refused: a URL that is none, or a Redis without a store.
        Unavailable: Redis does not answer, or cannot be started.
    """

    def __init__(self, settings: Settings, *, outage: float = 0.0) -> None:
        self.settings = settings
        self._outage = outage
        self._embedded: EmbeddedFarm | None = None
        with ExitStack() as closing:
            self.redis_url, self.store_url = self._urls(closing)
            self.store = Store(self.store_url)
            self.redis = closing.enter_context(connect(self.redis_url, settings.prefix))
            self.tickets = closing.enter_context(celery_app(self.redis_url, settings.prefix))
            self.ledger = Ledger(self.redis, lease=settings.lease, keep_jobs=settings.keep_jobs)
            self.previews = Previews(self.redis)
            self._submissions = Submissions(self.redis)
            self.input_janitor = InputJanitor(self._submissions, self.store)
            self._uploads = ThreadPoolExecutor(UPLOADS, thread_name_prefix="upload")
            # whoever ends must not wait for a store that hangs
            closing.callback(self._uploads.shutdown, wait=False, cancel_futures=True)
            self._closing = closing.pop_all()

    @property
    def is_embedded(self) -> bool:
        """Whether it lives in a folder of this machine and ends with the programs that use it."""
        return self._embedded is not None

    def begin(
        self,
        *,
        tenant: str,
        model: str | None,
        params: Params,
        priority: int = 0,
        idempotency_key: str | None = None,
        webhook: str | None = None,
        stored: Callable[[int], None] | None = None,
    ) -> Submission:
        """A job to be given its inputs and then committed; what is wrong with it is said before it has any.

        An embedded farm begins to load the model meanwhile.

        Args:
            model: None: see `default_model`.
            webhook: what is to be told where, as far as a repeat with the same key must have it too.
            stored: told how many inputs are in the store.

        Raises:
            Refused: names the field.
            Unavailable: Redis is away, or an embedded farm cannot run a worker.
        """
        asked = {"model": model or "", "priority": priority, "webhook": webhook or ""}
        if model is None:  # of a repeat it is the first job's, whatever is served by now
            model = self.ledger.repeated_model(tenant, idempotency_key) or self.default_model()
        job = new_job(tenant, model, params, priority=priority, idempotency_key=idempotency_key)
        self.serve(model)
        patiently(lambda: self._submissions.begin(job.id), self._outage)
        return Submission(
            job,
            request=request_of(asked, params),
            store=self.store,
            ledger=self.ledger,
            submissions=self._submissions,
            pool=self._uploads,
            committed=self.notify_workers,
            stored=stored,
            outage=self._outage,
        )

    def images(self, job: Job, wanted: range | None = None) -> Iterator[ImageStatus]:
        """Images of a job by their indexes (None: all), asked for as it goes."""
        indexes = range(job.n) if wanted is None else wanted
        for start in range(indexes.start, indexes.stop, IMAGES):
            yield from self.ledger.images(job.id, job.tenant, start, min(IMAGES, indexes.stop - start))

    def notify_workers(self, model: str) -> None:
        """Tickets for images that wait.

        Whatever goes wrong with them, what they are for is written: the workers' janitor brings them.
        """
        try:
            top_up(self.tickets, self.ledger, model)
        except Exception as error:
            log.warning("the tickets for %s come a second later: %s", model, error)

    def workers(self) -> list[WorkerStatus]:
        """The workers that live, whatever they serve."""
        return self.ledger.workers()

    def served(self) -> list[str]:
        """The models that live workers have."""
        return sorted({worker.info.model for worker in self.workers()})

    def models(self) -> list[str]:
        """The models that are served, and those an embedded farm could start a worker for."""
        startable = {DEFAULT_MODEL, *_models_in(self.settings.models_dir)} if self.is_embedded else set()
        return sorted(startable | set(self.served()))

    def default_model(self, *, now: bool = False) -> str:
        """The model of a job that names none: the only one that is served, else "demo".

        Args:
            now: somebody waits for it, so that it must be served already, or be startable.

        Raises:
            Refused: several are served, and "demo" is none of them; or none is, `now`.
        """
        served = self.served()
        if len(served) == 1:
            return served[0]
        if DEFAULT_MODEL in served or not (served or (now and not self.is_embedded)):
            return DEFAULT_MODEL
        names = ", ".join(served) or "none is, for now"
        raise Refused("model", None, f"one of those that are served: {names}")

    def serve(self, model: str) -> None:
        """On an embedded farm, have a worker for `model`, which takes its time to load.

        Raises:
            Unavailable: it cannot run here.
        """
        if self._embedded is not None:
            self._embedded.serve(model)

    def supervise(self, model: str) -> bool:
        """Look after an embedded farm's processes; False: its worker for `model` is still loading.

        Raises:
            Unavailable: one has ended that cannot be started again; with the last lines of its log.
        """
        return self._embedded is None or self._embedded.supervise(model, lambda: model in self.served())

    def close(self) -> None:
        """Let go of the farm. An embedded one's processes stop, unless another program uses them."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _urls(self, closing: ExitStack) -> tuple[str, str]:
        """Redis and store: those that are configured, else an embedded farm's."""
        if self.settings.redis_url is None:
            self._embedded = closing.enter_context(EmbeddedFarm(self.settings))
            return self._embedded.redis_url, self._embedded.store_url
        if self.settings.store_url is None:
            wanted = "the store that the workers of this Redis use (IMG2IMG_STORE_URL)"
            raise Refused("store_url", None, wanted)
        return self.settings.redis_url, self.settings.store_url


def _models_in(folder: Path | None) -> list[str]:
    """What a worker of this machine could serve by name."""
    if folder is None or not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return [path.stem if path.is_file() else path.name for path in found if _is_checkpoint(path)]


def _is_checkpoint(path: Path) -> bool:
    return (path / "model_index.json").is_file() or path.suffix == ".safetensors"
