"""The application: its services, its routes, and its middleware."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from img2img_gateway import openai, page_routes, sdapi, status, v1
from img2img_gateway.access import check_open
from img2img_gateway.admission import Admission
from img2img_gateway.api_keys import ApiKeys
from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.broken_answers import BreakOff
from img2img_gateway.deadlines import Deadlines
from img2img_gateway.dependencies import Services
from img2img_gateway.fault_log import FaultLog
from img2img_gateway.gateway_metrics import CountRequests
from img2img_gateway.gateway_settings import GatewaySettings
from img2img_gateway.job_news import JobNews
from img2img_gateway.memory_budget import MemoryBudget
from img2img_gateway.open_calls import OpenCalls
from img2img_gateway.problems import add_handlers
from img2img_gateway.quota import Quota
from img2img_gateway.readiness import ReadinessProbe
from img2img_gateway.reference import add_examples
from img2img_gateway.sent_file import UploadSpace
from img2img_gateway.sessions import Sessions
from img2img_gateway.thumbnailer import Thumbnails
from img2img_gateway.watch import Watch
from img2img_gateway.webhook_dispatcher import WebhookDispatcher
from img2img_gateway.webhook_store import WebhookStore

log = logging.getLogger(__name__)

#: bytes in memory, of all requests together: for JSON bodies, and for pictures on their way to the store
BODIES, PICTURES = 512 * 1024 * 1024, 256 * 1024 * 1024

_ABOUT = """
Render pictures from pictures on a farm, with AUTOMATIC1111's parameters.

`/v1` is the farm's own API: jobs of any number of images, followed by events or webhooks. `/sdapi/v1` is
AUTOMATIC1111's, for programs that were written for it. Errors are problem documents (RFC 9457).
"""


def create_app(settings: GatewaySettings | None = None, farm: AsyncFarm | None = None) -> FastAPI:
    """The gateway as an ASGI application; it connects to its farm when it starts, unless `farm` has.

    Raises (at start):
        Refused: it would be open to others, or something is not a URL.
        Unavailable: Redis does not answer.
    """
    chosen = settings or GatewaySettings()
    app = FastAPIOffline(
        title="img2img-farm",
        description=_ABOUT,
        version=version("img2img-farm"),
        lifespan=_lifespan(chosen, farm),
        redirect_slashes=False,
        max_body_size=chosen.max_body,
        swagger_ui_parameters={"defaultModelsExpandDepth": 0},
    )
    add_examples(app)
    add_handlers(app)
    app.include_router(v1.router)
    app.include_router(sdapi.router)
    app.include_router(openai.router)
    app.include_router(status.router)
    page_routes.add_page(app)
    app.add_middleware(BreakOff)
    app.add_middleware(Admission)
    if chosen.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(chosen.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Location", "Retry-After"],
        )
    app.state.requests = set()
    app.add_middleware(
        Deadlines, idle=chosen.upload_timeout, whole=chosen.upload_limit, requests=app.state.requests
    )
    app.add_middleware(CountRequests)
    app.add_middleware(_NoSniffing)
    app.add_middleware(_NoSpareSlashes)  # the outermost: it hands on another scope than it was given
    return app


def _lifespan(settings: GatewaySettings, given: AsyncFarm | None) -> Callable[[FastAPI], object]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        farm = given if given is not None else await asyncio.to_thread(AsyncFarm, settings)
        try:
            keys = ApiKeys(farm.redis, farm.store)
            await farm.call(keys.look_after_mark)
            await farm.call(check_open, settings, keys)
            watch = Watch(farm)
            hooks = WebhookStore(farm)
            dispatcher = WebhookDispatcher(farm, hooks)
            calls = OpenCalls(farm)
            pictures = MemoryBudget(PICTURES)
            app.state.services = Services(
                faults=FaultLog(),
                farm=farm,
                watch=watch,
                calls=calls,
                news=JobNews(farm),
                keys=keys,
                sessions=Sessions(farm.redis),
                quota=Quota(farm.redis),
                hooks=hooks,
                readiness=ReadinessProbe(farm),
                uploads=UploadSpace(settings.upload_space),
                bodies=MemoryBudget(BODIES),
                pictures=pictures,
                thumbnails=Thumbnails(farm.store, pictures),
            )
            work = (watch.run(), farm.supervise(), farm.tidy(), dispatcher.run(), calls.run())
            background = [asyncio.create_task(each) for each in work]
            for task in background:
                task.add_done_callback(_say_why)
            yield
            for task in background:
                task.cancel()
            for task in background:
                with suppress(asyncio.CancelledError):
                    await task
            await watch.close()
            await asyncio.to_thread(dispatcher.close)
        finally:
            if given is None:
                await asyncio.to_thread(farm.close)

    return lifespan


def _say_why(task: asyncio.Task[None]) -> None:
    """Log a background task's error: none of them ends by itself, and errors must not be lost."""
    if not task.cancelled() and (error := task.exception()):
        log.error("a part of the gateway has ended", exc_info=error)


class _NoSniffing:
    """Middleware: has browsers trust the declared type, so that no upload is ever shown as a page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, send_marked)


class _NoSpareSlashes:
    """Middleware: ignores a slash at the end of a path, and all but one at its beginning.

    A1111's clients write both ends; "//sdapi/v1/options" is what most make of an address like
    "http://farm:7860/".
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and len(scope["path"]) > 1:
            scope = {**scope, "path": "/" + scope["path"].strip("/")}
        await self._app(scope, receive, send)
