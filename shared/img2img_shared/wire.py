"""The wire format of jobs and pages of inputs: msgpack, versioned, limited in size, checked by pydantic."""

from collections.abc import Callable
from typing import Any

import msgpack
from pydantic import TypeAdapter, ValidationError

from img2img_shared.errors import Refused, WireError
from img2img_shared.job import Input, Job
from img2img_shared.params import WRITTEN
from img2img_shared.refusals import unread

#: raised when a reader of the version before would misread a message. 2: an input has pictures by role and
#: parameters of its own, where it had a picture, a mask, prompts and a seed
VERSION = 2
#: bytes; a page of 1000 inputs with long prompts stays below
LIMIT = 64 * 1024 * 1024

_INPUTS = TypeAdapter(tuple[Input, ...])


def encode_job(job: Job) -> bytes:
    """A job as bytes for the ledger."""
    return _pack("job", job.model_dump(mode="json", exclude_defaults=True))


def decode_job(data: bytes) -> Job:
    """The job in `data`.

    Raises:
        WireError: it is not a job of this version, or is not valid any more.
    """
    try:
        return Job.model_validate(_unpack("job", data, _job_of_1), context=WRITTEN)
    except (ValidationError, Refused) as error:
        raise unread("job", error) from None


def encode_inputs(inputs: tuple[Input, ...]) -> bytes:
    """A page of inputs as bytes for the store."""
    return _pack("inputs", [item.model_dump(exclude_defaults=True) for item in inputs])


def decode_inputs(data: bytes) -> tuple[Input, ...]:
    """The page of inputs in `data`.

    Raises:
        WireError: it is not a page of this version, or is not valid any more.
    """
    try:
        return _INPUTS.validate_python(_unpack("inputs", data, _inputs_of_1))
    except (ValidationError, Refused) as error:
        raise unread("inputs", error) from None


def fingerprint(item: Input) -> bytes:
    """What distinguishes an input from another when a request is compared with its repeat.

    It has the format of version 1, so that a request may be repeated after an upgrade.
    """
    names = ("prompt", "negative_prompt", "seed")
    first = {name: item.params[name] for name in names if name in item.params}
    pictures = {role: item.pictures[role] for role in sorted(item.pictures)}
    told = {**pictures, **first, "name": item.name, "folder": item.folder, **item.params}
    flat = {name: value for name, value in told.items() if value is not None}
    return _pack("inputs", [flat], version=1)


def _job_of_1(body: Any) -> Any:
    return _with_pictures(body, ("mask",))


def _inputs_of_1(body: Any) -> Any:
    if not isinstance(body, list):
        return body
    found = []
    for item in body:
        rest = _with_pictures(item, ("image", "mask"))
        if isinstance(rest, dict):
            names = [name for name in ("prompt", "negative_prompt", "seed") if rest.get(name) is not None]
            rest["params"] = {name: rest.pop(name) for name in names}
        found.append(rest)
    return found


def _with_pictures(body: Any, roles: tuple[str, ...]) -> Any:
    """A body of version 1, with pictures moved to where version 2 has them."""
    if not isinstance(body, dict):
        return body
    pictures = {role: body[role] for role in roles if body.get(role) is not None}
    return {name: value for name, value in body.items() if name not in roles} | {"pictures": pictures}


def _pack(kind: str, body: Any, version: int | None = None) -> bytes:
    data: bytes = msgpack.packb({"v": version or VERSION, "kind": kind, "body": body})
    return data


def _unpack(kind: str, data: bytes, of_1: Callable[[Any], Any]) -> Any:
    if len(data) > LIMIT:
        raise WireError(f"{kind}: {len(data)} bytes; at most {LIMIT} are read")
    try:
        message = msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(f"{kind}: not msgpack ({error})") from None
    if not isinstance(message, dict) or message.keys() != {"v", "kind", "body"}:
        raise WireError(f"{kind}: a map of v, kind and body is wanted")
    if message["v"] not in range(1, VERSION + 1):
        raise WireError(f"{kind}: written by version {message['v']!r}; this one reads {VERSION}")
    if message["kind"] != kind:
        raise WireError(f"{kind}: the message is a {message['kind']!r}")
    return of_1(message["body"]) if message["v"] == 1 else message["body"]
