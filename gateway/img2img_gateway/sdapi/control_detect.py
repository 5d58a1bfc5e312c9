"""``/controlnet/detect``: runs a preprocessor on pictures, without a render."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from img2img_gateway.access import Caller, Principal
from img2img_gateway.dependencies import Services, ServicesDep
from img2img_gateway.gateway_errors import Problem
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.submit import SentInput, write
from img2img_shared.control import POSES_TEXT, ControlUnit
from img2img_shared.control_modules import Module, Slider, find_module
from img2img_shared.errors import FarmError, is_refusal
from img2img_shared.job import ImageState, Job, result_key
from img2img_shared.ledger import IMAGES
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts

router = APIRouter(prefix="/controlnet", tags=["AUTOMATIC1111: ControlNet"], route_class=JsonRoute)

#: modules whose answer is no picture
_NO_PICTURE = frozenset(("clip_vision", "revision_clipvision", "revision_ignore_prompt"))
#: pictures of one call
_MOST = 100


class DetectRequest(BaseModel):
    """``POST /controlnet/detect``."""

    controlnet_module: Annotated[str, Field(max_length=100)] = "none"
    controlnet_input_images: Annotated[list[str], Field(max_length=_MOST)] = []
    controlnet_processor_res: int = -1
    controlnet_threshold_a: float = -1
    controlnet_threshold_b: float = -1
    controlnet_masks: Annotated[list[str], Field(max_length=_MOST)] = []
    low_vram: bool = False


@router.post("/detect", summary="Preprocess pictures for control units")
async def detect(body: DetectRequest, caller: Caller, services: ServicesDep) -> dict[str, Any]:
    """Run a preprocessor on pictures, as a job of the farm that renders nothing."""
    module = find_module(body.controlnet_module)
    if module is None:
        raise Problem(422, "Module not available")
    if module.name in _NO_PICTURE or module.is_image_prompt:
        raise Problem(422, "Module not supported")
    images, masks = body.controlnet_input_images, body.controlnet_masks
    if not images:
        raise Problem(422, "No image selected")
    if module.inpaints and len(masks) != len(images):
        raise Problem(422, f"Preprocessor {body.controlnet_module} requires `controlnet_masks` param.")
    unit = ControlUnit(
        module=module.name,
        processor_res=_own(module.resolution, body.controlnet_processor_res),
        threshold_a=_own(module.slider_1, body.controlnet_threshold_a),
        threshold_b=_own(module.slider_2, body.controlnet_threshold_b),
    )
    params = Params(control=(unit,), control_only=True, txt2img=True)
    found = await _detected(services, caller, params, _inputs(module, images, masks))
    texts = [read_texts(each).get(POSES_TEXT) for each in found]
    poses = {"poses": [json.loads(each) for each in texts if each]} if any(texts) else {}
    return {"info": "Success", **poses, "images": [base64.b64encode(each).decode() for each in found]}


def _own(slider: Slider, value: float) -> Any:
    """A number for a unit; None if A1111 would use the module's default."""
    return value if slider.taken(value) == value else None


async def _inputs(module: Module, images: Sequence[str], masks: Sequence[str]) -> AsyncIterator[SentInput]:
    for number, image in enumerate(images):
        pictures = {"control/0": image}
        if module.inpaints:
            pictures["control/0/mask"] = masks[number]
        yield SentInput(pictures=pictures)


async def _detected(
    services: Services, caller: Principal, params: Params, inputs: AsyncIterator[SentInput]
) -> list[bytes]:
    """The results of a job, which is removed afterwards."""
    farm, tenant = services.farm, caller.tenant
    model = await farm.model(None, now=True)
    submission = await farm.begin(
        tenant,
        model,
        params,
        owner=caller.owner,
        keep=caller.allowed_keep(),
        priority=caller.allowed_priority(),
    )
    job_id = submission.job.id
    try:
        await write(services, caller, submission, inputs)
        await services.watch.finished(job_id, tenant)
        job = await farm.call(farm.ledger.job, job_id, tenant)
        return await farm.call(_results, services, job)
    except BaseException:
        await asyncio.shield(farm.cancel(tenant, [job_id]))
        raise


def _results(services: Services, job: Job) -> list[bytes]:
    store, found = services.farm.store, []
    for image in services.farm.ledger.images(job.id, job.tenant, 0, min(job.n, IMAGES)):
        if image.state is not ImageState.DONE:
            reason = image.reason or "it was cancelled"
            raise Problem(422 if is_refusal(reason) else 500, f"image {image.index} failed: {reason}")
        key = result_key(job.id, image.index, job.params.output_format)
        found.append(store.get(key))
        with suppress(FarmError):
            store.delete(key)
    return found
