"""A submitted form: fields first, then pictures, read as they come."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from img2img_gateway.json_route import read_json
from img2img_gateway.multipart import Part
from img2img_gateway.submit import Sent, SentInput
from img2img_gateway.v1.models import WebhookRequest
from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.refusals import read_params, refusal

_PICTURES = ("image", "mask")
#: bytes of all fields before the pictures, each of which counts for `FIELD` more than it has
FIELDS, FIELD = 2 * 1024 * 1024, 1024


@dataclass(frozen=True, kw_only=True)
class Head:
    """What a form says before its first picture."""

    model: str | None
    params: Params
    priority: int | None
    webhook: WebhookRequest | None
    #: for all inputs that bring none
    mask: Sent | None


class Form:
    """Reads a multipart body in its order."""

    def __init__(self, parts: AsyncIterator[Part]) -> None:
        self._parts = parts
        self._first: Part | None = None

    async def read_head(self) -> Head:
        """Everything up to the first picture.

        Raises:
            Refused: names the field.
        """
        fields: dict[str, str] = {}
        room = FIELDS
        mask: Sent | None = None
        async for part in self._parts:
            if part.name == "image":
                self._first = part
                break
            if part.name in fields or (part.name == "mask" and mask is not None):
                raise Refused(part.name, "given twice", "each field once, and one mask before the pictures")
            if part.name == "mask":
                mask = _picture(part)
                continue
            room -= part.file.size + FIELD
            if room < 0:
                raise Refused("body", "the form's fields", "fewer or shorter ones, before the pictures")
            fields[part.name] = part.text
        model = fields.pop("model", None)
        priority = _priority(fields.pop("priority", None))
        webhook = _webhook(fields.pop("webhook", None))
        base = _json("params", fields.pop("params", "{}"))
        return Head(
            model=model or None,
            params=read_params({**base, **fields}),
            priority=priority,
            webhook=webhook,
            mask=mask,
        )

    async def inputs(self) -> AsyncIterator[SentInput]:
        """The pictures, each with the mask that follows it.

        Raises:
            Refused: a field comes after them.
        """
        image = self._first
        mask: Sent | None = None
        async for part in self._parts:
            if part.name not in _PICTURES:
                raise Refused(part.name, "after a picture", "fields before the first picture")
            if part.name == "mask":
                if mask is not None:
                    raise Refused("mask", "given twice", "one mask after each picture")
                mask = _picture(part)
            else:
                if image is not None:
                    yield _input(image, mask)
                image, mask = part, None
        if image is not None:
            yield _input(image, mask)


def _input(image: Part, mask: Sent | None) -> SentInput:
    name = PurePosixPath((image.filename or "").replace("\\", "/")).stem
    return SentInput(image=_picture(image), mask=mask, own={"name": name[:255] or None})


def _picture(part: Part) -> Sent:
    """A file; of a field, base64 or a reference."""
    if part.filename is not None and not part.file.size:
        raise Refused(part.name, part.filename, "a picture; this file is empty")
    return part.text if part.filename is None else part.file


def _priority(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        raise Refused("priority", text, "a whole number") from None


def _json(name: str, text: str) -> dict[str, Any]:
    found = read_json(text, name)
    if not isinstance(found, dict):
        raise Refused(name, text, "a JSON object")
    return found


def _webhook(text: str | None) -> WebhookRequest | None:
    if text is None:
        return None
    try:
        return WebhookRequest.model_validate(_json("webhook", text))
    except ValidationError as error:
        raise refusal(error, "webhook.") from None
