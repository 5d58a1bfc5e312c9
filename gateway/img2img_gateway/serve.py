"""Runs the gateway in this process, until it is told to stop."""

from types import FrameType

import uvicorn
from fastapi import FastAPI

from img2img_gateway.access import check_open
from img2img_gateway.app import create_app
from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.gateway_settings import GatewaySettings
from img2img_gateway.keys import ApiKeys

#: seconds that open streams have to end; they never do by themselves
GRACE = 3


def serve(settings: GatewaySettings) -> None:
    """Listen at the settings' host and port. SIGTERM and Ctrl-C end it.

    Raises:
        Refused, Unavailable: it cannot start; see `create_app`.
    """
    with AsyncFarm(settings) as farm:
        check_open(settings, ApiKeys(farm.redis))
        app = create_app(settings, farm)
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            timeout_graceful_shutdown=GRACE,
            log_level="warning",
            access_log=False,
            lifespan="on",
        )
        _Server(config, app).run()


class _Server(uvicorn.Server):
    """Ends the streams and the waits first, which would otherwise end as errors when their time is up."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.services.watch.stopping = True
        super().handle_exit(sig, frame)
