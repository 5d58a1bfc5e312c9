"""What is kept in Redis beside jobs: small documents by name, dates, and who of several does a thing."""

import json
import time
from collections.abc import Mapping
from typing import Any

from img2img_shared.ledger.connect import FarmRedis


class Table:
    """JSON documents by name, in one hash: ``{prefix}:gateway:NAME``. Methods raise `Unavailable`."""

    def __init__(self, redis: FarmRedis, *name: str) -> None:
        self._call = redis.call
        self._key = redis.key("gateway", *name)

    def __len__(self) -> int:
        return int(self._call("HLEN", self._key))

    def get(self, name: str) -> Any:
        """The document of that name; None: there is none."""
        data = self._call("HGET", self._key, name)
        return None if data is None else json.loads(data)

    def all(self) -> dict[str, Any]:
        """Every document by its name."""
        found: dict[bytes, bytes] = self._call("HGETALL", self._key)
        return {str(name, "utf-8"): json.loads(data) for name, data in found.items()}

    def put(self, documents: Mapping[str, Any]) -> None:
        """Keep them, all or none, in place of those that have their names."""
        if documents:
            pairs = [word for name, each in documents.items() for word in (name, json.dumps(each))]
            self._call("HSET", self._key, *pairs)

    def add(self, name: str, document: Any) -> bool:
        """Keep it unless the name is taken; whether it was not."""
        return bool(self._call("HSETNX", self._key, name, json.dumps(document)))

    def remove(self, name: str) -> None:
        """Keep it no longer."""
        self._call("HDEL", self._key, name)

    def expire(self, seconds: int) -> None:
        """Forget all of it, if nobody says so again for so long."""
        self._call("EXPIRE", self._key, seconds)


class Agenda:
    """Names by when they are due, in a sorted set: ``{prefix}:gateway:NAME``. Methods raise `Unavailable`."""

    def __init__(self, redis: FarmRedis, *name: str) -> None:
        self._call = redis.call
        self._key = redis.key("gateway", *name)

    def put(self, name: str, at: float) -> None:
        """It is due at that time, in seconds since 1970."""
        self._call("ZADD", self._key, at, name)

    def take(self, limit: int, seconds: float) -> list[str]:
        """Those that are due, at most `limit`; each is left to the caller for so many seconds."""
        now = time.time()
        found = self._call("ZRANGEBYSCORE", self._key, "-inf", now, "LIMIT", 0, limit)
        for each in found:
            self._call("ZADD", self._key, "XX", now + seconds, each)
        return [str(each, "utf-8") for each in found]

    def remove(self, name: str) -> None:
        """It is not due any more."""
        self._call("ZREM", self._key, name)


class Election:
    """One of several processes that does what only one may do. Methods raise `Unavailable`.

    `term` is how many seconds the elected one is waited for when it is not heard of.
    """

    def __init__(self, redis: FarmRedis, office: str, candidate: str, term: int) -> None:
        self._call = redis.call
        self._key = redis.key("gateway", office)
        self._candidate = candidate
        self._term = term

    def is_won(self) -> bool:
        """Whether the candidate is the elected one, for another term."""
        if self._call("SET", self._key, self._candidate, "NX", "EX", self._term):
            return True
        if self._call("GET", self._key) != self._candidate.encode():
            return False
        self._call("EXPIRE", self._key, self._term)
        return True

    def resign(self) -> None:
        """Let another one be elected."""
        if self._call("GET", self._key) == self._candidate.encode():
            self._call("DEL", self._key)


def first_value(redis: FarmRedis, *name: str, proposal: str) -> str:
    """The value of that name: `proposal`, unless there is one already."""
    key = redis.key("gateway", *name)
    redis.call("SET", key, proposal, "NX")
    return str(redis.call("GET", key), "utf-8")


def count_in_window(redis: FarmRedis, *name: str, window: int) -> int:
    """How often that name was counted, this time included, since the last multiple of `window` seconds."""
    key = redis.key("gateway", *name, str(int(time.time()) // window))
    count = int(redis.call("INCR", key))
    if count == 1:
        redis.call("EXPIRE", key, 2 * window)
    return count
