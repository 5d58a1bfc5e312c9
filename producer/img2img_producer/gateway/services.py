"""The gateway's parts, made at its start and reached from each request."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from img2img_producer.gateway.core import Core
from img2img_producer.gateway.hooks import Hooks
from img2img_producer.gateway.keys import KeyRing
from img2img_producer.gateway.quota import Quota
from img2img_producer.gateway.watch import Watch


@dataclass(frozen=True, kw_only=True)
class Services:
    """One of each."""

    core: Core
    watch: Watch
    keys: KeyRing
    quota: Quota
    hooks: Hooks


def services(request: Request) -> Services:
    """Those of the app that answers `request`."""
    found: Services = request.app.state.services
    return found


Parts = Annotated[Services, Depends(services)]
