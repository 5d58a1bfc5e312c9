"""Writes a job as a request brings it: its pictures as they come, within what the caller may have."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from img2img_gateway.access import Principal
from img2img_gateway.dependencies import Services
from img2img_gateway.pictures import decode_base64, is_reference
from img2img_gateway.webhook_store import Hook
from img2img_shared.errors import Refused
from img2img_shared.farm.submission import Source, Submission, Upload, Written, put_source
from img2img_shared.job import Job


@dataclass(frozen=True, kw_only=True)
class SentInput:
    """One input as a request brought it: bytes, base64, or the key of what was uploaded before."""

    image: bytes | str
    mask: bytes | str | None = None
    #: what else `Input` has
    own: Mapping[str, Any]


async def write(
    parts: Services,
    principal: Principal,
    submission: Submission,
    inputs: AsyncIterator[SentInput],
    mask: bytes | str | None = None,
    hook: Hook | None = None,
) -> Written:
    """Store `inputs` as they come, then commit the submission; `hook` is told what becomes of the job.

    Raises:
        Refused: an input, or the key's quota; nothing was submitted.
        StoreError: nothing was submitted.
        Unavailable: whether the job was written is not known, as `Submission.commit`.
    """
    core, largest = parts.core, parts.core.settings.max_upload

    def prepare(job: Job) -> None:
        if principal.key is not None:
            parts.quota.reserve(principal.key, job.id, job.n, job.idempotency_key)
        if hook is not None:  # before the job, which a quick worker may have ended right after
            parts.hooks.add(job, hook)

    try:
        if mask is not None:
            await core.call(submission.set_mask, _source(mask, "mask", largest))
        index = 0
        async for sent in inputs:
            if index >= core.settings.max_inputs:
                raise Refused("inputs", index + 1, f"at most {core.settings.max_inputs} pictures")
            await core.call(submission.add, _upload(sent, f"inputs[{index}]", largest))
            index += 1
        written = await core.call(submission.commit, prepare)
    except BaseException:
        await asyncio.shield(core.call(submission.abandon))
        raise
    if written.repeated and hook is not None:
        await core.call(parts.hooks.remove, submission.job.id)
    return written


async def stored(parts: Services, picture: bytes | str, field: str) -> str:
    """The key of a picture: put into the store now, or found there.

    Raises:
        Refused: names `field`.
        StoreError: the store does not take it.
    """
    source = _source(picture, field, parts.core.settings.max_upload)
    return await parts.core.call(put_source, parts.core.store, source, field)


def _upload(sent: SentInput, field: str, largest: int) -> Upload:
    mask = None if sent.mask is None else _source(sent.mask, f"{field}.mask", largest)
    return Upload(image=_source(sent.image, f"{field}.image", largest), mask=mask, own=sent.own)


def _source(picture: bytes | str, field: str, largest: int) -> Source:
    """A picture as the farm takes it. Base64 is read in the thread that stores it."""
    if isinstance(picture, bytes):
        if len(picture) > largest:
            raise Refused(field, f"{len(picture)} bytes", f"at most {largest} bytes")
        return picture
    if is_reference(picture):
        return picture
    return partial(decode_base64, picture, field, largest)
