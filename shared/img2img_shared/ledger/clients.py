"""Redis clients for the farm's URL: the ledger's, the watchers' and Celery's."""

from collections.abc import Callable, Sequence
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from img2img_shared.ledger.redis_url import RedisAddress


class Demoted(redis.ConnectionError):
    """The server has become a replica, and the connection was closed: a new one finds the primary."""


#: the command by which a server says what it is; whoever may connect may ask it
WHO = ("HELLO",)


def facts(hello: Any) -> dict[bytes, Any]:
    """A server's answer to `WHO` as a dict, in either version of its protocol."""
    return hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2], strict=True))


def of_primary(answers: Sequence[Any]) -> list[Any]:
    """The answers after the first, which is the answer to `WHO`.

    Raises:
        Demoted: the server is not a primary.
        Exception: the first of the answers that is one.
    """
    hello, *others = answers
    if not isinstance(hello, Exception) and facts(hello).get(b"role") != b"master":
        raise Demoted("it is a replica")
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return others


class _LeavesReplicas(AbstractConnection):
    """A connection that closes when its server says that it is no longer a primary.

    Otherwise, after a failover behind one address, every write on it would be refused forever.
    """

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)
        except ResponseError as error:
            is_demoted = isinstance(error, ReadOnlyError | MasterDownError)
            if not is_demoted and not str(error).startswith("UNBLOCKED"):  # what waited there is told so
                raise
            leave: Callable[[], None] = self.disconnect
            leave()
            raise Demoted(str(error)) from error


class _Tcp(Connection, _LeavesReplicas):
    pass


class _Tls(SSLConnection, _LeavesReplicas):
    pass


class _Unix(UnixDomainSocketConnection, _LeavesReplicas):
    pass


class _SentinelTcp(SentinelManagedConnection, _LeavesReplicas):
    pass


class _SentinelTls(SentinelManagedSSLConnection, _LeavesReplicas):
    pass


def connection_options(address: RedisAddress) -> dict[str, Any]:
    """Arguments for a pool of connections, including their class.

    redis-py's own retry is off: it would send a claim twice when only the answer was lost.
    """
    options = {**address.options, "retry": Retry(NoBackoff(), 0), "protocol": 2}
    if address.master_name is not None:
        return {**options, "connection_class": _SentinelTls if address.is_encrypted else _SentinelTcp}
    if address.socket is not None:
        return {**options, "connection_class": _Unix, "path": address.socket}
    ((host, port),) = address.hosts
    kind = _Tls if address.is_encrypted else _Tcp
    return {**options, "connection_class": kind, "host": host, "port": port}


def sentinels(address: RedisAddress) -> Any:
    """The sentinels, as redis-py's `Sentinel`, which has no types."""
    return _sync_sentinel(
        address.hosts, sentinel_kwargs={**_sentinel_options(address), "retry": Retry(NoBackoff(), 0)}
    )


def pool(address: RedisAddress) -> redis.ConnectionPool:
    """A pool of connections for any number of threads."""
    known = None if address.master_name is None else sentinels(address)
    return pool_with(address, connection_options(address), known)


def pool_with(address: RedisAddress, options: dict[str, Any], known: Any) -> redis.ConnectionPool:
    """A pool whose connections are made with `options`, to the server that the sentinels know, if any."""
    if address.master_name is None:
        return redis.ConnectionPool(**options)
    found: redis.ConnectionPool = _sentinel_pool(address.master_name, known, **options)
    return found


def live_replicas(found: redis.ConnectionPool) -> int | None:
    """How many replicas of the pool's primary its sentinels think alive; None: it has no sentinels.

    Those that are catching up are among them: sentinels ask only every ten seconds whether one has.

    Raises:
        redis.ConnectionError: no sentinel knows the primary now.
    """
    if not isinstance(found, SentinelConnectionPool):
        return None
    # this also puts a sentinel that answers first
    found.sentinel_manager.discover_master(found.service_name)
    states = found.sentinel_manager.sentinels[0].sentinel_slaves(found.service_name)
    return len([each for each in states if not each["is_sdown"]])


def asynchronous(address: RedisAddress) -> redis.asyncio.Redis:
    """An asyncio client, which only reads."""
    retry = AsyncRetry(NoBackoff(), 0)
    options: dict[str, Any] = {**address.options, "retry": retry, "protocol": 2}
    if address.is_encrypted:
        options["ssl"] = True
    if address.socket is not None:
        return redis.asyncio.Redis(unix_socket_path=address.socket, **options)
    if address.master_name is None:
        ((host, port),) = address.hosts
        return redis.asyncio.Redis(host=host, port=port, **options)
    known = _async_sentinel(address.hosts, sentinel_kwargs={**_sentinel_options(address), "retry": retry})
    found: redis.asyncio.Redis = known.master_for(address.master_name, **options)
    return found


def _sentinel_options(address: RedisAddress) -> dict[str, Any]:
    return {**address.sentinel_options, "protocol": 2} | ({"ssl": True} if address.is_encrypted else {})


_sync_sentinel: Callable[..., Any] = Sentinel
_sentinel_pool: Callable[..., Any] = SentinelConnectionPool
_async_sentinel: Callable[..., Any] = redis.asyncio.sentinel.Sentinel
