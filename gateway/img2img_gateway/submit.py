"""Writes a job: its pictures into the store as they come, its pages, its record, its tickets."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from img2img_gateway.access import Principal
from img2img_gateway.dependencies import Services
from img2img_gateway.pictures import decode_base64, is_reference
from img2img_gateway.webhook_store import Hook
from img2img_producer.parameters import draw_seeds
from img2img_producer.upload import remove_pages
from img2img_shared.errors import FarmError, Refused
from img2img_shared.job import PAGE, Input, Job, inputs_key
from img2img_shared.params import Params, refusal
from img2img_shared.wire import encode_inputs

#: pictures on their way to the store at a time: so many are in memory, and no more
AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One input as a request brought it: bytes, or the key of what was uploaded before."""

    image: bytes | str
    mask: bytes | str | None = None
    #: what else `Input` has
    own: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Written:
    """A job that lies in the ledger."""

    id: str
    #: its idempotency key had made it before
    repeated: bool


def new_job(
    principal: Principal, model: str, params: Params, *, priority: int = 0, idempotency_key: str | None = None
) -> Job:
    """A job of one input, with its seeds drawn: what is wrong with a request is said before it is read.

    Raises:
        Refused: names the field.
    """
    try:
        return Job(
            id=secrets.token_hex(8),
            tenant=principal.tenant,
            model=model,
            params=draw_seeds(params),
            n_inputs=1,
            priority=priority,
            idempotency_key=idempotency_key,
        )
    except ValidationError as error:
        raise refusal(error) from None


async def write(
    parts: Services,
    principal: Principal,
    job: Job,
    uploads: AsyncIterator[Upload],
    mask: bytes | str | None = None,
    hook: Hook | None = None,
) -> Written:
    """Store `uploads` as they come, then write `job` with as many inputs; `hook` is told what becomes of it.

    Raises:
        Refused: an input, or the key's quota.
        StoreError, Unavailable: nothing was submitted.
    """
    core = parts.core
    await core.serve(job.model)
    try:
        mask_key = await stored(parts, mask, "mask")
        count = await _write_pages(parts, job.id, uploads)
        job = job.model_copy(update={"n_inputs": count, "mask": mask_key})
        if principal.key is not None:
            await core.call(parts.quota.reserve, principal.key, job.id, job.n, job.idempotency_key)
        if hook is not None:  # before the job, which a quick worker may have ended right after
            await core.call(parts.hooks.add, job, hook)
        written = await core.call(core.ledger.submit, job)
    except BaseException:
        with suppress(FarmError):
            await asyncio.shield(core.call(remove_pages, core.store, job.id))
        raise
    if written != job.id:
        await core.call(remove_pages, core.store, job.id)
        await core.call(parts.hooks.remove, job.id)
    await core.notify_workers(job.model)
    return Written(id=written, repeated=written != job.id)


async def _write_pages(parts: Services, job_id: str, uploads: AsyncIterator[Upload]) -> int:
    page: list[Input] = []
    count = 0
    async for item in _in_order(parts, uploads):
        page.append(item)
        count += 1
        if len(page) == PAGE:
            await _write_page(parts, job_id, count, page)
            page = []
    if page:
        await _write_page(parts, job_id, count, page)
    if not count:
        raise Refused("inputs", [], "at least one picture")
    return count


async def _write_page(parts: Services, job_id: str, count: int, page: list[Input]) -> None:
    key = inputs_key(job_id, (count - 1) // PAGE)
    await parts.core.call(parts.core.store.put, key, encode_inputs(tuple(page)))


async def _in_order(parts: Services, uploads: AsyncIterator[Upload]) -> AsyncIterator[Input]:
    under_way: deque[asyncio.Task[Input]] = deque()
    try:
        index = 0
        async for upload in uploads:
            if index >= parts.core.settings.max_inputs:
                raise Refused("inputs", index + 1, f"at most {parts.core.settings.max_inputs} pictures")
            under_way.append(asyncio.create_task(_input(parts, upload, f"inputs[{index}]")))
            index += 1
            if len(under_way) >= AT_ONCE:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _input(parts: Services, upload: Upload, field: str) -> Input:
    try:
        checked = Input(image="inputs/" + "0" * 64, **upload.own)
    except ValidationError as error:
        raise refusal(error, f"{field}.") from None
    image = await stored(parts, upload.image, f"{field}.image")
    mask = await stored(parts, upload.mask, f"{field}.mask")
    return checked.model_copy(update={"image": image, "mask": mask})


async def stored(parts: Services, picture: bytes | str | None, field: str) -> str | None:
    """The key of a picture: put into the store now, or found there; of none, None.

    Raises:
        Refused: names `field`.
        StoreError: the store does not take it.
    """
    core = parts.core
    if picture is None:
        return None
    if isinstance(picture, str) and is_reference(picture):
        if not await core.call(core.store.exists, picture):
            raise Refused(field, picture, "the key of a picture that was uploaded (POST /v1/inputs)")
        return picture
    if isinstance(picture, str):
        picture = await core.call(decode_base64, picture, field, core.settings.max_upload)
    if len(picture) > core.settings.max_upload:
        raise Refused(field, f"{len(picture)} bytes", f"at most {core.settings.max_upload} bytes")
    return await core.call(core.store.put_input, picture)
