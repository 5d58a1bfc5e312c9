"""Sessions of browsers, which begin with a key or the operator's password, and are held by a cookie.

Redis has the cookie's hash, together with the hash of the key or password. So revoking a key, or changing a
password, ends the sessions that were begun with it.
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from secrets import compare_digest

from fastapi import Request, Response

from img2img_shared.ledger import FarmRedis
from img2img_shared.ledger.tables import Table

#: seconds after which one must sign in anew
LASTS = 7 * 24 * 3600
#: what a browser shows with each request that changes something
CSRF_HEADER = "X-CSRF-Token"
_BEGUN = "begun"


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The credential that a session was begun with: one of the two."""

    #: the hash of an API key
    key: str | None = None
    #: the hash of the operator's user and password, see `operator_of`
    operator: str | None = None


class Sessions:
    """The sessions of a farm. Every method raises `Unavailable` when Redis does not answer."""

    def __init__(self, redis: FarmRedis) -> None:
        self._redis = redis

    def begin(self, *, key: str | None = None, operator: str | None = None) -> str:
        """A new session's token.

        Args:
            key: the hash of the API key that was shown.
            operator: or the "user:password" of an operator.
        """
        token = secrets.token_urlsafe(32)
        begun = Begun(key=key, operator=None if operator is None else hashed(token + operator))
        table = self._table(token)
        table.put({_BEGUN: asdict(begun)})
        table.expire(LASTS)
        return token

    def find(self, token: str) -> Begun | None:
        """The credential that a session was begun with, or None if there is no such session (any more)."""
        table = self._table(token)
        found = table.get(_BEGUN)
        with table.reading():
            return None if found is None else Begun(**found)

    def end(self, token: str) -> None:
        """End a session."""
        self._table(token).remove(_BEGUN)

    def _table(self, token: str) -> Table:
        return Table(self._redis, "session", hashed(token))


def hashed(secret: str) -> str:
    """The hash of a key or token in Redis: they have 256 random bits, so it cannot be guessed."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def operator_of(token: str, begun: Begun, operators: Iterable[str]) -> str | None:
    """The user among `operators` ("user:password") whose session it is, or None.

    A password might be guessed, so its hash in Redis includes the token, which Redis does not know.
    """
    found = [each for each in operators if compare_digest(hashed(token + each), begun.operator or "")]
    return found[0].partition(":")[0] if found else None


def csrf_token(token: str) -> str:
    """A token that pages of this origin are given for a session, and that no other page can know."""
    return hashlib.sha256(b"csrf:" + token.encode("utf-8", "replace")).hexdigest()


def session_token(request: Request) -> str | None:
    """The session token of the browser that sent `request`, or None."""
    return request.cookies.get(_cookie(request))


def set_session(request: Request, response: Response, token: str) -> None:
    """Give the browser a session cookie, which scripts cannot read and only this origin's requests carry."""
    response.set_cookie(
        _cookie(request), token, max_age=LASTS, httponly=True, samesite="strict", secure=_is_secure(request)
    )


def clear_session(request: Request, response: Response) -> None:
    """Have the browser delete its session, and its cache of the farm's pictures."""
    response.delete_cookie(_cookie(request), httponly=True, samesite="strict", secure=_is_secure(request))
    response.headers["Clear-Site-Data"] = '"cache"'


def _cookie(request: Request) -> str:
    # browsers send a cookie to all ports of a host: two farms' gateways must not overwrite each other's
    return f"img2img_session_{request.url.port or 'web'}"


def _is_secure(request: Request) -> bool:
    """Whether the browser came by https, possibly to a proxy in front of the gateway."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
