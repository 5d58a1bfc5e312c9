"""Runs the gateway in this process, until it is told to stop."""

import asyncio
import logging
import os
import resource
import socket
import sys
from collections.abc import Callable

from fastapi import FastAPI
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.net import SocketSpec
from granian.server.embed import Server
from prometheus_client import REGISTRY

from img2img_gateway.access import check_open
from img2img_gateway.api_keys import ApiKeys
from img2img_gateway.app import create_app
from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.gateway_metrics import FarmCollector
from img2img_gateway.gateway_settings import GatewaySettings
from img2img_shared.errors import Refused
from img2img_shared.interrupts import ending_signals
from img2img_shared.metrics import serve_metrics, time_ledger

#: bytes of headers, and of what is read ahead of a body
BUFFER = 64 * 1024
#: seconds that requests have to end once it is told to stop, and that answers have to go out after that
GRACE, LAST = 3.0, 1.0
#: files for all that is no connection: the store, Redis, modules
_FILES = 256


def serve(settings: GatewaySettings) -> None:
    """Listen at the settings' host and port. SIGTERM, Ctrl-C and the end of its terminal end it.

    Raises:
        Refused, Unavailable: it cannot start; see `create_app`.
    """
    with AsyncFarm(settings) as farm, serve_metrics(settings.metrics):
        time_ledger(farm.redis)
        REGISTRY.register(FarmCollector(farm.ledger))
        check_open(settings, ApiKeys(farm.redis, farm.store))
        asyncio.run(_until_signalled(create_app(settings, farm), settings))


async def _until_signalled(app: FastAPI, settings: GatewaySettings) -> None:
    stop = asyncio.Event()
    for each in ending_signals():
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    await listen(app, settings, stop)


async def listen(
    app: FastAPI,
    settings: GatewaySettings,
    stop: asyncio.Event,
    told: Callable[[int], None] = lambda _: None,
) -> None:
    """Answer requests with `app` until `stop` is set. `told` is called with the port just before it opens.

    Raises:
        Refused: the port is taken; or the app refuses to start.
    """
    port = _free_port(settings.host, settings.port)
    server = _Server(
        app,
        address=settings.host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=round(1000 * settings.header_timeout), max_buffer_size=BUFFER
        ),
        websockets=False,
        backlog=1024,
        backpressure=_connections(settings.max_connections),
        log_level=LogLevels.error,
    )
    server.stall_timeout = settings.upload_timeout
    _log_as_the_rest_does()
    async with app.router.lifespan_context(app):
        serving, stopping = asyncio.create_task(server.serve()), asyncio.create_task(stop.wait())
        told(port)
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        # streams and waits end by themselves when they see it
        app.state.services.watch.stopping = True
        server.stop()
        stopping.cancel()
        await asyncio.wait([serving], timeout=GRACE)
        for request in app.state.requests:
            request.cancel()
        await asyncio.wait([serving], timeout=LAST)
        if serving.done():
            serving.result()  # with what ended it, should it not be our word
        serving.cancel()


class _Server(Server):  # type: ignore[misc]  # its types are left out
    #: seconds after which a client is cut off that takes nothing of its answer
    stall_timeout: float

    def _init_shared_socket(self) -> None:
        # The server has no such limit. What the socket is told here, its connections inherit.
        holder = SocketSpec(self.bind_addr, self.bind_port, self.backlog).build()
        with socket.socket(fileno=os.dup(holder.get_fd())) as listening:
            if sys.platform == "linux":
                milliseconds = round(1000 * self.stall_timeout)
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        self._shd = holder


def _free_port(host: str, port: int) -> int:
    """The port to listen on, or a free one for 0. The server itself would share a port that is taken."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise Refused("port", port, f"give a port that is free at {host} ({error.strerror})") from None
        return int(probe.getsockname()[1])


def _connections(wanted: int) -> int:
    """The number of simultaneous connections: each may need a file as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + _FILES
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, (soft - _FILES) // 2))


def _log_as_the_rest_does() -> None:
    """Replace the server's own handler, which writes to standard output."""
    log = logging.getLogger("_granian")
    log.handlers.clear()
    log.propagate = True
