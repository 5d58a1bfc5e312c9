"""The farm's own API."""

from typing import Any

from fastapi import APIRouter, Depends

from img2img_producer.gateway.access import visitor
from img2img_producer.gateway.v1.events import router as events
from img2img_producer.gateway.v1.jobs import router as jobs
from img2img_producer.gateway.v1.machines import router as machines
from img2img_producer.gateway.v1.models import Problem
from img2img_producer.gateway.v1.results import router as results
from img2img_producer.gateway.v1.webhooks import router as webhooks

_PROBLEM: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }
    for status, text in {
        400: "The request cannot be read.",
        401: "No API key that is known.",
        403: "Not from this host.",
        404: "There is no such thing for the caller.",
        405: "Not by this method.",
        408: "The upload stopped.",
        413: "The body is too large.",
        415: "Not a body of this type.",
        422: "A field is wrong: `field` names it, `allowed` says what it may be.",
        429: "Too many requests, or too many images under way.",
        503: "Redis or the store is away.",
    }.items()
}

router = APIRouter(prefix="/v1", dependencies=[Depends(visitor)], responses=_PROBLEM)
for part in (jobs, results, events, machines, webhooks):
    router.include_router(part)
