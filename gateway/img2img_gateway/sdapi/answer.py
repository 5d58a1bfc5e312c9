"""The body of a synchronous render's answer: pictures, the request, and A1111's account of what was done."""

import base64
import json
from contextlib import suppress
from typing import Any

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.errors import Problem
from img2img_gateway.pictures import read_texts
from img2img_gateway.sdapi.processed import processed
from img2img_gateway.sdapi.reading import Reading
from img2img_gateway.sdapi.request import Img2ImgRequest, RenderRequest
from img2img_gateway.sdapi.tasks import Task
from img2img_shared.errors import FarmError, is_refusal
from img2img_shared.job import ImageState, Job, result_key
from img2img_shared.ledger import IMAGES


class Answer:
    """Of one task that has ended. Its methods block."""

    def __init__(self, farm: AsyncFarm, tenant: str, task: Task) -> None:
        self._ledger = farm.ledger
        self._store = farm.store
        self._tenant = tenant
        self._task = task

    def body(self, reading: Reading) -> bytes:
        """The answer's JSON. Images that were not begun are missing; with all of them so, it is empty.

        Raises:
            Problem: an image failed, with its reason; 422, if it is the request's fault.
            StoreError: one cannot be read.
        """
        jobs = [self._ledger.job(job_id, self._tenant) for job_id in self._task.jobs]
        pictures = [self._store.get(key) for job in jobs for key in self._results(job)]
        texts = [read_texts(picture).get("parameters", "") for picture in pictures]
        info = processed(reading, jobs, texts, self._task.begun)
        sent = pictures if reading.body.send_images else []
        return json.dumps(
            {
                "images": [base64.b64encode(picture).decode() for picture in sent],
                "parameters": _parameters(reading.body),
                "info": json.dumps(info),
            }
        ).encode()

    def remove(self) -> None:
        """Forget the pictures; the jobs stay in the ledger for their time."""
        for job_id in self._task.jobs:
            with suppress(FarmError):
                job = self._ledger.job(job_id, self._tenant)
                for index in range(job.n):
                    self._store.delete(result_key(job_id, index, job.params.output_format))

    def _results(self, job: Job) -> list[str]:
        keys = []
        for start in range(0, job.n, IMAGES):
            for image in self._ledger.images(job.id, self._tenant, start, IMAGES):
                if image.state is ImageState.FAILED:
                    status = 422 if is_refusal(image.reason or "") else 500
                    raise Problem(status, f"image {image.index} failed: {image.reason}")
                if image.state is ImageState.DONE:
                    keys.append(result_key(job.id, image.index, job.params.output_format))
        return keys


def _parameters(body: RenderRequest) -> dict[str, Any]:
    """The request as A1111 gives it back: its own fields, the pictures only if asked."""
    hidden = {"distilled_cfg_scale", *body.unknown} - ({"distilled_cfg_scale"} & body.model_fields_set)
    parameters = body.model_dump(exclude=hidden)
    if isinstance(body, Img2ImgRequest) and not body.include_init_images:
        parameters |= {"init_images": None, "mask": None}
    return parameters
