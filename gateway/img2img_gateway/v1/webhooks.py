"""Webhooks: the secret that signs them, and messages that could not be delivered."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.v1.api_model import ApiModel
from img2img_gateway.v1.job_answers import Changed

router = APIRouter(prefix="/webhooks", tags=["webhooks"])


class Secret(ApiModel):
    """The secret that signs the caller's webhooks, in the form that Standard Webhooks' libraries take."""

    secret: Annotated[str, Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]


class DeadDelivery(ApiModel):
    """A message that could not be delivered, and is not tried any more."""

    id: Annotated[str, Field(examples=["0a32dddf8136d8fc-end"])]
    url: Annotated[str, Field(examples=["https://example.org/hook"])]
    body: str
    """The message as it was sent, JSON."""
    tries: int
    error: str | None
    """Why the last try failed."""
    created: datetime


@router.get("/secret", summary="Get the secret that signs webhooks")
async def secret(caller: Caller, services: ServicesDep) -> Secret:
    """The secret to verify a message's `webhook-signature` with."""
    return Secret(secret=await services.farm.call(services.hooks.secret, caller.tenant))


@router.get("/dead", summary="List undelivered messages")
async def dead(caller: Caller, services: ServicesDep) -> list[DeadDelivery]:
    """Messages that could not be delivered in about a day, newest first."""
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


@router.post("/dead/{delivery}/retry", summary="Send an undelivered message again")
async def retry(
    delivery: Annotated[str, Path(max_length=200, examples=["0a32dddf8136d8fc-end"])],
    caller: Caller,
    services: ServicesDep,
) -> Changed:
    """Try to deliver a message again."""
    await services.farm.call(services.hooks.deliveries.revive, caller.tenant, delivery)
    return Changed(changed=1)
