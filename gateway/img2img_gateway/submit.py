"""Writes a job as a request brings it: its pictures as they come, within what the caller may have."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from img2img_gateway.access import Principal
from img2img_gateway.dependencies import Services
from img2img_gateway.memory_budget import MemoryBudget
from img2img_gateway.pictures import decode_base64, is_reference
from img2img_gateway.sent_file import SentFile
from img2img_gateway.webhook_store import Hook
from img2img_shared.errors import Refused, Summary
from img2img_shared.farm.intake import Source
from img2img_shared.farm.submission import Submission, Upload, Written
from img2img_shared.job import Job, picture_digest

#: a picture as a request brought it: a file, base64, or the key of what was uploaded before; or one of ours
Sent = SentFile | str | bytes


@dataclass(frozen=True, kw_only=True)
class SentInput:
    """One input as a request brought it."""

    #: by their roles
    pictures: Mapping[str, Sent]
    #: parameters of its own
    params: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    folder: str | None = None
    #: what it was sent as
    path: str | None = None


async def write(
    services: Services,
    principal: Principal,
    submission: Submission,
    inputs: AsyncIterator[SentInput],
    pictures: Mapping[str, Sent] | None = None,
    hook: Hook | None = None,
) -> Written:
    """Store `inputs` as they come, then commit the submission; `hook` is told what becomes of the job.

    Args:
        pictures: by their roles, for all inputs that bring none.

    Raises:
        Refused: an input, or the key's quota; nothing was submitted.
        StoreError: nothing was submitted.
        Unavailable: whether the job was written is not known, as `Submission.commit`.
    """
    farm = services.farm

    def prepare(job: Job) -> None:
        if principal.key is not None:
            services.quota.reserve(principal.key, job.id, job.n, job.idempotency_key)
        if hook is not None:  # before the job, which a quick worker may have ended right after
            services.hooks.add(job, hook)

    try:
        await _check_storage(services, principal)
        for role, picture in (pictures or {}).items():
            await farm.call(submission.set_picture, role, _source(services, picture, role))
        index = 0
        async for sent in inputs:
            if index >= farm.settings.max_inputs:
                raise Refused(
                    "inputs",
                    Summary(f"{index + 1:,} pictures"),
                    f"a job takes at most {farm.settings.max_inputs:,}; submit several jobs",
                )
            if index:  # of a large job, the first pictures may have taken all the room
                await _check_storage(services, principal)
            await farm.call(submission.add, _upload(services, sent, f"inputs[{index}]"))
            index += 1
        written = await farm.call(submission.commit, prepare)
    except BaseException:
        await asyncio.shield(farm.call(submission.abandon))
        raise
    if written.repeated and hook is not None:
        await farm.call(services.hooks.remove, submission.job.id)
    return written


async def store_picture(services: Services, principal: Principal, picture: Sent, field: str) -> str:
    """What names a picture to its tenant, "inputs/" and its SHA-256: put into the store now, or found there.

    Raises:
        Refused: names `field`.
        StoreError: the store does not take it.
    """
    await _check_storage(services, principal)
    source = _source(services, picture, field)
    key = await services.farm.call(services.farm.service.intake.upload, principal.tenant, source, field)
    return f"inputs/{picture_digest(key)}"


async def _check_storage(services: Services, principal: Principal) -> None:
    if principal.key is not None and principal.key.storage is not None:
        await services.farm.call(services.quota.check_storage, principal.key)


def _upload(services: Services, sent: SentInput, field: str) -> Upload:
    sources = {role: _source(services, picture, f"{field}.{role}") for role, picture in sent.pictures.items()}
    return Upload(pictures=sources, params=sent.params, name=sent.name, folder=sent.folder, path=sent.path)


def _source(services: Services, picture: Sent, field: str) -> Source:
    """A picture as the farm takes it: in memory only while it is being stored, as far as there is room."""
    largest = services.farm.settings.max_upload
    if isinstance(picture, bytes) or (isinstance(picture, str) and is_reference(picture)):
        return picture
    if isinstance(picture, str):
        return partial(_decode, services.pictures, picture, field, largest)
    if picture.size > largest:
        raise Refused(
            field, Summary(f"{picture.size:,} bytes"), f"send a picture of at most {largest:,} bytes"
        )
    return partial(_read, services.pictures, picture)


@contextmanager
def _decode(memory: MemoryBudget, text: str, field: str, largest: int) -> Iterator[bytes]:
    with memory.held_in_thread(2 * len(text)):
        yield decode_base64(text, field, largest)


@contextmanager
def _read(memory: MemoryBudget, sent: SentFile) -> Iterator[bytes]:
    with memory.held_in_thread(sent.size):
        yield sent.read()
