"""The gateway's services, created at its start and used by each request."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from img2img_gateway.api_keys import ApiKeys
from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.fault_log import FaultLog
from img2img_gateway.job_news import JobNews
from img2img_gateway.memory_budget import MemoryBudget
from img2img_gateway.open_calls import OpenCalls
from img2img_gateway.quota import Quota
from img2img_gateway.readiness import ReadinessProbe
from img2img_gateway.sent_file import UploadSpace
from img2img_gateway.sessions import Sessions
from img2img_gateway.thumbnailer import Thumbnails
from img2img_gateway.watch import Watch
from img2img_gateway.webhook_store import WebhookStore


@dataclass(frozen=True, kw_only=True)
class Services:
    """The services of one gateway."""

    farm: AsyncFarm
    faults: FaultLog
    watch: Watch
    calls: OpenCalls
    news: JobNews
    keys: ApiKeys
    sessions: Sessions
    quota: Quota
    hooks: WebhookStore
    readiness: ReadinessProbe
    #: for what was sent, until it is read or stored
    uploads: UploadSpace
    #: memory for JSON bodies, and for pictures on their way to the store
    bodies: MemoryBudget
    pictures: MemoryBudget
    thumbnails: Thumbnails


def get_services(request: Request) -> Services:
    """The services of the app that answers `request`."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(get_services)]
