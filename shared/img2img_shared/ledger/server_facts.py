"""What a Redis server says about itself that matters to a farm."""

import statistics
import time
from dataclasses import dataclass

import redis

from img2img_shared.errors import Unavailable
from img2img_shared.ledger.connect import FarmRedis

#: calls of which the latency is the middle
_CALLS = 20


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """A server's configuration. None: our user may not ask for it."""

    version: str
    #: milliseconds of a call, there and back
    latency: float
    #: seconds by which its clock is ahead of this machine's
    clock: float
    #: whether it keeps an append-only file
    append_only: bool | None
    #: what it does when its memory is full
    eviction: str | None
    #: bytes that it holds, and may hold; 0: no limit
    memory: int | None
    most_memory: int | None
    #: whether its last write to disk failed
    disk_fails: bool | None
    #: why it takes no writes (its memory or disk is full, a replica is missing, ...), or None
    takes_no_writes: str | None


def server_facts(farm: FarmRedis) -> ServerFacts:
    """Ask the server.

    Raises:
        Unavailable: it does not answer.
    """
    seconds = []
    for _ in range(_CALLS):
        begun = time.perf_counter()
        farm.call("PING")
        seconds.append(time.perf_counter() - begun)
    now, stamp = time.time(), farm.call("TIME")
    hello = farm.call("HELLO")
    greeting = hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2], strict=True))
    info = _info(farm)
    told = info.get
    last_writes = [told(name, "ok") for name in ("aof_last_write_status", "aof_last_bgrewrite_status")]
    last_writes.append(told("rdb_last_bgsave_status", "ok"))
    return ServerFacts(
        version=str(greeting[b"version"], "utf-8"),
        latency=1000 * statistics.median(seconds),
        clock=int(stamp[0]) + int(stamp[1]) / 1e6 - now,
        append_only=told("aof_enabled") == "1" if info else None,
        eviction=told("maxmemory_policy"),
        memory=int(told("used_memory", 0)) if info else None,
        most_memory=int(told("maxmemory", 0)) if info else None,
        disk_fails=last_writes != ["ok"] * 3 if info else None,
        takes_no_writes=_try_to_write(farm),
    )


def _try_to_write(farm: FarmRedis) -> str | None:
    """Why the server takes no writes, or None; what is tried changes nothing where they are taken."""
    try:
        farm.call("ZADD", farm.key("submissions"), "XX", 0, "none")
    except Unavailable as error:
        return str(error)
    return None


def _info(farm: FarmRedis) -> dict[str, str]:
    """The server's INFO; empty if our user may not ask for it."""
    try:
        answer = farm.call("INFO")
    except redis.ResponseError:
        return {}
    except Unavailable as error:
        if isinstance(error.__cause__, redis.exceptions.NoPermissionError):
            return {}
        raise
    if isinstance(answer, dict):
        return {name: str(value) for name, value in answer.items()}
    lines = str(answer, "utf-8").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
