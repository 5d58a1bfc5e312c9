"""The store: what each tenant has in it, what is left of forgotten jobs, and cleaning it."""

import secrets
from dataclasses import asdict
from itertools import islice
from typing import Any

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.key_roles import Role
from img2img_gateway.v1.api_model import ApiModel
from img2img_gateway.v1.examples import JOB, example
from img2img_gateway.v1.request_fields import IdempotencyKey
from img2img_shared.durations import Duration
from img2img_shared.farm.orphans import find_orphans
from img2img_shared.farm.storage import TenantStorage
from img2img_shared.ledger.answers import Answer

router = APIRouter(tags=["administration"], route_class=JsonRoute)

#: orphans in one answer at most
MOST_ORPHANS = 10_000


class StorageAnswer(ApiModel):
    """What a tenant has in the store, in bytes."""

    model_config = example(
        {
            "tenant": "studio",
            "bytes": 7_340_032,
            "inputs": 4_194_304,
            "results": 2_097_152,
            "since": 1_048_576,
        }
    )

    tenant: str
    bytes: int
    inputs: int
    """Pictures that were uploaded, when the store was last counted."""
    results: int
    """Results, when the store was last counted."""
    since: int
    """Pictures that were uploaded since then."""


class OrphanAnswer(ApiModel):
    """A job that the store still holds, and the ledger does not know."""

    id: str
    pictures: int
    """How many of its results are there."""
    bytes: int
    """Bytes of all its objects."""


class OrphansAnswer(ApiModel):
    """Orphaned jobs."""

    model_config = example({"orphans": [{"id": JOB, "pictures": 4, "bytes": 2_097_152}], "more": False})

    orphans: list[OrphanAnswer]
    more: bool
    """Whether there are more than these."""


class CleanRequest(ApiModel):
    """``POST /v1/clean``."""

    model_config = ConfigDict(**example({"uploads": "7d", "dry_run": True}), extra="forbid")

    uploads: Duration = Field(default=None, validate_default=False)
    """How long pictures stay that no job names: "7d", "forever"; left out: as the gateway's settings say."""
    orphans: Duration = Field(default=None, validate_default=False)
    """How long jobs stay listed that only the store knows; left out: as the gateway's settings say."""
    dry_run: bool = False
    """Remove nothing, and only answer what would be removed."""


class CleanAnswer(ApiModel):
    """What was removed, or would be."""

    model_config = example({"jobs": 2, "pictures": 12, "bytes": 7_340_032, "orphans": 0, "held_for": 0.0})

    jobs: int
    pictures: int
    bytes: int
    """Bytes of these pictures."""
    orphans: int
    held_for: float
    """Seconds until pictures can be removed, since Redis is younger than the store; 0: they were."""


@router.get("/storage", summary="Get what each tenant has stored")
async def storage(caller: Caller, services: ServicesDep) -> list[StorageAnswer]:
    """What the caller's tenant has in the store; for operators, each tenant, the largest first."""
    stored = services.farm.service.storage
    if caller.operates:
        found: list[TenantStorage] = await services.farm.call(stored.all)
    else:
        found = [await services.farm.call(stored.of, caller.tenant)]
    return [StorageAnswer.model_validate(each, from_attributes=True) for each in found]


@router.get("/orphans", summary="List orphaned jobs")
async def orphans(caller: Caller, services: ServicesDep) -> OrphansAnswer:
    """Jobs of any tenant that the store still holds, and that were forgotten or lost with their Redis.

    It needs the role operate, and lists the whole store: with many jobs that takes a while.
    """
    caller.check(Role.OPERATE)
    service = services.farm.service

    def look() -> list[OrphanAnswer]:
        found = islice(find_orphans(service.store, service.retention), MOST_ORPHANS + 1)
        return [OrphanAnswer(**asdict(each)) for each in found]

    found = await services.farm.call(look)
    return OrphansAnswer(orphans=found[:MOST_ORPHANS], more=len(found) > MOST_ORPHANS)


@router.post("/clean", summary="Clean the store")
async def clean(
    body: CleanRequest, caller: Caller, services: ServicesDep, once: IdempotencyKey = None
) -> CleanAnswer:
    """Remove from the store what nobody needs, now instead of at the janitor's next round.

    It needs the role operate, and lists the whole store: with many objects that takes a while.
    """
    caller.check(Role.OPERATE)
    settings, given = services.farm.settings, body.model_fields_set
    answer = Answer(services.farm.redis, "clean", "store", once or secrets.token_hex(8))

    def cleaned() -> dict[str, Any]:
        if (before := answer.given()) is None:
            before = asdict(
                services.farm.service.janitor.clean(
                    uploads=body.uploads if "uploads" in given else settings.keep_uploads,
                    orphans=body.orphans if "orphans" in given else settings.keep_orphans,
                    dry_run=body.dry_run,
                )
            )
            answer.give(before)
        return dict(before)

    return CleanAnswer(**await services.farm.call(cleaned))
