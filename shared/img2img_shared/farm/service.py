"""One farm, as whoever submits works with it: ledger, store, tickets, an embedded farm's processes."""

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self

from img2img_shared.checkpoints import Checkpoint, checkpoints_in, find_checkpoint
from img2img_shared.embedded.farm import EmbeddedFarm
from img2img_shared.errors import NotFound, NoWorkers, Refused
from img2img_shared.farm.any_model import model_with_upscalers
from img2img_shared.farm.input_janitor import InputJanitor
from img2img_shared.farm.marker import StoreMarker
from img2img_shared.farm.originals import with_names
from img2img_shared.farm.patience import await_result, patiently
from img2img_shared.farm.submission import UPLOADS, Submission, new_job, request_of
from img2img_shared.farm.waiting import is_idle, waits_for
from img2img_shared.job import Job
from img2img_shared.ledger import IMAGES, Ledger, connect
from img2img_shared.ledger.file_names import FileNames
from img2img_shared.ledger.previews import Previews
from img2img_shared.ledger.redis_url import read_redis_url
from img2img_shared.ledger.submissions import Submissions
from img2img_shared.ledger.tables import Table
from img2img_shared.params import Params
from img2img_shared.prompt_tags import check_tags
from img2img_shared.queue import celery_app, top_up
from img2img_shared.records import ImageStatus, JobStatus, WorkerInfo, WorkerOrder, WorkerStatus
from img2img_shared.settings import Settings
from img2img_shared.store import Store

log = logging.getLogger(__name__)

#: the checkpoint that comes with the worker
DEFAULT_MODEL = "demo"
#: running images of a job whose steps are looked at
MOST_WATCHED = 200
#: seconds for which a model is the default, unless it is said again
_BY_DEFAULT = 10
#: so many checkpoints are named in a refusal
_NAMED = 20


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
            self.ledger = Ledger(
                self.redis,
                lease=settings.lease,
                keep_jobs=settings.keep_jobs,
                acknowledge=settings.acknowledge,
            )
            self.ledger.check_acknowledge()
            self.previews = Previews(self.redis)
            self._file_names = FileNames(self.redis)
            self._marker = StoreMarker(self.store, self.ledger)
            self._submissions = Submissions(self.redis)
            self.input_janitor = InputJanitor(self._submissions, self.store)
            self._defaults = Table(self.redis, "defaults")
            self._file_names = FileNames(self.redis)
            self._uploads = ThreadPoolExecutor(UPLOADS, thread_name_prefix="upload")
            # whoever ends must not wait for a store that hangs
            closing.callback(self._uploads.shutdown, wait=False, cancel_futures=True)
            self._closing = closing.pop_all()

    @property
    def is_embedded(self) -> bool:
        """Whether it lives in a folder of this machine and ends with the programs that use it."""
        return self._embedded is not None

    @property
    def where(self) -> str:
        """Which farm it is, as `where`."""
        return where(self.settings)

    def begin(
        self,
        *,
        tenant: str,
        model: str | None,
        params: Params,
        name: str | None = None,
        priority: int = 0,
        idempotency_key: str | None = None,
        webhook: str | None = None,
        stored: Callable[[int], None] | None = None,
        sets_tags_aside: bool = False,
    ) -> Submission:
        """A job to be given its inputs and then committed; what is wrong with it is said before it has any.

        An embedded farm begins to load the model meanwhile.

        Args:
            model: None: see `default_model`; with extras, one whose workers have the upscalers.
            name: for people, to find it by.
            webhook: what is to be told where, as far as a repeat with the same key must have it too.
            stored: told how many inputs are in the store.
            sets_tags_aside: the caller is told otherwise of tags in prompts that are unknown here.

        Raises:
            Refused: names the field.
            StoreError: the store is not this farm's, or does not answer.
            Unavailable: Redis is away, or an embedded farm cannot run a worker.
        """
        if not sets_tags_aside and not params.disable_extra_networks:
            check_tags(prompt=params.prompt, hr_prompt=params.hr_prompt)
        asked = {"model": model or "", "priority": priority, "webhook": webhook or ""}
        model = patiently(partial(self._model_meant, tenant, model, idempotency_key, params), self._outage)
        for field in ("refiner_checkpoint", "hr_checkpoint_name"):
            if wanted := getattr(params, field):
                patiently(partial(self._check_other, field, wanted, model), self._outage)
        job = new_job(tenant, model, params, name=name, priority=priority, idempotency_key=idempotency_key)
        patiently(self._prove_store, self._outage)
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

    def remove(self, job_id: str, tenant: str) -> int:
        """Forgets a job that has ended, with its results; how many objects of the store these were.

        Pictures that it was made from are the tenant's, and stay. Should the store fail in between, what is
        left is found by `find_orphans`.

        Raises:
            NotFound: the tenant has no such job.
            Refused: the job has not ended.
            StoreError: the store does not remove something.
        """
        self.ledger.remove(job_id, tenant)
        keys = list(self.store.list(f"jobs/{job_id}"))
        for key in keys:
            self.store.delete(key)
        return len(keys)

    def status(self, job_id: str, tenant: str) -> JobStatus:
        """Where a job stands, and what it waits for if none of its images can be begun.

        Raises:
            NotFound: the tenant has no such job.
        """
        status = self.ledger.status(job_id, tenant)
        if not is_idle(status) or (self._embedded and self._embedded.has_worker(status.model)):
            return status  # or its worker is only just being loaded
        return replace(status, waits_for=waits_for(status, self.workers()))

    def watched(self, job_id: str, tenant: str) -> JobStatus:
        """As `status`, and how far running images are: their workers tell it for some seconds from now on.

        Raises:
            NotFound: the tenant has no such job.
        """
        status = self.status(job_id, tenant)
        if not status.running:
            return status
        found = self.previews.steps(job_id, tenant, self.ledger.running(job_id)[:MOST_WATCHED])
        if not found:
            return status
        done, total = (sum(counts) for counts in zip(*found, strict=True))
        under_way = sum(each / of for each, of in found if of)
        return replace(status, steps=(done, total), under_way=under_way)

    def images(self, job: Job, wanted: range | None = None) -> Iterator[ImageStatus]:
        """Images of a job by their indexes (None: all), asked for as it goes; without their inputs' names."""
        indexes = range(job.n) if wanted is None else wanted
        for start in range(indexes.start, indexes.stop, IMAGES):
            yield from self.ledger.images(job.id, job.tenant, start, min(IMAGES, indexes.stop - start))

    def named_images(self, job: Job, wanted: range | None = None) -> Iterator[ImageStatus]:
        """As `images`, with their inputs' names and paths, as far as the store has them."""
        return with_names(self.store, job, self.images(job, wanted))

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

    def order(self, worker: str, order: WorkerOrder | None) -> list[str]:
        """Have a worker, or all of a host's, do something from the next beat on; who it is.

        Raises:
            NotFound: none of them lives.
        """
        ids = [each.info.id for each in self.workers()]
        # an id begins with its host, then the process' number
        wanted = [each for each in ids if each == worker or each.rsplit("-", 2)[0] == worker]
        found = [each for each in wanted if self.ledger.order(each, order)]
        if not found:
            raise NotFound(f"no worker {worker!r} lives; see img2img workers")
        return found

    def served(self) -> list[str]:
        """The models that live workers have."""
        return self.ledger.served()

    def checkpoints(self) -> list[Checkpoint]:
        """Those that are served, and those an embedded farm could start a worker for; each once."""
        here = checkpoints_in(self.settings.models_dir) if self.is_embedded else {}
        served = {worker.info.model: _served_checkpoint(worker.info, here) for worker in self.workers()}
        found = [served[model] for model in sorted(served)]
        if self.is_embedded:
            demo = Checkpoint(model=DEFAULT_MODEL, file_name=DEFAULT_MODEL)
            local = [Checkpoint(model=name, file_name=path.name, path=path) for name, path in here.items()]
            for each in (*local, demo):
                if find_checkpoint(str(each.path or each.model), found) is None:
                    found.append(each)
        return found

    def models(self) -> list[str]:
        """What jobs call the `checkpoints`."""
        return sorted(checkpoint.model for checkpoint in self.checkpoints())

    def find_checkpoint(self, wanted: str) -> Checkpoint | None:
        """The checkpoint that a path, a name, a title or a hash means; None: it is not here.

        Raises:
            Refused: it means several.
        """
        return find_checkpoint(wanted, self.checkpoints())

    def other_checkpoint(self, field: str, wanted: str, model: str) -> str:
        """What workers call the checkpoint beside their own that images of `model` want for a refiner's part.

        As in A1111, a part of a name is enough; of several, the shortest is meant.

        Args:
            field: the parameter that names it.

        Raises:
            Refused: no worker of the model has it.
        """
        names = self._file_names.of(
            [each.info.id for each in self.workers() if each.info.model == model], "checkpoint"
        )
        if names is None:  # nobody has said: the worker that gets it will
            return wanted
        found = find_checkpoint(wanted, [Checkpoint(model=name, file_name=name) for name in names])
        if found is not None:
            return found.model
        alike = sorted((name for name in names if wanted in name), key=len)
        if not alike:
            listed = ", ".join(names[:_NAMED]) or "none: its workers have no other checkpoints"
            raise Refused(field, wanted, f"give one that workers of {model!r} have: {listed}")
        return alike[0]

    def name_of(self, model: str) -> str:
        """What jobs call a model: a checkpoint has one name, and one queue, however it is named.

        Raises:
            Refused: it means several.
        """
        checkpoint = self.find_checkpoint(model)
        return model if checkpoint is None else checkpoint.model

    def default_model(self, *, now: bool = False) -> str:
        """The model of a job that names none.

        On an embedded farm that which `img2img up` serves, else "demo": what others have asked for does not
        change it. On any other, where workers are started by hand, the only one that is served, else "demo".

        Args:
            now: somebody waits for it, so that it must be served already, or be startable.

        Raises:
            Refused: several are served, and "demo" is none of them.
            NoWorkers: none is, `now`.
        """
        if self.is_embedded:
            return str(self._defaults.get("model") or DEFAULT_MODEL)
        served = self.checkpoints()
        if len({each.sha256 or each.model for each in served}) == 1:
            return served[0].model
        names = [each.model for each in served]
        if DEFAULT_MODEL in names or not (names or now):
            return DEFAULT_MODEL
        if not names:
            raise NoWorkers
        raise Refused("model", None, f"give one that is served: {', '.join(names)}")

    def _model_meant(
        self, tenant: str, model: str | None, idempotency_key: str | None, params: Params
    ) -> str:
        found = self.ledger.repeated_model(tenant, idempotency_key)
        if model is not None:
            name = self.name_of(model)
            if found is None:
                self._check_model(name)
            return name
        # of a repeat it is the first job's, whatever is served by now
        if found is None and params.extras:
            found = model_with_upscalers(params, self.ledger, self._file_names)
        return found or self.default_model()

    def _check_model(self, model: str) -> None:
        """That somebody serves it, or may come to: a job of a misspelt model would wait for ever.

        Raises:
            Refused: says what there is, and where names are looked up.
        """
        if self.is_embedded:
            folder = self.settings.models_dir
            here = {**dict.fromkeys(self.models()), **checkpoints_in(folder, pickles=True)}
            if model not in here and not Path(model).exists():
                where = (
                    f"in {folder} (IMG2IMG_MODELS_DIR)"
                    if folder
                    else "in IMG2IMG_MODELS_DIR, which is not set"
                )
                names = ", ".join(sorted(here))
                raise Refused(
                    "model", model, f"use {names}, or the path of a checkpoint; names are looked up {where}"
                )
        elif (served := self.served()) and model not in served and not self.ledger.has_served(model):
            raise Refused(
                "model",
                model,
                f"workers of this farm serve {', '.join(served)}; use one of these, or start a worker first: "
                f"img2img worker --model {model}",
            )

    def serve_by_default(self, model: str) -> None:
        """As `serve`, and for the next ten seconds jobs that name no model mean this one."""
        self.serve(model)
        self._defaults.put({"model": model})
        self._defaults.expire(_BY_DEFAULT)

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

    def _check_other(self, field: str, wanted: str, model: str) -> None:
        if self.name_of(wanted) != model:
            self.other_checkpoint(field, wanted, model)

    def _prove_store(self) -> None:
        # in a thread of the pool: Ctrl-C is not heard in a call to a store that hangs
        await_result(self._uploads.submit(self._marker.establish, anew=self.is_embedded))

    def _urls(self, closing: ExitStack) -> tuple[str, str]:
        """Redis and store: those that are configured, else an embedded farm's."""
        if self.settings.redis_url is None:
            self._embedded = closing.enter_context(EmbeddedFarm(self.settings))
            return self._embedded.redis_url, self._embedded.store_url
        if self.settings.store_url is None:
            reason = "give the store that the workers of this Redis use (IMG2IMG_STORE_URL)"
            raise Refused("store_url", None, reason)
        return self.settings.redis_url, self.settings.store_url


def where(settings: Settings) -> str:
    """Which farm is meant, for people: a variable that was set and not exported is seen here.

    Raises:
        Refused: a URL that is none.
    """
    url, tenant = settings.redis_url, settings.tenant
    place = f"of this machine, in {settings.data_dir}" if url is None else str(read_redis_url(url))
    return place if tenant == Settings.model_fields["tenant"].default else f"{place}, tenant {tenant}"


def _served_checkpoint(info: WorkerInfo, here: Mapping[str, Path]) -> Checkpoint:
    """The checkpoint of a worker; where it is, if that is known on this machine."""
    path = here.get(info.model)
    if path is None and Path(info.model).is_absolute() and Path(info.model).exists():
        path = Path(info.model)
    return Checkpoint(
        model=info.model,
        file_name=info.file_name or Path(info.model).name,
        sha256=info.sha256,
        path=path,
        takes=frozenset(info.takes),
    )
