"""Webhooks: what they are signed with, and those that could not be delivered."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.v1.job_answers import Changed

router = APIRouter(prefix="/webhooks", tags=["webhooks"])


class Secret(BaseModel):
    """What the caller's webhooks are signed with, as Standard Webhooks' libraries take it."""

    secret: Annotated[str, Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]


class DeadDelivery(BaseModel):
    """A message that was given up."""

    id: Annotated[str, Field(examples=["0a32dddf8136d8fc-end"])]
    url: Annotated[str, Field(examples=["https://example.org/hook"])]
    #: the message
    body: str
    tries: int
    #: why the last one failed
    error: str | None
    created: datetime


@router.get("/secret", summary="See what webhooks are signed with")
async def secret(caller: Caller, services: ServicesDep) -> Secret:
    """The key to check `webhook-signature` with."""
    return Secret(secret=await services.farm.call(services.hooks.secret, caller.tenant))


@router.get("/dead", summary="List messages that nobody took")
async def dead(caller: Caller, services: ServicesDep) -> list[DeadDelivery]:
    """Messages that nobody took in about a day, newest first."""
    return [
        DeadDelivery(
            id=each.id,
            url=each.url,
            body=each.body,
            tries=each.tries,
            error=each.error,
            created=datetime.fromtimestamp(each.created, UTC),
        )
        for each in await services.farm.call(services.hooks.deliveries.dead, caller.tenant)
    ]


@router.post("/dead/{delivery}/retry", summary="Send a message again")
async def retry(
    delivery: Annotated[str, Path(max_length=200, examples=["0a32dddf8136d8fc-end"])],
    caller: Caller,
    services: ServicesDep,
) -> Changed:
    """Try one again."""
    await services.farm.call(services.hooks.deliveries.revive, caller.tenant, delivery)
    return Changed(changed=1)
