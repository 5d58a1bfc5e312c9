"""A farm reached through its gateway, over HTTP."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from img2img_producer.backends.backend import JobOptions
from img2img_producer.backends.event_reader import EventReader
from img2img_producer.backends.gateway_client import GatewayClient
from img2img_producer.backends.gateway_models import GatewayModels
from img2img_producer.backends.gateway_operator import GatewayOperator
from img2img_producer.inputs import Picture, Source, read_source
from img2img_shared.durations import read_duration, write_duration
from img2img_shared.errors import NotFound, Refused, StoreError
from img2img_shared.farm.checked_input import checked_input
from img2img_shared.farm.job_filter import JobFilter
from img2img_shared.farm.originals import Originals
from img2img_shared.farm.output_names import OutputNames
from img2img_shared.farm.patience import await_result
from img2img_shared.job import PAGE, Job, picture_digest, result_key
from img2img_shared.ledger import IMAGES
from img2img_shared.params import WRITTEN, Params
from img2img_shared.prompt_tags import check_tags
from img2img_shared.records import ImageStatus, JobStatus, WorkerInfo, WorkerReport, WorkerStatus
from img2img_shared.roles import check_role

#: pictures on their way at a time
UPLOADS = 8

_STATUS = TypeAdapter(JobStatus)
_IMAGES = TypeAdapter(list[ImageStatus])
_WORKERS = TypeAdapter(list[dict[str, Any]])


class GatewayBackend:
    """A `Backend` over ``/v1``. The key decides whose jobs it sees."""

    is_embedded = False

    def __init__(self, client: GatewayClient) -> None:
        self._client = client
        self.models = GatewayModels(client)
        self.operator = GatewayOperator(client)
        self._uploads = ThreadPoolExecutor(UPLOADS, thread_name_prefix="upload")

    @property
    def where(self) -> str:
        return self._client.where

    def submit(
        self,
        inputs: Iterable[Picture],
        pictures: Mapping[str, Source],
        wanted: JobOptions,
        progress: Callable[[int], None] | None,
    ) -> str:
        """Upload the pictures, each once by its SHA-256 and only if the farm lacks it; then submit the job.

        So an interrupted or repeated submit sends no picture twice.
        """
        params = wanted.params
        if not params.disable_extra_networks:
            check_tags(prompt=params.prompt, hr_prompt=params.hr_prompt)
        shared = {check_role(role): self._put(source, role) for role, source in pictures.items()}
        body: dict[str, Any] = {
            "params": params.model_dump(mode="json", exclude_unset=True),
            "pictures": shared,
            "inputs": list(self._send_inputs(inputs, params, set(shared), progress)),
            "model": wanted.model,
            "name": wanted.name,
            "tags": wanted.tags,
            "keep": None if wanted.keep is None else write_duration(read_duration(wanted.keep)),
            # 0 is what everybody gets, and a key may allow less
            "priority": wanted.priority or None,
        }
        headers = {"Idempotency-Key": wanted.idempotency_key} if wanted.idempotency_key else {}
        return str(self._client.ask("POST", "/v1/jobs", json=body, headers=headers).json()["id"])

    def job(self, job_id: str) -> Job:
        status = self.status(job_id)
        usual = Params().model_dump(mode="json")
        told = self._get(f"/v1/jobs/{job_id}/params")
        # without defaults, as they are written: a size may be said in one of two ways
        changed = {name: value for name, value in told.items() if value != usual.get(name)}
        params = Params.model_validate(changed, context=WRITTEN)
        return Job(
            id=status.id,
            model=status.model,
            params=params,
            n_inputs=status.n // params.images_per_input,
            name=status.name,
            owner=status.owner,
            tags=status.tags,
            priority=status.priority,
        )

    def status(self, job_id: str) -> JobStatus:
        return _status(self._get(f"/v1/jobs/{job_id}"))

    def watched(self, job_id: str) -> JobStatus:
        return self.status(job_id)

    @contextmanager
    def feed(self, job_id: str) -> Iterator[EventReader]:
        with closing(EventReader(self._client, job_id)) as reader:
            yield reader

    def images(self, job: Job, start: int) -> list[ImageStatus]:
        found = self._get(f"/v1/jobs/{job.id}/images", start=start, limit=IMAGES)
        return _IMAGES.validate_python(found["images"])

    def named_images(self, job: Job) -> Iterator[ImageStatus]:
        for start in range(0, job.n, IMAGES):
            yield from self.images(job, start)

    def originals(self, job: Job) -> Originals:
        items = [
            item
            for start in range(0, job.n_inputs, PAGE)
            for item in self._get(f"/v1/jobs/{job.id}/inputs", start=start, limit=PAGE)["inputs"]
        ]
        paths = [item["path"] for item in items]
        names = OutputNames(
            [item["name"] for item in items],
            job.params.images_per_input,
            Path(result_key(job.id, 0, job.params.output_format)).suffix,
            [item["folder"] for item in items],
            paths,
        )
        keys = {key for item in items for key in item["pictures"].values()}
        return Originals(names=names, paths=paths, digests=frozenset(map(picture_digest, keys)))

    def picture(self, job: Job, index: int) -> bytes:
        try:
            return self._client.ask("GET", f"/v1/jobs/{job.id}/images/{index}/picture").content
        except NotFound as error:
            raise StoreError(str(error), transient=False, missing=True) from None

    def preview(self, job_id: str, index: int) -> bytes | None:
        return self._client.ask("GET", f"/v1/jobs/{job_id}/images/{index}/preview").content or None

    def cancel(self, job_id: str) -> int:
        return self._change(job_id, "cancel")

    def pause(self, job_id: str) -> bool:
        return bool(self._change(job_id, "pause"))

    def resume(self, job_id: str) -> bool:
        return bool(self._change(job_id, "resume"))

    def retry(self, job_id: str) -> int:
        return self._change(job_id, "retry")

    def set_priority(self, job_id: str, priority: int) -> bool:
        path = f"/v1/jobs/{job_id}/priority"
        return bool(self._client.ask("PUT", path, json={"priority": priority}).json()["changed"])

    def set_keep(self, job_id: str, keep: float | None) -> None:
        self._client.ask("PUT", f"/v1/jobs/{job_id}/keep", json={"keep": write_duration(keep)})

    def find(self, wanted: JobFilter) -> Iterator[JobStatus]:
        given = {"search": wanted.search, "model": wanted.model, "owner": wanted.owner}
        query = {name: value for name, value in given.items() if value is not None}
        start: str | None = ""
        while start is not None:
            found = self._get("/v1/jobs", start=start, state=wanted.states, tag=wanted.tags, **query)
            yield from map(_status, found["jobs"])
            start = found["next"]

    def remove(self, job_id: str) -> int:
        return int(self._client.ask("DELETE", f"/v1/jobs/{job_id}").json()["removed"])

    def workers(self) -> list[WorkerStatus]:
        """The live workers, without their jobs and last errors, which may be another tenant's."""
        infos, reports = TypeAdapter(WorkerInfo), TypeAdapter(WorkerReport)
        listed = _WORKERS.validate_python(self._get("/v1/workers"))
        told = [{name: value for name, value in each.items() if value is not None} for each in listed]
        return [
            WorkerStatus(
                info=infos.validate_python(each),
                report=reports.validate_python(each),
                running=each["running"],
                seen=each["seen"],
            )
            for each in told
        ]

    def serve(self, model: str) -> None:
        """Do nothing: that is for the farm's operator."""

    def supervise(self, model: str) -> None:
        """Do nothing: that is for the farm's operator."""

    def close(self) -> None:
        self._uploads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _get(self, path: str, **query: Any) -> Any:
        return self._client.ask("GET", path, params=query).json()

    def _change(self, job_id: str, what: str) -> int:
        return int(self._client.ask("POST", f"/v1/jobs/{job_id}/{what}").json()["changed"])

    def _send_inputs(
        self,
        inputs: Iterable[Picture],
        params: Params,
        shared: set[str],
        progress: Callable[[int], None] | None,
    ) -> Iterator[dict[str, Any]]:
        """The inputs for the request; some of their pictures may still be on their way."""
        under_way: deque[Future[dict[str, Any]]] = deque()
        count = 0
        for index, picture in enumerate(inputs):
            try:  # before it is uploaded
                checked_input(
                    params,
                    roles={*shared, *picture.pictures},
                    own=picture.params,
                    name=picture.label,
                    folder=picture.folder,
                    path=picture.path,
                )
            except Refused as error:
                raise error.under(f"inputs[{index}].") from None
            under_way.append(self._uploads.submit(self._put_input, picture, f"inputs[{index}]."))
            if len(under_way) > 2 * UPLOADS:
                yield await_result(under_way.popleft())
                count += 1
                _tell(progress, count)
        while under_way:
            yield await_result(under_way.popleft())
            count += 1
            _tell(progress, count)

    def _put_input(self, picture: Picture, prefix: str) -> dict[str, Any]:
        return {
            "pictures": {role: self._put(source, prefix + role) for role, source in picture.pictures.items()},
            "params": picture.params,
            "name": picture.label,
            "folder": picture.folder,
            "path": picture.path,
        }

    def _put(self, source: Source, field: str) -> str:
        """The key of a picture, once the farm has it."""
        data = read_source(source, field)
        digest = hashlib.sha256(data).hexdigest()
        try:
            self._client.ask("HEAD", f"/v1/inputs/{digest}")
        except NotFound:
            headers = {"Content-Type": "application/octet-stream"}
            self._client.ask("POST", "/v1/inputs", content=data, headers=headers)
        return f"inputs/{digest}"


def _status(answer: Mapping[str, Any]) -> JobStatus:
    return _STATUS.validate_python({"tenant": "", **answer})


def _tell(progress: Callable[[int], None] | None, count: int) -> None:
    if progress is not None:
        progress(count)
