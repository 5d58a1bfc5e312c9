"""Requests to a gateway: retried while it does not answer; its problem documents become the farm's errors."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx
from httpx_sse import EventSource, connect_sse

from img2img_shared.errors import Conflict, FarmError, NotFound, Refused, Summary, Unavailable
from img2img_shared.farm.patience import patiently

#: seconds for which a request is sent again before its caller is told that the farm is away
OUTAGE = 25.0
#: seconds until a connection is there, and between two pieces of an answer
_TIMEOUT = httpx.Timeout(120.0, connect=10.0)
#: seconds between two pieces of an event stream, which tells every 15 that it lives
_STREAM_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_REFUSALS = (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
_PASSING = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


class GatewayClient:
    """The client of one gateway, with one key; shared between threads.

    Args:
        url: https://farm.example, with the path if a proxy serves it under one.
        key: None if the gateway needs none.

    Raises:
        Refused: something that is not a URL, or a key that no header can carry.
    """

    def __init__(self, url: str, key: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Refused("farm_url", url, "write https://HOST, or http://HOST:PORT")
        if parts.username or parts.password:
            raise Refused(
                "url", Summary("a URL with a password"), "give the API key as key=..., or IMG2IMG_KEY"
            )
        if key is not None and not (key.isascii() and key.isprintable()):
            raise Refused("key", Summary("no API key"), "give one as `img2img key new` printed it")
        #: the farm, for people
        self.where = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._client = httpx.Client(
            base_url=self.where,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=_TIMEOUT,
        )

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """The answer to a request, retried while the gateway is away or busy: all of ours may be repeated.

        Requests that change something have an idempotency key, so that the repeat of one whose answer was
        lost gets that answer.

        Raises:
            Refused, Conflict, NotFound, FarmError: the farm's error.
            Unavailable: it does not come back.
        """
        if method not in ("GET", "HEAD"):
            headers = {"Idempotency-Key": secrets.token_hex(16), **request.get("headers", {})}
            request = {**request, "headers": headers}
        return patiently(lambda: self._once(method, path, request), OUTAGE)

    @contextmanager
    def events(self, path: str, after: str | None) -> Iterator[EventSource]:
        """An event stream, from the event `after` on; None: from the first that the farm remembers.

        Raises:
            like `ask`, without retries; httpx.TransportError while it is read.
        """
        headers = {} if after is None else {"Last-Event-ID": after}
        with connect_sse(self._client, "GET", path, headers=headers, timeout=_STREAM_TIMEOUT) as source:
            if not source.response.is_success:
                source.response.read()
                raise self._error(source.response)
            yield source

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will be asked."""
        return self._client.is_closed

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _once(self, method: str, path: str, request: Mapping[str, Any]) -> httpx.Response:
        try:
            response = self._client.request(method, path, **request)
        except httpx.TransportError as error:
            raise Unavailable(f"{self.where} does not answer ({error or type(error).__name__})") from error
        if not response.is_success:
            raise self._error(response)
        return response

    def _error(self, response: httpx.Response) -> FarmError:
        """The error of an unsuccessful answer, as the farm's client would have raised it."""
        status, said = response.status_code, _document(response)
        if status in _PASSING:
            return Unavailable(said.get("detail") or f"{self.where} is busy, or being restarted ({status})")
        if response.request.method == "HEAD":  # which is answered by its status alone
            said = {"detail": f"{response.request.url.path} is answered by {HTTPStatus(status).phrase}"}
        if status == HTTPStatus.UNAUTHORIZED:
            return FarmError(
                f"{self.where} wants an API key that it knows: give it as key=..., or IMG2IMG_KEY"
            )
        if "detail" not in said:
            return FarmError(f"{self.where} answers {status}, and not as a farm would; is the URL right?")
        detail = str(said["detail"])
        if status == HTTPStatus.NOT_FOUND:
            return NotFound(detail)
        if status == HTTPStatus.CONFLICT:
            key = response.request.headers.get("Idempotency-Key", "")
            return Conflict(key, str(said.get("allowed", "")).rpartition(": ")[2].split(", "))
        if "field" in said and status in _REFUSALS:
            return _as_refused(str(said["field"]), detail, said.get("allowed"))
        return FarmError(f"{self.where}: {detail}")


def _document(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _as_refused(field: str, detail: str, reason: str | None) -> Refused:
    """A refusal whose message is `detail`, if that has the form of one."""
    for verb in ("is", "are"):
        start, end = f"{field} {verb} ", f": {reason}"
        if detail.startswith(start) and reason and end in detail:
            value, _, rest = detail.removeprefix(start).partition(end)
            return Refused(field, Summary(value), reason + rest)
    return Refused(field, Summary("not taken"), detail)
