"""``/openai/v1/images``: edits, generations and variations, answered when the pictures are there."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import iterate_in_threadpool

from img2img_gateway.access import Caller, Principal
from img2img_gateway.dependencies import Services, ServicesDep
from img2img_gateway.json_route import FIELDS, JsonRoute
from img2img_gateway.multipart import Part, read_parts
from img2img_gateway.openai.alpha_mask import opaque_is_black
from img2img_gateway.openai.images_answer import ImagesAnswer
from img2img_gateway.openai.images_request import EditRequest, GenerationRequest, ImagesRequest, read_form
from img2img_gateway.problems import OPENAI, problem_response
from img2img_gateway.sdapi.call import Call
from img2img_gateway.sdapi.tasks import Task
from img2img_gateway.sent_file import SentFile
from img2img_gateway.submit import SentInput, write
from img2img_shared.errors import Refused, Summary
from img2img_shared.job import Job
from img2img_shared.step_count import steps_in_all

router = APIRouter(prefix="/images", tags=["OpenAI's image API"], route_class=JsonRoute)

#: pictures of one call
_PICTURES = 16
#: seconds between two looks at a picture under way
_LOOK = 0.5
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "allOf": [
                        EditRequest.model_json_schema(),
                        {
                            "type": "object",
                            "required": ["image"],
                            "properties": {
                                "image": {"type": "string", "format": "binary"},
                                "mask": {"type": "string", "format": "binary"},
                            },
                        },
                    ]
                }
            }
        },
    }
}


class Picture(BaseModel):
    """One of them, in one of two ways."""

    b64_json: str | None = None
    url: str | None = None


class ImagesResponse(BaseModel):
    """The pictures."""

    #: seconds since 1970
    created: Annotated[int, Field(examples=[1767225600])]
    data: list[Picture]
    size: str
    quality: str
    background: str
    output_format: str


@router.post("/edits", response_model=ImagesResponse, openapi_extra=_FORM, summary="Edit some pictures")
async def edits(request: Request, caller: Caller, services: ServicesDep) -> Response:
    """Repaint pictures by a prompt; with a mask, only where that is transparent.

    Several pictures (``image[]``) are each repainted. Fields that OpenAI does not know are the farm's own
    parameters: ``denoising_strength``, ``steps``, ``seed``, ...
    """
    with services.uploads.files(caller.tenant) as new_file:
        body, images, mask = await _read_form(request, services, new_file)
        return await _ImagesCall(services, caller, "image_edit", body, images, mask).respond(request)


@router.post("/variations", response_model=ImagesResponse, openapi_extra=_FORM, summary="Vary a picture")
async def variations(request: Request, caller: Caller, services: ServicesDep) -> Response:
    """Repaint a picture without a prompt; ``denoising_strength`` (0.75) says how freely."""
    with services.uploads.files(caller.tenant) as new_file:
        body, images, mask = await _read_form(request, services, new_file)
        if mask is not None:
            raise Refused("mask", Summary("a picture"), "leave it out; images/edits takes one")
        return await _ImagesCall(services, caller, "image_edit", body, images).respond(request)


@router.post("/generations", response_model=ImagesResponse, summary="Generate some pictures")
async def generations(
    request: Request, body: GenerationRequest, caller: Caller, services: ServicesDep
) -> Response:
    """Paint pictures from a prompt alone."""
    return await _ImagesCall(services, caller, "image_generation", body, []).respond(request)


async def _read_form(
    request: Request, services: Services, new_file: Callable[[], SentFile]
) -> tuple[EditRequest, list[SentFile], SentFile | None]:
    """Fields, pictures and mask, in whatever order they come."""
    fields: dict[str, str] = {}
    images: list[SentFile] = []
    mask: SentFile | None = None
    async for part in read_parts(request, services.farm.settings.max_upload, new_file):
        name = part.name.removesuffix("[]")
        if name == "image" and len(images) < _PICTURES:
            images.append(_file(part))
        elif name == "image":
            raise Refused("image", Summary(f"{len(images) + 1} pictures"), f"send at most {_PICTURES}")
        elif name == "mask":
            mask = _file(part)
        elif len(fields) < FIELDS:
            fields[name] = part.text
        else:
            raise Refused("body", Summary(f"more than {FIELDS} fields"), f"send at most {FIELDS}")
    if not images:
        raise Refused("image", None, "send a picture as a file")
    return read_form(fields), images, mask


def _file(part: Part) -> SentFile:
    if part.filename is None or not part.file.size:
        raise Refused(part.name, part.filename, "send a picture as a file that is not empty")
    return part.file


class _ImagesCall(Call):
    """One synchronous call of any of the three."""

    path = OPENAI[0]
    #: these clients look at the status alone, and wait for ten minutes
    patience = 3

    def __init__(
        self,
        services: Services,
        caller: Principal,
        kind: str,
        body: ImagesRequest,
        images: Sequence[SentFile],
        mask: SentFile | None = None,
    ) -> None:
        super().__init__(services, caller)
        self.kind = kind
        self._body = body
        self._params = body.params()
        self._images = images
        self._mask = mask
        self._base = ""
        self._job: Job | None = None
        self._answer: ImagesAnswer | None = None
        #: the last picture on the way that was told
        self._last: bytes | None = None
        self.steps = steps_in_all(self._params)
        self.keeps = body.response_format == "url"

    async def respond(self, request: Request) -> Response:
        """The pictures, or the events that lead to them."""
        self._base = str(request.base_url).rstrip("/")
        if not self._body.stream:
            if self._body.partial_images:
                raise Refused("partial_images", self._body.partial_images, "set stream, or give 0")
            return await self.answer(request)
        task = await self._begin()
        return StreamingResponse(self._events(task), media_type="text/event-stream")

    async def submit(self, jobs: list[str]) -> None:
        """One job, of all pictures."""
        farm = self._services.farm
        shared = {}
        if self._mask is not None:
            data, largest = self._mask.read(), farm.settings.max_pixels
            shared["mask"] = await farm.call(opaque_is_black, self._services, data, largest)
        model = await farm.model(self._body.wanted_model, now=True)
        submission = await farm.begin(
            self._caller.tenant,
            model,
            self._params,
            owner=self._caller.owner,
            keep=self._caller.allowed_keep(),
            priority=self._caller.allowed_priority(),
        )
        self._job = submission.job
        jobs.append(submission.job.id)
        await write(self._services, self._caller, submission, self._inputs(), shared)

    def answer_of(self, _task: Task) -> ImagesAnswer:
        """The pictures."""
        if self._answer is None:
            if self._job is None:
                raise ValueError("an answer before the job")
            self._answer = ImagesAnswer(self._services.farm, self._job, self._body, self._base)
        return self._answer

    async def _inputs(self) -> AsyncIterator[SentInput]:
        for image in self._images:
            yield SentInput(pictures={"image": image})
        if not self._images:
            yield SentInput(pictures={})

    async def _events(self, task: Task) -> AsyncIterator[bytes]:
        """What a stream tells: pictures on the way, then each that is done; or what went wrong."""
        rendering = asyncio.create_task(self._render(task))
        told = 0
        spoken = time.monotonic()
        try:
            while not rendering.done():
                await asyncio.wait([rendering], timeout=_LOOK)
                if told < self._body.partial_images and (jpeg := await self._partial(task.jobs[0])):
                    yield _event(self._partial_event(jpeg, told))
                    told, spoken = told + 1, time.monotonic()
                elif time.monotonic() - spoken > self._services.farm.settings.keep_alive:
                    yield b": still painting\n\n"
                    spoken = time.monotonic()
            try:
                rendering.result()
            except Exception as error:
                self._services.faults.tell_late("POST", OPENAI[0], error)
                told_error = json.loads(bytes(problem_response(OPENAI[0], error).body))
                yield _event({"type": "error", **told_error})
                return
            answer = self.answer_of(task)
            try:
                async for each in iterate_in_threadpool(answer.events(f"{self.kind}.completed")):
                    yield _event(each)
            finally:
                await self._tidy(answer)
        finally:
            rendering.cancel()

    async def _partial(self, job_id: str) -> bytes | None:
        """A JPEG of the first picture as it is, unless it has not changed since."""
        look = self._services.farm.previews.look
        jpeg = await self._services.farm.call(look, job_id, self._caller.tenant, 0)
        if jpeg == self._last:
            return None
        self._last = jpeg
        return jpeg

    def _partial_event(self, jpeg: bytes, number: int) -> dict[str, Any]:
        return {
            "type": f"{self.kind}.partial_image",
            "created_at": int(time.time()),
            "partial_image_index": number,
            "b64_json": base64.b64encode(jpeg).decode(),
            "size": self._body.size,
            "quality": self._body.quality,
            "background": self._body.background,
            "output_format": "jpeg",
        }


def _event(facts: dict[str, Any]) -> bytes:
    return f"event: {facts['type']}\ndata: {json.dumps(facts)}\n\n".encode()
