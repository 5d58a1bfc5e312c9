"""Routes for JSON bodies, which limit what a body can cost, whatever is sent."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from img2img_gateway.access import principal
from img2img_gateway.dependencies import get_services
from img2img_gateway.gateway_errors import Problem
from img2img_shared.errors import Refused, Summary

#: values of a body, by the characters that part them; and how many of them an object or a list may have
VALUES, FIELDS, ITEMS = 1_000_000, 500, 2_000
#: characters of a field's name
NAME = 1000
#: inputs of a job, the one list that may be longer
INPUTS = 100_000
#: bytes of memory that a byte of a body takes, at most: itself, the texts made of it, pictures out of base64;
#: a text of which one character is beyond Latin-1 takes two or four times its length
_COST, _WIDE_COST = 4, 7
_PARTING = (b",", b"[", b"{")


class JsonRoute(APIRoute):
    """Receives a whole body before it is parsed, and parses it when there is memory for it.

    So a slow client occupies only a file, and a body that would become millions of objects, or as many
    errors, is refused at little cost.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own, with a body that was received."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def bounded(request: Request) -> Response:
            async with _taken_in(request) as taken:
                return await handle(taken)

        return bounded


class _TakenIn(Request):
    """A request whose body was received. FastAPI keeps `body` for errors: its beginning is enough."""

    def __init__(self, request: Request, beginning: bytes, found: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._beginning = beginning
        self._found = found

    async def body(self) -> bytes:
        return self._beginning

    async def json(self) -> Any:
        return self._found


@asynccontextmanager
async def _taken_in(request: Request) -> AsyncIterator[Request]:
    services = get_services(request)
    with services.uploads.files(principal(request).tenant) as new_file:
        sent, values, is_wide = new_file(), 0, False
        async for chunk in request.stream():
            sent.write(chunk)
            if sent.size > services.farm.settings.max_body:
                most = services.farm.settings.max_body
                raise Problem(413, f"a JSON body may have {most} bytes", field="body")
            values += sum(chunk.count(each) for each in _PARTING)
            if values > VALUES:
                raise Refused(
                    "body",
                    Summary(f"more than {VALUES:,} values"),
                    f"send at most {VALUES:,}, or upload pictures first and name them",
                )
            is_wide = is_wide or not chunk.isascii()
        async with services.bodies.held(sent.size * (_WIDE_COST if is_wide else _COST)):
            data = sent.read()
            sent.close()
            if data:
                _check_type(request)
            found = read_json(data) if data else None
            taken = _TakenIn(request, data[:100], found)
            del data, found
            yield taken


def read_json(data: bytes | str, field: str = "body") -> Any:
    """The value of a JSON text.

    Raises:
        Refused: names `field`; it is not JSON, nests too deeply, or contains too long an object or list.
    """
    try:
        found = from_json(data)
    except ValueError as error:
        raise Refused(
            field,
            data[:100] if isinstance(data, str) else data[:100].decode(errors="replace"),
            f"send valid JSON ({error})",
        ) from None
    _check(found, field)
    return found


def _check(found: Any, field: str) -> None:
    """Check that validating it cannot yield many more errors than a person would read."""
    left = [(found, "")]
    while left:
        value, path = left.pop()
        if isinstance(value, dict):
            if len(value) > FIELDS:
                raise Refused(path or field, Summary(f"{len(value)} fields"), f"send at most {FIELDS}")
            if longest := next((name for name in value if len(name) > NAME), None):
                raise Refused(path or field, longest, f"give names of at most {NAME} characters")
            names = {name: f"{path}.{name}" if path else name for name in value}
            left += [(each, names[name]) for name, each in value.items() if _is_many(each)]
        elif isinstance(value, list):
            most = INPUTS if path == "inputs" else ITEMS
            if len(value) > most:
                raise Refused(path or field, Summary(f"{len(value)} values"), f"send at most {most}")
            left += [(each, f"{path}[{index}]") for index, each in enumerate(value) if _is_many(each)]


def _is_many(value: Any) -> bool:
    return isinstance(value, dict | list)


def _check_type(request: Request) -> None:
    """Check that a body is declared as JSON; without a type it counts as JSON, as A1111's clients send it.

    Raises:
        Problem: 415; for example, curl's -d alone declares a form.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        shown = Refused("Content-Type", kind, "send JSON, as Content-Type: application/json")
        raise Problem(415, str(shown), field="Content-Type")
