"""Breaks off answers that fail after their status has been sent."""

import logging

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from img2img_shared.errors import FarmError, one_line

log = logging.getLogger(__name__)


class BreakOff:
    """Middleware: an answer ends where Redis or the store fails, with a line in the log.

    The client sees a connection that is closed too early, as if the gateway had died, and repeats the
    request. Unforeseen errors pass through, and are logged with their tracebacks.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = has_begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            reason = _foreseen_cause(error)
            if not has_begun or reason is None:
                raise
            if isinstance(reason, FarmError):
                path = one_line(scope["path"])
                log.warning("the answer to %s %s broke off: %s", scope["method"], path, reason)


def _foreseen_cause(error: BaseException | None) -> FarmError | ClientDisconnect | None:
    """The cause of the error, if it is a fault of the farm's, or the client has left."""
    while error is not None and not isinstance(error, FarmError | ClientDisconnect):
        error = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
    return error
