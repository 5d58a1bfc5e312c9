"""Errors as RFC 9457 problem documents; under ``/sdapi`` with the members that A1111's clients read, too."""

import json
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Mount

from img2img_gateway.dependencies import get_services
from img2img_gateway.gateway_errors import Problem
from img2img_gateway.status import no_such_page
from img2img_shared.errors import Conflict, FarmError, NotFound, Refused, StoreError, Unavailable
from img2img_shared.refusals import TOLD, finding

#: seconds after which to ask again, where something is away
RETRY_AFTER = 5


class Document(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    #: what is wrong, by name
    field: str | None = None
    #: what is wrong with it, and what to send instead
    allowed: str | None = None
    #: every field that is wrong, where several are
    errors: list[dict[str, Any]] | None = None


class A1111Document(BaseModel):
    """An error as A1111's clients read it, with a problem document's members as well."""

    error: str
    detail: str
    body: str
    #: the same as `detail`
    errors: str
    #: what is wrong, by name
    field: str | None = None
    #: what is wrong with it, and what to send instead
    allowed: str | None = None


class OpenAiDocument(BaseModel):
    """An error as OpenAI's clients read it."""

    class Error(BaseModel):
        message: str
        #: "invalid_request_error", "authentication_error" or "server_error"
        type: str
        #: the field that is wrong
        param: str | None = None
        code: str | None = None

    error: Error


#: paths whose errors have the shape that A1111's clients read
_A1111 = ("/sdapi", "/internal", "/controlnet", "/config", "/startup-events")

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

#: and OpenAI's
OPENAI = ("/openai", "/v1/images")

_STATUSES = {
    400: "The request cannot be read.",
    401: "The API key is missing or unknown.",
    403: "Not from this host.",
    404: "It does not exist, or belongs to another tenant.",
    405: "Not by this method.",
    408: "The upload stopped.",
    409: "The idempotency key was used for a different request: `allowed` says what differs.",
    413: "The body is too large.",
    415: "The body's content type is not supported.",
    422: "A field is wrong: `field` names it, `allowed` says what to send instead.",
    429: "Too many requests, or too many images under way.",
    500: "It failed.",
    503: "Redis or the store is unavailable; repeat the request with its idempotency key.",
}


def documented(media_type: str, kind: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The error answers, for OpenAPI."""
    content = {media_type: {"schema": kind.model_json_schema()}}
    return {status: {"description": text, "content": content} for status, text in _STATUSES.items()}


def add_handlers(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document, and log the farm's own."""
    for kind in (Problem, FarmError, HTTPException, RequestValidationError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, _answer)


def problem_response(path: str, error: Exception) -> Response:
    """The response to a call of `path` that failed with `error`."""
    status, facts, headers = describe(error)
    is_a1111 = path.startswith(_A1111)
    if path.startswith(OPENAI):
        return Response(
            json.dumps({"error": _openai_error(status, facts)}),
            status_code=status,
            headers=headers,
            media_type="application/json",
        )
    if is_a1111:
        facts = {**facts, "error": type(error).__name__, "body": "", "errors": facts["detail"]}
    return Response(
        json.dumps(facts),
        status_code=status,
        headers=headers,
        media_type="application/json" if is_a1111 else "application/problem+json",
    )


def _openai_error(status: int, facts: dict[str, Any]) -> dict[str, Any]:
    kind = "authentication_error" if status in (401, 403) else "invalid_request_error"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "server_error"
    error = OpenAiDocument.Error(message=facts["detail"], type=kind, param=facts.get("field"))
    return error.model_dump()


def describe(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """(status, members of the document, headers) for an error."""
    headers: dict[str, str] = {}
    members: dict[str, Any] = {}
    match error:
        case Problem():
            status, headers = error.status, error.headers
            members = {"field": error.field} if error.field else {}
        case Conflict():
            status, members = 409, {"field": error.field, "allowed": error.reason}
        case Refused():
            status, members = 422, {"field": error.field, "allowed": error.reason}
        case NotFound():
            status = 404
        case Unavailable() | StoreError(transient=True) | StoreError(mendable=True):
            status, headers = 503, {"Retry-After": str(RETRY_AFTER)}
        case RequestValidationError():
            status, members = 422, _findings(error)
        case HTTPException():
            status, headers = error.status_code, dict(error.headers or {})
        case ClientDisconnect():
            status, members = 400, {"detail": "the body ended before it was complete"}
        case _:
            status = 500
    detail = members.pop("detail", None) or _detail(error, status)
    title = HTTPStatus(status).phrase
    return (
        status,
        {"type": "about:blank", "title": title, "status": status, "detail": detail, **members},
        headers,
    )


async def _answer(request: Request, error: Exception) -> Response:
    path = request.url.path
    get_services(request).faults.tell(request.method, path, error)
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND:
        what = "a farm does not have AUTOMATIC1111's" if path.startswith(_A1111) else "there is no"
        error = Problem(404, f"{what} {request.method} {path[:200]}; /docs lists what there is")
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return no_such_page(path[:200])
    elif isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods(request)) or "GET, HEAD"  # which is all that there is for files
        detail = f"{path[:200]} does not take {request.method}, only {allowed}; /docs lists what there is"
        error = Problem(405, detail, headers={"Allow": allowed})
    return problem_response(path, error)


def _methods(request: Request) -> list[str]:
    """The methods that a path has. Starlette tells only those of the first of its routes."""
    scope = {name: request.scope.get(name, "") for name in ("type", "path", "root_path")} | {"headers": []}
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    return [
        method
        for method in _METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]


def _detail(error: Exception, status: int) -> str:
    if isinstance(error, HTTPException):
        return str(error.detail)
    if isinstance(error, StoreError | Unavailable):
        return error.reason  # where the store is, or Redis, is nobody's business here
    if isinstance(error, FarmError | Problem):
        return str(error)
    return f"the gateway failed, and its log says why ({status})"


def _findings(error: RequestValidationError) -> dict[str, Any]:
    """The first invalid fields; the first one's name becomes the document's."""
    all_found = error.errors()
    refusals = [finding({**each, "loc": each["loc"][1:] or ("body",)}) for each in all_found[:TOLD]]
    detail = "; ".join(map(str, refusals))
    if len(all_found) > TOLD:
        detail += f"; and {len(all_found) - TOLD} more"
    found = [{"field": each.field, "allowed": each.reason} for each in refusals]
    return {"detail": detail, **found[0], "errors": found}
