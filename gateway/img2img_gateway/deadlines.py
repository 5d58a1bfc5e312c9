"""Gives up clients that send, or take what they asked for, too slowly."""

import asyncio
import time

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Deadlines:
    """Middleware: bounds how long a client may keep a request waiting.

    Args:
        idle: seconds without a byte, either way.
        whole: seconds for all of a body.
    """

    def __init__(self, app: ASGIApp, idle: float, whole: float) -> None:
        self._app = app
        self._idle = idle
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_complete = scope["type"] != "http"
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

        async def send_soon(message: Message) -> None:
            # the server lets its caller wait while the client takes nothing of what it sent before
            async with asyncio.timeout(self._idle):
                await send(message)

        await self._app(scope, receive_soon, send_soon)
