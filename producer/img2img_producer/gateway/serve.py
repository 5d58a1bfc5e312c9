"""Runs the gateway in this process, until it is told to stop."""

import uvicorn

from img2img_producer.gateway.app import create_app
from img2img_producer.gateway.settings import GatewaySettings

#: seconds that open streams have to end; they never do by themselves
GRACE = 3


def serve(settings: GatewaySettings) -> None:
    """Listen at the settings' host and port. SIGTERM and Ctrl-C end it."""
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        timeout_graceful_shutdown=GRACE,
        log_level="warning",
        access_log=False,
        lifespan="on",
    )
    uvicorn.Server(config).run()
