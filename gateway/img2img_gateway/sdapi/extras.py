"""``extra-single-image`` and ``extra-batch-images``: A1111's Extras, as images of the farm like any other."""

import base64
import html
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from img2img_gateway.access import Caller, Principal
from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.dependencies import Services, ServicesDep
from img2img_gateway.gateway_errors import Problem
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.sdapi.answer import done_images
from img2img_gateway.sdapi.call import Call
from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.option_table import SENDS_TEXTS, parameters_of
from img2img_gateway.sdapi.request import MOST_IMAGES, Name, Whole
from img2img_gateway.sdapi.tasks import Task
from img2img_gateway.sdapi.tenant_options import Options
from img2img_gateway.submit import SentInput, store_picture, write
from img2img_shared.errors import FarmError, Refused, Unavailable
from img2img_shared.extras_report import extras_infotext
from img2img_shared.job import result_key
from img2img_shared.param_fields import EXTRAS_FIELDS
from img2img_shared.params import Params
from img2img_shared.picture_texts import without_texts
from img2img_shared.refusals import read_params

router = APIRouter(prefix="/sdapi/v1", tags=["AUTOMATIC1111: renders"], route_class=JsonRoute)

#: of what A1111's settings say, all that has a part in these pictures
_OPTIONS = frozenset(
    {
        *("samples_format", "jpeg_quality"),
        *("ESRGAN_tile", "ESRGAN_tile_overlap", "DAT_tile", "DAT_tile_overlap"),
        *("SWIN_tile", "SWIN_tile_overlap", "SCUNET_tile", "SCUNET_tile_overlap"),
    }
)
_OF_A_SIZE = ("upscaling_resize_w", "upscaling_resize_h", "upscaling_crop")


class _ExtrasRequest(BaseModel):
    """The fields that both requests share, with A1111's defaults. Names unknown to A1111 are ignored."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    #: 0: by `upscaling_resize`; 1: to cover a width and a height
    resize_mode: Literal[0, 1] = 0
    #: of no effect, as in A1111: it is about pictures of a folder
    show_extras_results: bool = True
    gfpgan_visibility: Annotated[float, Field(ge=0, le=1)] = 0
    codeformer_visibility: Annotated[float, Field(ge=0, le=1)] = 0
    codeformer_weight: Annotated[float, Field(ge=0, le=1)] = 0
    upscaling_resize: Annotated[float, Field(gt=0)] = 2
    upscaling_resize_w: Annotated[Whole, Field(ge=1)] = 512
    upscaling_resize_h: Annotated[Whole, Field(ge=1)] = 512
    upscaling_crop: bool = True
    upscaler_1: Name = "None"
    upscaler_2: Name = "None"
    extras_upscaler_2_visibility: Annotated[float, Field(ge=0, le=1)] = 0
    #: of no effect, as in A1111: faces are always restored last
    upscale_first: bool = False

    @field_validator("*", mode="before")
    @classmethod
    def _null_means_the_default(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields.get(info.field_name or "")
        return field.default if value is None and field and not field.is_required() else value

    def params(self, options: Mapping[str, Any]) -> Params:
        """The farm's parameters for it.

        Args:
            options: the tenant's options.

        Raises:
            Refused: names the field.
        """
        own = {name: getattr(self, name) for name in EXTRAS_FIELDS}
        if not self.resize_mode:
            own = {name: value for name, value in own.items() if name not in _OF_A_SIZE}
        set_there = {name: value for name, value in options.items() if name in _OPTIONS}
        found = parameters_of(set_there, "Euler", txt2img=False)
        return read_params({**found, **own, "extras": True})


class ExtrasSingleRequest(_ExtrasRequest):
    """``POST /sdapi/v1/extra-single-image``."""

    image: str = ""


class ExtrasFile(BaseModel):
    """One of several pictures."""

    data: str
    name: Annotated[str, Field(max_length=1000)]


class ExtrasBatchRequest(_ExtrasRequest):
    """``POST /sdapi/v1/extra-batch-images``."""

    image_list: Annotated[list[ExtrasFile], Field(alias="imageList", min_length=1, max_length=MOST_IMAGES)]


class ExtrasSingleResponse(BaseModel):
    """A1111's answer."""

    #: what was done, in a paragraph of HTML
    html_info: str
    #: base64, without a data: prefix
    image: str


class ExtrasBatchResponse(BaseModel):
    """A1111's answer."""

    html_info: str
    images: list[str]


@router.post("/extra-single-image", summary="Enlarge one picture", response_model=ExtrasSingleResponse)
async def extra_single_image(
    request: Request, body: ExtrasSingleRequest, caller: Caller, services: ServicesDep
) -> Response:
    """Enlarge a picture, and answer when it is ready; see img2img."""
    if not body.image:
        raise Refused("image", body.image, "send a picture as base64")
    options = await _options(body, caller, services)
    files = [ExtrasFile(data=body.image, name="")]
    call = _Extras(services, caller, body.params(options), files, options, is_single=True)
    body.image = ""  # a call may wait for hours, and need not hold what it brought
    return await call.answer(request)


@router.post("/extra-batch-images", summary="Enlarge several pictures", response_model=ExtrasBatchResponse)
async def extra_batch_images(
    request: Request, body: ExtrasBatchRequest, caller: Caller, services: ServicesDep
) -> Response:
    """Enlarge pictures, and answer when all are ready; see img2img."""
    options = await _options(body, caller, services)
    call = _Extras(services, caller, body.params(options), body.image_list, options, is_single=False)
    body.image_list = []
    return await call.answer(request)


async def _options(body: _ExtrasRequest, caller: Principal, services: Services) -> Mapping[str, Any]:
    """The tenant's options; fields of the request without effect are set aside."""
    lenient = Leniency(strict=services.farm.settings.strict)
    for name, value in (body.model_extra or {}).items():
        lenient.set_aside(name, value, "there is no such field", told=False)
    return await Options(services.farm, caller.tenant).chosen()


class _Extras(Call):
    """One call, one job."""

    kind = "extras"

    def __init__(
        self,
        services: Services,
        caller: Principal,
        params: Params,
        files: list[ExtrasFile],
        options: Mapping[str, Any],
        *,
        is_single: bool,
    ) -> None:
        super().__init__(services, caller)
        self._params = params
        self._files = files
        self._has_texts = bool(options.get(SENDS_TEXTS, True))
        self._is_single = is_single

    async def submit(self, jobs: list[str]) -> None:
        """Submit one job, with an input for each picture.

        Raises:
            Unavailable: there is no live worker.
        """
        farm = self._services.farm
        if not farm.service.is_embedded and not await farm.workers():
            raise Unavailable("no worker is running at the moment")
        keys = []
        for index, file in enumerate(self._files):
            field = "image" if self._is_single else f"imageList.{index}.data"
            keys.append((await store_picture(self._services, self._caller, file.data, field), file.name))
        self._files = []
        priority = self._caller.allowed_priority()
        submission = await farm.begin(
            self._caller.tenant,
            None,
            self._params,
            owner=self._caller.owner,
            keep=self._caller.allowed_keep(),
            priority=priority,
        )
        jobs.append(submission.job.id)
        await write(self._services, self._caller, submission, _inputs(keys), {})

    def answer_of(self, task: Task) -> "_Answer":
        """The pictures, and the account of what was done."""
        return _Answer(
            self._services.farm,
            self._caller.tenant,
            task,
            extras_infotext(self._params),
            has_texts=self._has_texts,
            is_single=self._is_single,
        )


class _Answer:
    """The answer of one call that has ended; holds one picture in memory at a time."""

    def __init__(
        self, farm: AsyncFarm, tenant: str, task: Task, account: str, *, has_texts: bool, is_single: bool
    ) -> None:
        self._farm = farm
        self._tenant = tenant
        self._task = task
        self._account = account
        self._has_texts = has_texts
        self._is_single = is_single
        self._keys: list[str] = []

    def read(self) -> None:
        """Look up the images.

        Raises:
            Problem: an image failed, with its reason.
                Or its only one was stopped.
        """
        for job_id in self._task.jobs:
            job = self._farm.ledger.job(job_id, self._tenant)
            for index in done_images(self._farm.ledger, job, self._tenant):
                self._keys.append(result_key(job.id, index, job.params.output_format))
        if self._is_single and not self._keys:
            raise Problem(500, "it was stopped before its picture was made")

    def parts(self) -> Iterator[bytes]:
        """The answer's JSON, piece by piece."""
        yield b'{"image": ' if self._is_single else b'{"images": ['
        for number, key in enumerate(self._keys):
            yield b", " if number else b""
            picture = self._farm.store.get(key)
            sent = picture if self._has_texts else without_texts(picture)
            yield b'"' + base64.b64encode(sent) + b'"'
        yield b"" if self._is_single else b"]"
        yield b', "html_info": ' + json.dumps(f"<p>{html.escape(self._account)}</p>").encode() + b"}"

    def remove(self) -> None:
        """Remove the pictures; the job stays in the ledger for its time."""
        for job_id in self._task.jobs:
            with suppress(FarmError):
                job = self._farm.ledger.job(job_id, self._tenant)
                for index in range(job.n):
                    self._farm.store.delete(result_key(job.id, index, job.params.output_format))


async def _inputs(keys: list[tuple[str, str]]) -> AsyncIterator[SentInput]:
    for key, name in keys:
        label = PurePosixPath(name.replace("\\", "/")).stem[:255]
        yield SentInput(pictures={"image": key}, name=label or None)
