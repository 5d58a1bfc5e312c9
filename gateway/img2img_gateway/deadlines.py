"""Ends requests of clients that send too slowly, and those still running when the gateway ends."""

import asyncio
import time

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from img2img_gateway.problems import problem_response
from img2img_shared.errors import Unavailable


class Deadlines:
    """Middleware: limits how long a client may take to send a request.

    Args:
        idle: seconds without a byte.
        whole: seconds for all of a body.
        requests: the tasks of current requests. Cancelling one answers it with 503.
    """

    def __init__(
        self, app: ASGIApp, idle: float, whole: float, requests: set[asyncio.Task[object] | None]
    ) -> None:
        self._app = app
        self._requests = requests
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

        has_begun = False

        async def send_last(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            if message["type"] == "http.response.start" and not is_complete:
                # the rest of the body is not waited for, so that no other request can follow it
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        task = asyncio.current_task()
        self._requests.add(task)
        try:
            await self._app(scope, receive_soon, send_last)
        except asyncio.CancelledError:  # the server would tell it as the request's failure
            if not has_begun:
                stopped = Unavailable("the gateway is being stopped")
                await problem_response(scope["path"], stopped)(scope, receive, send_last)
        finally:
            self._requests.discard(task)


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
