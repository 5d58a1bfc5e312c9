"""A farm reached by its Redis and its store."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from img2img_producer.backends.backend import JobOptions
from img2img_producer.backends.ledger_feed import LedgerFeed
from img2img_producer.backends.models_backend import DirectModels
from img2img_producer.backends.operator_backend import DirectOperator
from img2img_producer.inputs import Picture, Source, read_source
from img2img_shared.farm.job_filter import JobFilter
from img2img_shared.farm.originals import Originals, read_originals
from img2img_shared.farm.service import FarmService
from img2img_shared.farm.submission import Upload
from img2img_shared.job import Job, result_key
from img2img_shared.ledger import IMAGES
from img2img_shared.records import ImageStatus, JobStatus, WorkerStatus
from img2img_shared.settings import Settings


class DirectBackend:
    """A `Backend` on the farm's service, which it closes."""

    def __init__(self, service: FarmService, settings: Settings) -> None:
        self.service = service
        self._tenant = settings.tenant
        self._owner = settings.owner
        self.models = DirectModels(service, settings.owner)
        self.operator = DirectOperator(service, settings)

    @property
    def where(self) -> str:
        return self.service.where

    @property
    def is_embedded(self) -> bool:
        return self.service.is_embedded

    def submit(
        self,
        inputs: Iterable[Picture],
        pictures: Mapping[str, Source],
        wanted: JobOptions,
        progress: Callable[[int], None] | None,
    ) -> str:
        submission = self.service.begin(  # what is wrong is said before anything is uploaded
            tenant=self._tenant,
            model=wanted.model,
            params=wanted.params,
            name=wanted.name,
            owner=self._owner,
            tags=wanted.tags,
            keep=wanted.keep,
            priority=wanted.priority,
            idempotency_key=wanted.idempotency_key,
            stored=progress,
        )
        try:
            for role, source in pictures.items():
                submission.set_picture(role, partial(_read, source, role))
            for index, picture in enumerate(inputs):
                submission.add(_upload(picture, index))
            return submission.commit().id
        except Exception:  # not on Ctrl-C: this asks the store, which may be what hangs
            submission.abandon()
            raise

    def job(self, job_id: str) -> Job:
        return self.service.ledger.job(job_id, self._tenant)

    def status(self, job_id: str) -> JobStatus:
        return self.service.status(job_id, self._tenant)

    def watched(self, job_id: str) -> JobStatus:
        return self.service.watched(job_id, self._tenant)

    @contextmanager
    def feed(self, job_id: str) -> Iterator[LedgerFeed]:
        yield LedgerFeed(self.service.ledger, job_id, self._tenant)

    def images(self, job: Job, start: int) -> list[ImageStatus]:
        return self.service.ledger.images(job.id, self._tenant, start, min(IMAGES, job.n - start))

    def named_images(self, job: Job) -> Iterator[ImageStatus]:
        return self.service.named_images(job)

    def originals(self, job: Job) -> Originals:
        return read_originals(self.service.store, job)

    def picture(self, job: Job, index: int) -> bytes:
        return self.service.store.get(result_key(job.id, index, job.params.output_format))

    def preview(self, job_id: str, index: int) -> bytes | None:
        return self.service.previews.look(job_id, self._tenant, index)

    def cancel(self, job_id: str) -> int:
        return self.service.cancel(job_id, self._tenant, self._owner)

    def pause(self, job_id: str) -> bool:
        return self.service.pause(job_id, self._tenant, self._owner)

    def resume(self, job_id: str) -> bool:
        return self.service.resume(job_id, self._tenant, self._owner)

    def retry(self, job_id: str) -> int:
        return self.service.retry(job_id, self._tenant, self._owner)

    def set_priority(self, job_id: str, priority: int) -> bool:
        return self.service.set_priority(job_id, self._tenant, priority, self._owner)

    def set_keep(self, job_id: str, keep: float | None) -> None:
        self.service.set_keep(job_id, self._tenant, keep, self._owner)

    def find(self, wanted: JobFilter) -> Iterator[JobStatus]:
        return self.service.find(self._tenant, wanted)

    def remove(self, job_id: str) -> int:
        return self.service.remove(job_id, self._tenant, self._owner)

    def workers(self) -> list[WorkerStatus]:
        return self.service.workers()

    def serve(self, model: str) -> None:
        self.service.serve(model)

    def supervise(self, model: str) -> None:
        self.service.supervise(model)

    def close(self) -> None:
        self.service.close()


def _upload(picture: Picture, index: int) -> Upload:
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
