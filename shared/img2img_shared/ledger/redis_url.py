"""How a URL names the farm's Redis: read once, for the ledger's connections and for Celery's.

    redis://[[user]:password@]host[:6379][/database]
    rediss://...                                               the same over TLS
    unix://[[user]:password@]/path/to/socket
    sentinel://[[user]:password@]host[:26379][,host...][/database]?master_name=NAME
    rediss+sentinel://...                                      sentinels and servers over TLS

Sentinels may also be written as Celery has them, ``sentinel://one:26379;sentinel://two:26379``. What follows
as a query is in `redis_options`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from img2img_shared.errors import Refused, Summary, one_line
from img2img_shared.ledger.redis_options import KNOWN, OPTIONS, is_whole

#: seconds until a server that does not take the connection counts as away
CONNECT_TIMEOUT = 3.0
#: seconds until a server that does not answer counts as away
ANSWER_TIMEOUT = 5.0
#: by scheme: the port of what is named, and whether that is to be reached by TLS
_SCHEMES = {
    "redis": (6379, False),
    "rediss": (6379, True),
    "unix": (0, False),
    "sentinel": (26379, False),
    "redis+sentinel": (26379, False),
    "rediss+sentinel": (26379, True),
}
_FORMS = (
    "give a redis://, rediss:// or unix:// URL, or that of sentinels, sentinel://HOST,HOST/0?master_name=NAME"
)
_ENCODED = "encode a password's special characters: %2F for /, %3F for ?, %23 for #, %40 for @"
_BRACKETS = (
    "encode a password's brackets: %5B for [, %5D for ]; those of an IPv6 address come in pairs, [::1]"
)


@dataclass(frozen=True, kw_only=True)
class RedisAddress:
    """Where the farm's Redis is, and how to log in. Its ``repr`` holds no password."""

    #: as it may be shown: without user and password
    shown: str
    #: (host, port) of the server, or of the sentinels that know it; none: it is at `socket`
    hosts: tuple[tuple[str, int], ...]
    #: path of a unix socket
    socket: str | None
    #: what the sentinels call the server; None: `hosts` is the server
    master_name: str | None
    is_encrypted: bool
    #: what redis-py's connections to the server are told
    options: Mapping[str, Any] = field(repr=False)
    #: what its connections to the sentinels are told
    sentinel_options: Mapping[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return self.shown


def read_redis_url(url: str) -> RedisAddress:
    """The address in `url`.

    Raises:
        Refused: it cannot be used; the message contains neither user nor password.
    """
    scheme, separator, rest = url.partition("://")
    if scheme not in _SCHEMES or not separator:
        has_secrets = not separator or {*"@?#"} & {*rest}
        raise Refused("redis_url", Summary("not shown") if has_secrets else url, _FORMS)
    rest = rest.replace(f";{scheme}://", ",")  # as Celery separates sentinels
    login, place, path, query = _split(scheme, rest)
    given = _options(scheme, query)
    given = _join(scheme, given, _login(scheme, login), "the login before the host")
    port, is_encrypted = _SCHEMES[scheme]
    socket, master_name = None, None
    hosts: tuple[tuple[str, int], ...] = ()
    if scheme == "unix":
        if not path.strip("/"):
            raise _refused(scheme, "give the path of a socket: unix:///run/redis.sock")
        socket = unquote(path)
    else:
        hosts = tuple(_host(scheme, each, port) for each in place.split(","))
        name, database = _path(scheme, path)
        given = _join(scheme, given, database | name, "the path")
        master_name = given.pop("master_name", None)
    if ("sentinel" in scheme) != (master_name is not None):
        wanted = "the option master_name, which names the server that the sentinels watch"
        raise _refused(scheme, f"a URL of sentinels, sentinel://..., needs {wanted}; no other has it")
    if len(hosts) > 1 and master_name is None:
        raise _refused(scheme, "give one host, or the URL of sentinels")
    options = _read_options(scheme, given, is_encrypted)
    return RedisAddress(
        shown=_url_text(scheme, hosts, socket, master_name, options["db"]),
        hosts=hosts,
        socket=socket,
        master_name=master_name,
        is_encrypted=is_encrypted,
        options={name: value for name, value in options.items() if not name.startswith("sentinel_")},
        sentinel_options=_for_sentinels(options),
    )


def _split(scheme: str, rest: str) -> tuple[str, str, str, str]:
    """(login, hosts, path, query); none may contain what belongs to another, as a raw password would."""
    try:
        parts = urlsplit(f"//{rest}")
    except ValueError:
        raise _refused(scheme, _BRACKETS) from None  # of all that may be wrong, urlsplit sees only these
    login, _, place = parts.netloc.rpartition("@")
    is_socket = scheme == "unix"
    if "#" in rest or "@" in parts.query or (is_socket and place) or (not is_socket and "@" in parts.path):
        raise _refused(scheme, _ENCODED)
    return login, place, parts.path, parts.query


def _login(scheme: str, login: str) -> dict[str, str]:
    user, _, password = login.partition(":")
    if user and not password:
        raise _refused(scheme, f"write a password after the user: {scheme}://USER:PASSWORD@...")
    found = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in found.items() if value}


def _host(scheme: str, text: str, port: int) -> tuple[str, int]:
    bare = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    said = text.rpartition("]")[2].partition(":")[2]
    if not said.isascii() or not (said or str(port)).isdigit() or not 0 < int(said or port) < 65536:
        raise _refused(scheme, "give a port from 1 to 65535; " + _ENCODED)
    return unquote(bare) or "localhost", int(said or port)


def _path(scheme: str, path: str) -> tuple[dict[str, str], dict[str, str]]:
    """(master_name, db) as a path has them: ``/3``, and for sentinels also ``/NAME`` and ``/NAME/3``."""
    steps = [unquote(step) for step in path.strip("/").split("/")] if path.strip("/") else []
    name = {"master_name": steps.pop(0)} if "sentinel" in scheme and steps and not is_whole(steps[0]) else {}
    if len(steps) > 1 or not all(map(is_whole, steps)):
        raise _refused(scheme, "write the database's number after the host, such as /0; " + _ENCODED)
    return name, {"db": steps[0]} if steps else {}


def _options(scheme: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=50)
    except ValueError:
        raise _refused(scheme, "write options as ?name=value&name=value") from None
    names = [name for name, _ in pairs]
    for name in names:
        if name not in OPTIONS:
            raise _refused(scheme, f"its option {one_line(name)[:40]!r} is unknown; {KNOWN}")
        if names.count(name) > 1:
            raise _refused(scheme, f"give the option {name} once")
    return dict(pairs)


def _join(scheme: str, given: dict[str, str], more: dict[str, str], where: str) -> dict[str, str]:
    """The union of both, which may not contradict each other."""
    for name, value in more.items():
        if given.get(name, value) != value:
            raise _refused(scheme, f"its option {name} and {where} say different things; leave one out")
    return given | more


def _read_options(scheme: str, given: Mapping[str, str], is_encrypted: bool) -> dict[str, Any]:
    """The options' values, and the defaults of those that are not given."""
    options: dict[str, Any] = {"db": 0, "socket_timeout": ANSWER_TIMEOUT}
    if scheme != "unix":
        options |= {"socket_connect_timeout": CONNECT_TIMEOUT, "socket_keepalive": True}
    for name, text in given.items():
        read, allowed = OPTIONS[name]
        if name.startswith("ssl_") and not is_encrypted:
            raise _refused(scheme, f"the option {name} needs a rediss:// URL")
        if name.startswith("sentinel_") and "sentinel" not in scheme:
            raise _refused(scheme, f"the option {name} needs a URL of sentinels")
        if scheme == "unix" and name in ("socket_connect_timeout", "socket_keepalive"):
            raise _refused(scheme, f"leave out the option {name}; a unix socket has none")
        try:
            options[name] = read(text)
        except (ValueError, KeyError):
            raise _refused(scheme, f"its option {name} must be {allowed}") from None
    if "username" in options and "password" not in options:
        raise _refused(scheme, "give a password for the user")
    return options


def _for_sentinels(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options for sentinels: the same time-outs and certificates, but a login of their own."""
    alike = {name: value for name, value in options.items() if name.startswith(("socket_", "ssl_"))}
    own = {name: options.get(f"sentinel_{name}") for name in ("username", "password")}
    return alike | {name: value for name, value in own.items() if value is not None}


def _url_text(
    scheme: str, hosts: tuple[tuple[str, int], ...], socket: str | None, master: str | None, db: int
) -> str:
    places = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
    name = f"/{master}" if master else ""
    return one_line(f"{scheme}://{socket or places}{name}" + (f"/{db}" if db else ""))


def _refused(scheme: str, reason: str) -> Refused:
    return Refused("redis_url", f"{scheme}://…", reason)
