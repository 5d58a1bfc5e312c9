"""Admits requests by their headers, before their bodies are read."""

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from img2img_gateway.access import admit
from img2img_gateway.dependencies import get_services
from img2img_gateway.gateway_errors import Problem
from img2img_gateway.page_routes import is_page
from img2img_gateway.problems import problem_response
from img2img_shared.errors import FarmError

#: what anybody may ask, beside the page for people: what machines look at, and the reference with its files
_OPEN = (
    "/health",
    "/ready",
    "/docs",
    "/docs/oauth2-redirect",
    "/redoc",
    "/openapi.json",
    "/favicon.ico",
)
_OPEN_FOLDER = "/static-offline-docs/"


class Admission:
    """Middleware: sets ``request.state.principal`` to the caller, or answers with an error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            request = Request(scope)
            try:
                request.state.principal = await admit(request)
            except (Problem, FarmError) as error:
                get_services(request).faults.tell(request.method, scope["path"], error)
                await problem_response(scope["path"], error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(_OPEN_FOLDER) or is_page(path)
