"""Requests that submit a job under ``/v1``, or change one."""

from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from img2img_gateway.json_route import INPUTS
from img2img_gateway.v1.api_model import ApiModel
from img2img_gateway.v1.examples import PIXEL, REFERENCE
from img2img_shared.errors import Refused
from img2img_shared.farm.checked_input import checked_input
from img2img_shared.input_fields import sort_fields
from img2img_shared.job import Folder, JobName, Tags
from img2img_shared.own_params import OF_THE_JOB
from img2img_shared.params import Params
from img2img_shared.refusals import TOLD, finding
from img2img_shared.roles import Role

#: a picture as base64 (bare or a data: URL), or the key of one that was uploaded: "inputs/" and its SHA-256
PictureText = Annotated[str, Field(min_length=1, examples=[REFERENCE])]


#: how long a job, its results and its inputs stay after its end: "30d", "12h", "90s", "forever"
Keep = Annotated[str, Field(max_length=30, pattern=r"^(forever|[0-9.]+[smhd]?)$", examples=["30d"])]


def _by_name(schema: dict[str, Any]) -> None:
    """Add to an input's schema that pictures by role, and parameters, may stand beside its other fields."""
    parameters = Params.model_json_schema(ref_template="#/components/schemas/{model}")["properties"]
    own = {name: each for name, each in parameters.items() if name not in OF_THE_JOB}
    picture = {"type": "string", "minLength": 1, "examples": [REFERENCE]}
    schema["properties"] |= dict.fromkeys(("image", "mask", "control/0"), picture) | {
        name: {key: value for key, value in each.items() if key != "default"} for name, each in own.items()
    }


class InputItem(ApiModel):
    """One input with its own pictures and parameters; what is left out, or null, is as the job has it.

    Instead of in `pictures` and `params`, these may stand beside the other fields: `image`, `mask`,
    `control/0`, ..., and any parameter except those of the whole job (`images_per_input`, `output_format`).
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=_by_name)

    pictures: dict[Role, PictureText] = {}
    """By role: image, mask, control/0, control/1, ..."""
    params: dict[str, Any] = {}
    name: Annotated[str, Field(max_length=255)] | None = None
    """What its results are called."""
    folder: Folder | None = None
    """The folder of its results, within all results."""
    path: Annotated[str, Field(max_length=4096)] | None = None
    """Where you have it: shown to people so that they can tell inputs apart, and never opened."""

    @model_validator(mode="before")
    @classmethod
    def _sorted(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        fields = dict(values)
        return {"path": fields.pop("path", None), **vars(sort_fields(fields))}


def _first_findings(items: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Validate each item by itself and with the job's parameters, up to `TOLD` findings."""
    if not isinstance(items, list):
        return validate(items)
    params = info.data.get("params")
    pictures = {*info.data.get("pictures", ()), *(["mask"] if info.data.get("mask") else [])}
    found: list[InputItem] = []
    wrong: list[InitErrorDetails] = []
    for index, item in enumerate(items):
        try:
            found += validate([item])
            own = found[-1]
            if params is not None:
                roles = {*pictures, *own.pictures}
                checked_input(
                    params, roles=roles, own=own.params, name=own.name, folder=own.folder, path=own.path
                )
        except ValidationError as error:
            all_found = error.errors(include_url=False)
            wrong += [_finding((index, *each["loc"][1:]), finding(each)) for each in all_found]
        except Refused as error:
            found_in_it = (error, *error.others)
            wrong += [_finding((index, *each.field.split(".")), each) for each in found_in_it]
        if len(wrong) > TOLD:
            break
    if wrong:
        raise ValidationError.from_exception_data("inputs", wrong)
    return found


def _finding(location: tuple[int | str, ...], error: Refused) -> InitErrorDetails:
    kind = PydanticCustomError("refused", "{reason}", {"reason": error.reason})
    return {"type": kind, "loc": location, "input": error.value}


class WebhookRequest(ApiModel):
    """Where to send a job's messages, which are signed as Standard Webhooks specifies."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(max_length=2000, pattern=r"^https?://")]
    events: Annotated[list[Literal["done", "failed", "image"]], Field(min_length=1)] = ["done", "failed"]
    """What to tell: the job's end ("done", or "failed" if some image failed), each image's end ("image")."""


class JobRequest(ApiModel):
    """``POST /v1/jobs``."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "params": {"prompt": "an oil painting", "denoising_strength": 0.4, "steps": 20},
                    "inputs": [{"image": PIXEL, "name": "harbour"}],
                }
            ]
        },
    )

    # params, mask and pictures come first: inputs are validated with them
    params: Params = Params()
    mask: PictureText | None = None
    """The mask for all inputs that bring none of their own."""
    pictures: dict[Role, PictureText] = {}
    """Pictures for all inputs that bring none of their own, by role: mask, control/0, control/1, ..."""
    inputs: Annotated[list[InputItem], Field(min_length=1, max_length=INPUTS), WrapValidator(_first_findings)]
    model: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """The checkpoint; left out: the only one that is served, else "demo"."""
    name: JobName | None = None
    """For people to find the job by."""
    tags: Tags = ()
    """Words to find it by."""
    keep: Keep | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] | None = None
    """Higher goes first; left out: 0, or the key's highest where that is lower."""
    webhook: WebhookRequest | None = None

    def all_pictures(self) -> dict[str, str]:
        """The pictures for all inputs that bring none of their own, by role."""
        return self.pictures | ({} if self.mask is None else {"mask": self.mask})


class KeepRequest(ApiModel):
    """``PUT /v1/jobs/{job}/keep``."""

    model_config = ConfigDict(extra="forbid")

    keep: Keep


class PriorityRequest(ApiModel):
    """``PUT /v1/jobs/{job}/priority``."""

    model_config = ConfigDict(extra="forbid")

    priority: Annotated[int, Field(ge=-100, le=100, examples=[10])]
