"""How jobs and pages of inputs are written: msgpack, versioned, size-limited, checked by pydantic."""

from typing import Any

import msgpack
from pydantic import TypeAdapter, ValidationError

from img2img_shared.errors import Refused, WireError
from img2img_shared.job import Input, Job
from img2img_shared.params import WRITTEN
from img2img_shared.refusals import refusal

#: raised when a reader of the version before would misread a message
VERSION = 1
#: bytes; a page of 1000 inputs with long prompts stays below
LIMIT = 64 * 1024 * 1024

_INPUTS = TypeAdapter(tuple[Input, ...])


def encode_job(job: Job) -> bytes:
    """A job as bytes for the ledger."""
    return _pack("job", job.model_dump(mode="json", exclude_defaults=True))


def decode_job(data: bytes) -> Job:
    """The job in `data`.

    Raises:
        WireError: not a job of this version, or one that no longer validates.
    """
    try:
        return Job.model_validate(_unpack("job", data), context=WRITTEN)
    except ValidationError as error:
        raise WireError(f"job: {refusal(error)}") from None
    except Refused as error:
        raise WireError(f"job: {error}") from None


def encode_inputs(inputs: tuple[Input, ...]) -> bytes:
    """A page of inputs as bytes for the store."""
    return _pack("inputs", [item.model_dump(exclude_defaults=True) for item in inputs])


def decode_inputs(data: bytes) -> tuple[Input, ...]:
    """The page of inputs in `data`.

    Raises:
        WireError: not a page of this version, or one that no longer validates.
    """
    try:
        return _INPUTS.validate_python(_unpack("inputs", data))
    except ValidationError as error:
        raise WireError(f"inputs: {refusal(error)}") from None
    except Refused as error:
        raise WireError(f"inputs: {error}") from None


def _pack(kind: str, body: Any) -> bytes:
    data: bytes = msgpack.packb({"v": VERSION, "kind": kind, "body": body})
    return data


def _unpack(kind: str, data: bytes) -> Any:
    if len(data) > LIMIT:
        raise WireError(f"{kind}: {len(data)} bytes; at most {LIMIT} are read")
    try:
        message = msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(f"{kind}: not msgpack ({error})") from None
    if not isinstance(message, dict) or message.keys() != {"v", "kind", "body"}:
        raise WireError(f"{kind}: a map of v, kind and body is wanted")
    if message["v"] != VERSION:
        raise WireError(f"{kind}: written by version {message['v']!r}; this one reads {VERSION}")
    if message["kind"] != kind:
        raise WireError(f"{kind}: the message is a {message['kind']!r}")
    return message["body"]
