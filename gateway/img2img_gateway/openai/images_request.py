"""What OpenAI's clients ask for, as the farm's parameters."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from img2img_shared.param_groups.prompt_params import Text
from img2img_shared.params import Params
from img2img_shared.refusals import read_params, refusal

#: names of OpenAI's own models, which clients send by default: they mean the farm's default model
_THEIRS = re.compile(r"(gpt-image|chatgpt-image|dall-e)[a-z0-9.-]*")
_SIZE = r"^(auto|\d{2,4}x\d{2,4})$"
#: sampling steps of a quality; "auto" and "standard" are the farm's default
_STEPS = {"low": 12, "medium": 20, "high": 30, "hd": 30, "xhigh": 40, "max": 50}
#: the compression that a PNG may have, as the default of some clients: it loses nothing
_WHOLE = 100
#: strength of an edit that is to keep more, or less, of its picture
_STRENGTHS = {"high": 0.5, "low": 0.75}


class ImagesRequest(BaseModel):
    """What all three calls have in common. Fields that it does not name are the farm's own parameters."""

    model_config = ConfigDict(extra="allow")

    prompt: Text = ""
    model: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="A checkpoint that is served; OpenAI's own names mean the farm's default.",
        ),
    ] = None
    n: Annotated[int, Field(ge=1, le=10, description="How many results to make of each picture.")] = 1
    size: Annotated[
        str,
        Field(
            max_length=9,
            pattern=_SIZE,
            description="WIDTHxHEIGHT; auto: that of the picture, or the model's own.",
        ),
    ] = "auto"
    quality: Annotated[
        Literal["auto", "standard", "low", "medium", "high", "hd", "xhigh", "max"],
        Field(description="Steps: 12, 20, 30, 40 or 50, unless `steps` is given."),
    ] = "auto"
    response_format: Annotated[
        Literal["b64_json", "url"],
        Field(description="The pictures themselves, or where they can be fetched for an hour."),
    ] = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    output_compression: (
        Annotated[int, Field(ge=0, le=100, description="Quality of JPEG and WebP.")] | None
    ) = None
    background: Annotated[
        Literal["auto", "opaque"], Field(description="Transparent pictures are not supported.")
    ] = "auto"
    stream: Annotated[bool, Field(description="Answer by server-sent events.")] = False
    partial_images: Annotated[
        int, Field(ge=0, le=3, description="With `stream`: how many previews of the first picture to send.")
    ] = 0
    moderation: Annotated[
        Literal["auto", "low"], Field(description="Changes nothing: nothing is moderated here.")
    ] = "auto"
    user: Annotated[
        str | None, Field(max_length=1000, description="Changes nothing: a key says who calls.")
    ] = None
    safety_identifier: Annotated[
        str | None, Field(max_length=1000, description="Changes nothing, as `user`.")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value is not None}

    def params(self) -> Params:
        """As the farm takes them.

        Raises:
            Refused: names the field.
        """
        return read_params({**self._own_params(), **(self.model_extra or {})})

    @property
    def wanted_model(self) -> str | None:
        """The farm's model; None: its default one."""
        return None if self.model is None or _THEIRS.fullmatch(self.model) else self.model

    def _own_params(self) -> dict[str, Any]:
        meant: dict[str, Any] = {
            "prompt": self.prompt,
            "images_per_input": self.n,
            "output_format": self.output_format,
        }
        is_whole = self.output_format == "png" and self.output_compression == _WHOLE
        if self.output_compression is not None and not is_whole:
            meant["quality"] = max(1, self.output_compression)
        if self.quality in _STEPS:
            meant["steps"] = _STEPS[self.quality]
        if self.size == "auto":
            if not {"width", "height"} & set(self.model_extra or {}):
                meant["fit"] = 0
        else:
            meant["width"], meant["height"] = map(int, self.size.split("x"))
        return meant


class GenerationRequest(ImagesRequest):
    """A picture from a text."""

    style: Annotated[
        Literal["vivid", "natural"] | None, Field(description="Changes nothing: a style is the prompt's.")
    ] = None

    def _own_params(self) -> dict[str, Any]:
        return {**super()._own_params(), "txt2img": True}


class EditRequest(ImagesRequest):
    """Pictures from pictures."""

    input_fidelity: Annotated[
        Literal["low", "high"] | None,
        Field(
            description="high: a denoising strength of 0.5, not 0.75, unless `denoising_strength` is given."
        ),
    ] = None

    def _own_params(self) -> dict[str, Any]:
        meant = super()._own_params()
        if self.input_fidelity is not None:
            meant["denoising_strength"] = _STRENGTHS[self.input_fidelity]
        return meant


def read_form(fields: Mapping[str, str]) -> EditRequest:
    """A request from a form's fields.

    Raises:
        Refused: names the field.
    """
    try:
        return EditRequest.model_validate(dict(fields))
    except ValidationError as error:
        raise refusal(error) from None
