"""A job submitted as a multipart form: fields first, then pictures, read as they arrive."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from img2img_gateway.json_route import read_json
from img2img_gateway.multipart import Part
from img2img_gateway.submit import Sent, SentInput
from img2img_gateway.v1.job_request import WebhookRequest
from img2img_shared.errors import Refused, Summary
from img2img_shared.params import Params
from img2img_shared.refusals import read_params, refusal
from img2img_shared.roles import is_role

#: bytes that all fields before the pictures may have together; each counts `FIELD` bytes more than it has
FIELDS, FIELD = 2 * 1024 * 1024, 1024


@dataclass(frozen=True, kw_only=True)
class Head:
    """What a form says before its first `image`."""

    model: str | None
    params: Params
    #: of the job, for people
    name: str | None
    tags: list[str]
    #: how long it stays after its end
    keep: str | None
    priority: int | None
    webhook: WebhookRequest | None
    #: by role, for all inputs that bring none of their own
    pictures: Mapping[str, Sent]


class Form:
    """Reads the parts of a multipart body in their order: first `read_head`, then `inputs`."""

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
        pictures: dict[str, Sent] = {}
        async for part in self._parts:
            if part.name == "image":
                self._first = part
                break
            if part.name in fields or part.name in pictures:
                reason = "send each field once, and one picture of a role before the first image"
                raise Refused(part.name, Summary("given twice"), reason)
            if is_role(part.name):
                pictures[part.name] = _picture(part)
                continue
            room -= part.file.size + FIELD
            if room < 0:
                raise Refused(
                    "body",
                    Summary("a form with too much text"),
                    "send fewer or shorter fields before the pictures",
                )
            fields[part.name] = part.text
        model = fields.pop("model", None)
        name = fields.pop("name", None)
        tags = fields.pop("tags", "").split(",")
        keep = fields.pop("keep", None)
        priority = _priority(fields.pop("priority", None))
        webhook = _webhook(fields.pop("webhook", None))
        base = _json("params", fields.pop("params", "{}"))
        return Head(
            model=model or None,
            params=read_params({**base, **fields}),
            name=name or None,
            keep=keep or None,
            tags=[tag.strip() for tag in tags if tag.strip()],
            priority=priority,
            webhook=webhook,
            pictures=pictures,
        )

    async def inputs(self) -> AsyncIterator[SentInput]:
        """Each `image` with the parts that follow it.

        Raises:
            Refused: a field of the whole job comes after an image.
        """
        image = None if self._first is None else _Image(self._first)
        async for part in self._parts:
            if part.name == "image":
                if image is not None:
                    yield image.input()
                image = _Image(part)
            elif image is not None:
                image.add(part)
        if image is not None:
            yield image.input()


class _Image:
    """An image of a form, and the parts that follow it."""

    def __init__(self, image: Part) -> None:
        self._path = (image.filename or "").replace("\\", "/")[:4096] or None
        self._pictures: dict[str, Sent] = {"image": _picture(image)}
        self._params: dict[str, Any] | None = None

    def add(self, part: Part) -> None:
        if is_role(part.name):
            if part.name in self._pictures:
                raise Refused(part.name, Summary("given twice"), f"send one {part.name} after each image")
            self._pictures[part.name] = _picture(part)
        elif part.name == "params":
            if self._params is not None:
                raise Refused("params", Summary("given twice"), "send params once after each image")
            if part.file.size > FIELDS:
                size = Summary(f"{part.file.size:,} bytes")
                raise Refused("params", size, f"send at most {FIELDS:,} bytes")
            self._params = _json("params", part.text)
        else:
            reason = "send fields before the first image, or in params (JSON) after the image they are for"
            raise Refused(part.name, Summary("after a picture"), reason)

    def input(self) -> SentInput:
        name = PurePosixPath(self._path or "").stem[:255] or None
        return SentInput(pictures=self._pictures, params=self._params or {}, name=name, path=self._path)


def _picture(part: Part) -> Sent:
    """A file's bytes; of a field without a file name, its text: base64, or an upload's key."""
    if part.filename is not None and not part.file.size:
        raise Refused(part.name, part.filename, "send a picture; this file is empty")
    return part.text if part.filename is None else part.file


def _priority(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        raise Refused("priority", text, "give a whole number") from None


def _json(name: str, text: str) -> dict[str, Any]:
    found = read_json(text, name)
    if not isinstance(found, dict):
        raise Refused(name, text, 'send a JSON object, such as {"steps": 30}')
    return found


def _webhook(text: str | None) -> WebhookRequest | None:
    if text is None:
        return None
    try:
        return WebhookRequest.model_validate(_json("webhook", text))
    except ValidationError as error:
        raise refusal(error, "webhook.") from None
