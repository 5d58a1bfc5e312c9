"""``img2img`` and ``txt2img``: A1111's synchronous calls, which answer when the pictures are ready."""

from collections.abc import AsyncIterator, Mapping, Sequence

from fastapi import APIRouter, Request, Response

from img2img_gateway.access import Caller, Principal
from img2img_gateway.dependencies import Services, ServicesDep
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.sdapi.answer import Answer
from img2img_gateway.sdapi.call import Call
from img2img_gateway.sdapi.control_units import forget_pictures
from img2img_gateway.sdapi.request import (
    Img2ImgRequest,
    RenderResponse,
    Txt2ImgRequest,
)
from img2img_gateway.sdapi.request_reading import Reader, Reading
from img2img_gateway.sdapi.tasks import Task
from img2img_gateway.submit import SentInput, store_picture, write
from img2img_shared.errors import Refused, Summary
from img2img_shared.farm.submission import draw_seeds
from img2img_shared.modes import InpaintingFill
from img2img_shared.params import Params
from img2img_shared.seeds import CONTROL_SEEDS, control_seed, seeds_of
from img2img_shared.step_count import steps_in_all

router = APIRouter(prefix="/sdapi/v1", tags=["AUTOMATIC1111: renders"], route_class=JsonRoute)


@router.post("/img2img", summary="Render from pictures, A1111's way", response_model=RenderResponse)
async def img2img(request: Request, body: Img2ImgRequest, caller: Caller, services: ServicesDep) -> Response:
    """Render from pictures, and answer when the results are ready.

    During a long call, whitespace is sent every 15 seconds ahead of the JSON, so that no proxy thinks it
    idle. If the call fails after that, its body is an error's (``error``, ``detail``, no ``images``),
    although its status is 200. A caller that hangs up stops the render unless it asked for ``save_images``.
    """
    if not body.init_images:
        raise Refused("init_images", body.init_images, "send at least one picture as base64")
    reading = await Reader(services.farm, caller.tenant).read(body)
    return await _Render(services, caller, "img2img", reading).answer(request)


@router.post("/txt2img", summary="Render from text, A1111's way", response_model=RenderResponse)
async def txt2img(request: Request, body: Txt2ImgRequest, caller: Caller, services: ServicesDep) -> Response:
    """Render from pure noise, and answer when the pictures are ready; see img2img."""
    reading = await Reader(services.farm, caller.tenant).read(body)
    return await _Render(services, caller, "txt2img", reading).answer(request)


class _Render(Call):
    """One synchronous render."""

    def __init__(self, services: Services, caller: Principal, kind: str, reading: Reading) -> None:
        super().__init__(services, caller)
        self._reading = reading
        self._body = reading.body
        self.kind = kind
        self.steps = steps_in_all(reading.params)
        self.task_id = reading.body.force_task_id
        self.keeps = reading.body.save_images

    async def submit(self, jobs: list[str]) -> None:
        """Submit a job for each iteration of each render."""
        body, first = self._body, self._reading.renders[0].body  # a script may leave pictures out
        images, mask = await self._pictures(first) if isinstance(first, Img2ImgRequest) else ([None], None)
        shared = {"mask": mask} if mask else {}
        for role, picture in self._reading.control_pictures.items():
            shared[role] = await store_picture(self._services, self._caller, picture, role)
        if not getattr(body, "include_init_images", False):
            for each in (self._reading, *self._reading.of_script):
                _forget(each, mask)
        for each in self._reading.renders:
            await self._submit_render(each, images, shared, jobs)

    async def _submit_render(
        self, reading: Reading, images: Sequence[str | None], shared: Mapping[str, str], jobs: list[str]
    ) -> None:
        """Submit a job for each iteration, whose seeds continue those of the one before."""
        body, params, per_job = reading.body, reading.params, reading.body.batch_size
        params = draw_seeds(params)
        if len(images) > 1:  # a batch of different pictures: one output each
            per_job = len(images)
            params = params.model_copy(update={"images_per_input": 1})
        for iteration in range(body.n_iter):
            shifted = _shifted(params, iteration * per_job)
            submission = await self._services.farm.begin(
                self._caller.tenant,
                reading.model,
                shifted,
                owner=self._caller.owner,
                keep=self._caller.allowed_keep(),
                priority=self._caller.allowed_priority(),
                sets_tags_aside=True,  # with a warning, or strictly refused by now
                draws_seeds=False,
            )
            jobs.append(submission.job.id)
            await write(self._services, self._caller, submission, _inputs(images), shared)

    async def _pictures(self, body: Img2ImgRequest) -> tuple[list[str], str | None]:
        """Store keys of the init pictures and the mask."""
        images = body.init_images or []
        if len(images) > 1 and len(images) > body.batch_size:
            raise Refused(
                "init_images",
                Summary(f"{len(images)} pictures"),
                f"send at most batch_size, {body.batch_size}",
            )
        keys = [
            await store_picture(self._services, self._caller, each, f"init_images.{i}")
            for i, each in enumerate(images)
        ]
        mask = await store_picture(self._services, self._caller, body.mask, "mask") if body.mask else None
        return keys, mask

    def answer_of(self, task: Task) -> Answer:
        """The pictures, the request, and A1111's account of them."""
        return Answer(self._services.farm, self._caller.tenant, task, self._reading)


def _forget(reading: Reading, mask: str | None) -> None:
    """Drop the pictures, which have been stored: a call may wait for hours."""
    body = reading.body
    if isinstance(body, Img2ImgRequest):
        body.init_images, body.mask = None, mask
    forget_pictures(body.alwayson_scripts)
    reading.control_pictures.clear()


async def _inputs(images: Sequence[str | None]) -> AsyncIterator[SentInput]:
    for image in images:
        yield SentInput(pictures={} if image is None else {"image": image})


def _shifted(params: Params, offset: int) -> Params:
    """`params` for images `offset` places later in the count of seeds.

    The noise under a mask and the preprocessors' stay the same. (A1111 calls
    `StableDiffusionProcessingImg2Img.init` and scripts' `process` once for all iterations.)
    """
    seed, subseed = seeds_of(params.seed, params.subseed, params.subseed_strength, offset)
    changes = {"seed": seed, "subseed": subseed}
    if params.control and offset:
        first = control_seed(params.seed, params.control_subseed)
        changes["control_subseed"] = (first - max(seed, 0)) % CONTROL_SEEDS
    if params.inpainting_fill == InpaintingFill.LATENT_NOISE and not params.subseed_strength:
        changes["fill_noise_seed_delta"] = -offset
    return params.model_copy(update=changes)
