"""Gives up clients that send too slowly."""

import asyncio
import time

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Deadlines:
    """Middleware: bounds how long a client may keep its request waiting for the rest of it.

    Args:
        idle: seconds without a byte.
        whole: seconds for all of a body.
    """

    def __init__(self, app: ASGIApp, idle: float, whole: float) -> None:
        self._app = app
        self._idle = idle
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_complete = scope["type"] != "http" or not _has_body(scope)
        end = time.monotonic() + self._whole

        async def receive_soon() -> Message:
            nonlocal is_complete
            if is_complete:  # what comes now is that the client hangs up, which takes as long as it takes
                return await receive()
            left = end - time.monotonic()
            try:
                async with asyncio.timeout(min(self._idle, left)):
                    message = await receive()
            except TimeoutError:
                if left < self._idle:
                    raise HTTPException(408, f"the body was not complete within {self._whole:g} s") from None
                raise HTTPException(408, f"no byte came for {self._idle:g} s") from None
            is_complete = not message.get("more_body", False)
            return message

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start" and not is_complete:
                # the rest of the body is not waited for, so that no other request can follow it
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        try:
            await self._app(scope, receive_soon, send_last)
        except asyncio.CancelledError:
            return  # the gateway ends, which its server would tell as the request's failure


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
