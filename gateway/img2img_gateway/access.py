"""Identifies callers: by API key, by A1111's user and password, or, on this machine, without either."""

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass
from secrets import compare_digest
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from img2img_gateway.api_keys import ApiKey, ApiKeys
from img2img_gateway.dependencies import Services, get_services
from img2img_gateway.gateway_errors import Problem
from img2img_gateway.gateway_settings import GatewaySettings
from img2img_gateway.key_roles import Role
from img2img_gateway.sessions import CSRF_HEADER, csrf_token, hashed, operator_of, session_token
from img2img_shared.errors import Refused, one_line

#: what the page's own requests have
PAGE_HEADER = "X-Page"
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class Principal:
    """The caller of a request."""

    tenant: str
    #: who it is, for people: the name of the key, or the user
    owner: str
    #: None: they came with the operator's password, or from this machine
    key: ApiKey | None = None

    @property
    def role(self) -> Role:
        """The caller's role: a caller without a key runs the farm."""
        return Role.ADMIN if self.key is None else self.key.role

    @property
    def operates(self) -> bool:
        """Whether the caller may control workers, and read their messages."""
        return self.role.includes(Role.OPERATE)

    def check(self, role: Role) -> None:
        """Check that the caller has the rights of `role`.

        Raises:
            Problem: 403, with the way out.
        """
        if not self.role.includes(role):
            raise Problem(
                403,
                f"this takes a key with the role {role} (img2img key create --role {role}), "
                "or the password of --api-auth",
            )

    def allowed_priority(self, asked: int | None = None) -> int:
        """As `ApiKey.allowed_priority`."""
        return (asked or 0) if self.key is None else self.key.allowed_priority(asked)

    def allowed_keep(self, asked: str | None = None) -> str | None:
        """As `ApiKey.allowed_keep`."""
        return asked if self.key is None else self.key.allowed_keep(asked)


async def admit(request: Request) -> Principal:
    """The caller of `request`, by its headers alone.

    A key comes as ``Authorization: Bearer KEY``, ``X-API-Key: KEY``, or as the password of HTTP Basic, which
    is all that A1111's clients can send. The page's requests come with its session's cookie.

    Raises:
        Problem: 401 without a key or password that is known, 403 from a page of another host, 429.
        Unavailable: Redis does not answer.
    """
    services = get_services(request)
    settings = services.farm.settings
    user, secret = _credentials(request)
    if "x-api-key" not in request.headers and not _is_bearer(request):
        # what a browser sends by itself, whichever page told it to
        check_origin(request, settings.cors_origins)
    if settings.api_auth is None and settings.is_local and not await services.farm.call(services.keys.exist):
        # A1111's clients send a password, or an empty one, whether anybody asks for it or not
        if request.url.hostname not in _LOCAL:
            # without this, any page that the user's browser shows could reach it under a name of its own
            raise Problem(403, f"without API keys only localhost is answered, not {request.url.hostname}")
        return Principal(tenant=settings.tenant, owner=settings.owner)
    if secret is not None:
        if _is_operator(settings, user, secret):
            return Principal(tenant=settings.tenant, owner=str(user))
        key = await services.farm.call(services.keys.admit, secret)
        if key is not None:
            return Principal(tenant=key.tenant, owner=_name_of(key), key=key)
    elif (token := session_token(request)) is not None:
        found = await _of_session(request, services, token)
        if found is not None:
            return found
    raise Problem(
        401,
        "an API key is wanted (Authorization: Bearer KEY), or the password of --api-auth",
        # the page asks for a key itself; of anybody else's browser, its own dialog does
        headers={} if PAGE_HEADER in request.headers else {"WWW-Authenticate": 'Basic realm="img2img"'},
    )


async def begin_session(request: Request) -> str | None:
    """Begin a session for a caller with a key or password; None: no session is needed here.

    Raises:
        Unavailable: Redis does not answer.
    """
    services = get_services(request)
    user, secret = _credentials(request)
    caller = principal(request)
    if caller.key is not None and secret is not None:
        return await services.farm.call(services.sessions.begin, key=hashed(secret))
    if secret is not None and _is_operator(services.farm.settings, user, secret):
        return await services.farm.call(services.sessions.begin, operator=f"{user}:{secret}")
    return None


async def _of_session(request: Request, services: Services, token: str) -> Principal | None:
    begun = await services.farm.call(services.sessions.find, token)
    if begun is None:
        return None
    looks = request.method in ("GET", "HEAD")
    if not looks and not compare_digest(
        request.headers.get(CSRF_HEADER, "").encode(), csrf_token(token).encode()
    ):
        raise Problem(403, f"a browser's session changes nothing without its {CSRF_HEADER}; reload the page")
    settings = services.farm.settings
    if begun.key is None:
        user = operator_of(token, begun, _operators(settings))
        return None if user is None else Principal(tenant=settings.tenant, owner=user)
    key = await services.farm.call(services.keys.admit_hash, begun.key, looks=looks)
    return None if key is None else Principal(tenant=key.tenant, owner=_name_of(key), key=key)


def check_origin(request: Request, allowed: Collection[str]) -> None:
    """Check that `request` does not come from a page of another origin, except the `allowed` ones.

    A browser sends a form, or JSON as plain text, to any address without asking, and the gateway of one
    machine may have no keys. Programs send neither of the headers that reveal this.

    Raises:
        Problem: 403.
    """
    origin = request.headers.get("origin")
    if "*" in allowed or origin in allowed:
        return
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        is_own = site in ("same-origin", "none")
    else:
        is_own = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not is_own:
        page = origin or "another origin"
        raise Problem(403, f"a page of {page} may not call this; IMG2IMG_CORS_ORIGINS lists those that may")


def principal(request: Request) -> Principal:
    """The caller of `request`, as `Admission` identified it."""
    found: Principal = request.state.principal
    return found


def check_open(settings: GatewaySettings, keys: ApiKeys) -> None:
    """Check that a gateway that others can reach asks for a key or a password.

    Raises:
        Refused: it does not.
    """
    if not settings.is_local and settings.api_auth is None and not keys.exist():
        reason = (
            "others could use it; create an API key (img2img key create), set --api-auth, or use 127.0.0.1"
        )
        raise Refused("host", settings.host, reason)


def _name_of(key: ApiKey) -> str:
    """A key's name, as the owner of jobs."""
    return one_line(key.name).strip()[:200] or key.id


def _is_bearer(request: Request) -> bool:
    return request.headers.get("authorization", "").lower().startswith("bearer ")


def _credentials(request: Request) -> tuple[str | None, str | None]:
    """(user, secret) of a request, or None for either."""
    if given := request.headers.get("x-api-key"):
        return None, given
    kind, _, rest = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return None, rest.strip()
    if kind.lower() == "basic":
        try:
            user, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None, ""
        return user, password
    return None, None


def _is_operator(settings: GatewaySettings, user: str | None, secret: str) -> bool:
    given = f"{user}:{secret}".encode()
    # a sum has no early end: the time it takes tells nothing
    return user is not None and sum(compare_digest(given, each.encode()) for each in _operators(settings)) > 0


def _operators(settings: GatewaySettings) -> list[str]:
    """Users and passwords, separated by a colon."""
    return [] if settings.api_auth is None else [pair.strip() for pair in settings.api_auth.split(",")]


Caller = Annotated[Principal, Depends(principal)]
