"""The body of a synchronous render's answer: pictures, the request, and A1111's account of what was done."""

import base64
import json
from contextlib import suppress
from datetime import datetime
from typing import Any

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.errors import Problem
from img2img_gateway.pictures import read_texts
from img2img_gateway.sdapi.read_infotext import read_pairs
from img2img_gateway.sdapi.request import Img2ImgRequest, RenderRequest
from img2img_gateway.sdapi.tasks import Task
from img2img_shared.checkpoints import checkpoint_name
from img2img_shared.errors import FarmError
from img2img_shared.job import ImageState, Job, result_key
from img2img_shared.ledger import IMAGES
from img2img_shared.seeds import counted

#: names in an infotext that A1111 does not count among the extra parameters
_PLAIN = (
    "Prompt",
    "Negative prompt",
    "Steps",
    "Sampler",
    "Schedule type",
    "CFG scale",
    "Seed",
    "Size-1",
    "Size-2",
    "Model hash",
    "Model",
    "Version",
)


class Answer:
    """Of one task that has ended. Its methods block."""

    def __init__(self, core: AsyncFarm, tenant: str, task: Task) -> None:
        self._ledger = core.ledger
        self._store = core.store
        self._tenant = tenant
        self._task = task

    def body(self, request: RenderRequest) -> bytes:
        """The answer's JSON. Images that were interrupted are missing; with all of them so, it is empty.

        Raises:
            Problem: 500, an image failed, with its reason.
            StoreError: one cannot be read.
        """
        jobs = [self._ledger.job(job_id, self._tenant) for job_id in self._task.jobs]
        pictures = [self._store.get(key) for job in jobs for key in self._results(job)]
        info = _info(request, jobs, pictures)
        sent = pictures if request.send_images else []
        return json.dumps(
            {
                "images": [base64.b64encode(picture).decode() for picture in sent],
                "parameters": _parameters(request),
                "info": json.dumps(info, default=str),
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
                    raise Problem(500, f"image {image.index} failed: {image.reason}")
                if image.state is ImageState.DONE:
                    keys.append(result_key(job.id, image.index, job.params.output_format))
        return keys


def _parameters(request: RenderRequest) -> dict[str, Any]:
    parameters = request.model_dump(mode="json")
    if isinstance(request, Img2ImgRequest):
        if not request.include_init_images:
            parameters |= {"init_images": None, "mask": None}
        del parameters["include_init_images"]  # as A1111 has it
    return parameters


def _info(request: RenderRequest, jobs: list[Job], pictures: list[bytes]) -> dict[str, Any]:
    """What A1111's `Processed.js` tells."""
    params = jobs[0].params
    n = sum(job.n for job in jobs)
    seeds = [counted(params.seed, params.subseed, params.subseed_strength, i) for i in range(n)]
    texts = [read_texts(picture).get("parameters", "") for picture in pictures]
    pairs = read_pairs(texts[0]) if texts else {}
    return {
        "prompt": params.prompt,
        "all_prompts": [params.prompt] * n,
        "negative_prompt": params.negative_prompt,
        "all_negative_prompts": [params.negative_prompt] * n,
        "seed": params.seed,
        "all_seeds": [seed for seed, _ in seeds],
        "subseed": params.subseed,
        "all_subseeds": [subseed for _, subseed in seeds],
        "subseed_strength": params.subseed_strength,
        "width": params.width,
        "height": params.height,
        "sampler_name": params.sampler_name,
        "cfg_scale": params.cfg_scale,
        "steps": params.steps,
        "batch_size": request.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": pairs.get("Model", checkpoint_name(jobs[0].model)),
        "sd_model_hash": pairs.get("Model hash"),
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": params.seed_resize_from_w or -1,
        "seed_resize_from_h": params.seed_resize_from_h or -1,
        "denoising_strength": params.denoising_strength,
        "extra_generation_params": {k: v for k, v in pairs.items() if k not in _PLAIN},
        "index_of_first_image": 0,
        "infotexts": texts,
        "styles": request.styles,
        "job_timestamp": datetime.now().strftime("%Y%m%d%H%M%S"),
        "clip_skip": params.clip_skip,
        "is_using_inpainting_conditioning": False,
        "version": pairs.get("Version", ""),
    }
