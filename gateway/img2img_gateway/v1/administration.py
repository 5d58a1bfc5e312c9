"""Who may do what, and who did what."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import ConfigDict, Field

from img2img_gateway.access import Caller
from img2img_gateway.api_keys import ApiKey
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.key_roles import Role
from img2img_gateway.v1.api_model import ApiModel
from img2img_gateway.v1.examples import JOB, MOMENT, example
from img2img_shared.ledger.audit import AuditLine

router = APIRouter(route_class=JsonRoute)

KeyId = Annotated[str, Path(pattern=r"^[0-9a-f]{8}$", description="The key's id, which is no secret.")]
TenantName = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")]


class AuditAnswer(ApiModel):
    """Who did what."""

    model_config = example(
        {"at": MOMENT, "by": "alice", "tenant": "studio", "action": "cancel", "subject": JOB, "detail": ""}
    )

    at: datetime
    by: str
    tenant: str
    """Whose job or key it was; empty: a worker, which belongs to no tenant."""
    action: str
    subject: str
    """The id of the job, worker or key."""
    detail: str


_KEY = {"id": "5feceb66", "name": "alice", "tenant": "studio", "role": "submit", "created": 1_772_366_400}


class KeyAnswer(ApiModel):
    """An API key without its secret."""

    model_config = example(_KEY)

    id: str
    name: str
    tenant: str
    role: Role
    rate: int | None = None
    quota: int | None = None
    largest: int | None = None
    priority: int | None = None
    keep: str | None = None
    storage: int | None = None
    created: int
    last_used: int | None = None
    """Seconds since 1970, to the minute; null: never."""


class NewKeyAnswer(KeyAnswer):
    """A key that was just made."""

    model_config = example({**_KEY, "key": "img2img_5feceb66_6zKCbO0qN8xQeT0dM1vYb2Uu3Hh4Jj5Kk6Ll7Pp8Rs9"})

    key: str
    """The secret that its user sends; it is shown this once only."""


class KeyRequest(ApiModel):
    """``POST /v1/keys``."""

    model_config = ConfigDict(**example({"name": "alice", "role": "submit", "rate": 600}), extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
    """For people: whose it is, and so who owns its jobs."""
    tenant: TenantName | None = None
    """Whose jobs it submits and sees; left out: the caller's own tenant."""
    role: Role = Role.SUBMIT
    rate: Annotated[int, Field(ge=1)] | None = None
    """Requests a minute."""
    quota: Annotated[int, Field(ge=1)] | None = None
    """Images of the tenant that may wait or run at the same time."""
    largest: Annotated[int, Field(ge=1)] | None = None
    """Images that one job may have."""
    priority: Annotated[int, Field(ge=-100, le=100)] | None = None
    """The highest priority that its jobs may have."""
    keep: Annotated[str, Field(max_length=30)] | None = None
    """How long its jobs are kept, at most."""
    storage: Annotated[int, Field(ge=1)] | None = None
    """Bytes that the tenant may have in the store."""


@router.get("/audit", tags=["administration"], summary="See who did what")
async def audit(
    caller: Caller,
    services: ServicesDep,
    subject: Annotated[
        str | None,
        Query(max_length=300, description="Only what was done to the job, worker or key of this id."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[AuditAnswer]:
    """Who cancelled, removed, ... what, newest first. Operators see all tenants, others their own."""
    tenant = None if caller.operates else caller.tenant
    lines: Iterator[AuditLine] = services.farm.service.audit.lines(tenant=tenant, subject=subject)
    found = await services.farm.call(lambda: list(islice(lines, limit)))
    return [AuditAnswer.model_validate(each, from_attributes=True) for each in found]


@router.get("/keys", tags=["administration"], summary="List the API keys")
async def keys(caller: Caller, services: ServicesDep) -> list[KeyAnswer]:
    """The keys of all tenants, without their secrets. All calls about keys need the role admin."""
    caller.check(Role.ADMIN)
    found = await services.farm.call(services.keys.all)
    last_uses = await services.farm.call(services.keys.last_uses)
    return [_answer(each, last_uses.get(each.id)) for each in found]


@router.post("/keys", status_code=201, tags=["administration"], summary="Create an API key")
async def create_key(body: KeyRequest, caller: Caller, services: ServicesDep) -> NewKeyAnswer:
    """Make a key. The answer has its secret, which cannot be seen again."""
    caller.check(Role.ADMIN)
    wanted = body.model_dump(exclude={"tenant"})
    key, secret = await services.farm.call(
        lambda: services.keys.create(tenant=body.tenant or caller.tenant, by=caller.owner, **wanted)
    )
    return NewKeyAnswer(**asdict(key), key=secret)


@router.delete("/keys/{key}", tags=["administration"], summary="Revoke an API key")
async def revoke_key(key: KeyId, caller: Caller, services: ServicesDep) -> KeyAnswer:
    """Revoke a key: its next request is refused."""
    caller.check(Role.ADMIN)
    return _answer(await services.farm.call(services.keys.revoke, key, caller.owner), None)


def _answer(key: ApiKey, last_used: int | None) -> KeyAnswer:
    return KeyAnswer(**asdict(key), last_used=last_used)
