"""Small things in Redis besides jobs: documents by name, an agenda, an election."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain, zip_longest
from typing import Any, TypeVar

from img2img_shared.ledger.connect import FarmRedis, reading

T = TypeVar("T")


class Table:
    """JSON documents by name, in one hash: ``{prefix}:gateway:NAME``. Methods raise `Unavailable`."""

    def __init__(self, redis: FarmRedis, *name: str) -> None:
        self._call = redis.call
        self._key = redis.key("gateway", *name)

    def __len__(self) -> int:
        return int(self._call("HLEN", self._key))

    def get(self, name: str) -> Any:
        """The document of that name, or None."""
        data = self._call("HGET", self._key, name)
        with self.reading():
            return None if data is None else json.loads(data)

    def all(self) -> dict[str, Any]:
        """Every document by its name."""
        found: dict[bytes, bytes] = self._call("HGETALL", self._key)
        with self.reading():
            return {str(name, "utf-8"): json.loads(data) for name, data in found.items()}

    def reading(self) -> AbstractContextManager[None]:
        """A context in which the documents are taken for what they should be; see `connect.reading`."""
        return reading(self._key)

    def put(self, documents: Mapping[str, Any]) -> None:
        """Store the documents, all or none of them, replacing those with the same names."""
        if documents:
            pairs = [word for name, each in documents.items() for word in (name, json.dumps(each))]
            self._call("HSET", self._key, *pairs)

    def remove(self, name: str) -> None:
        """Remove a document."""
        self._call("HDEL", self._key, name)

    def expire(self, seconds: int) -> None:
        """Have the whole table expire in so many seconds, unless this is called again."""
        self._call("EXPIRE", self._key, seconds)


class FairAgenda:
    """JSON documents with the time at which they are due, of several owners, who are served in turn.

    An owner may have several lanes, "OWNER LANE", which are served in turn likewise.

    ``{prefix}:gateway:DOCUMENTS`` is the hash of documents by name, ``{prefix}:gateway:NAME`` the set of
    owners, or lanes. Each has two sorted sets beside it: what waits, by when it is due, and what was taken,
    by when that expires; in seconds since 1970 by Redis' clock, since those of its callers may differ. A
    document and its time are written at once, so that a process that dies leaves both or neither. Methods
    raise `Unavailable`.

    Args:
        most: how many documents may be taken at a time. A lane gets another only while twice what it and
            its owner hold is less than what is left, so that slow ones leave room for all others: alone, a
            lane takes a fifth of `most`, and an owner a third.
        seconds: for how long a taken document is left to its taker.
    """

    def __init__(self, redis: FarmRedis, name: str, documents: str, *, most: int, seconds: float) -> None:
        self._redis = redis
        self._call = redis.call
        self._name = name
        self._documents = redis.key("gateway", documents)
        self._table = Table(redis, documents)
        self._most, self._seconds = most, seconds

    def get(self, name: str) -> Any:
        """The document of that name, or None."""
        return self._table.get(name)

    def add(self, owner: str, name: str, document: Any) -> None:
        """Add a document that is due now, unless there is one of that name."""
        self._put(owner, name, document, 0.0, "new")

    def put(self, owner: str, name: str, document: Any, after: float = 0.0) -> None:
        """Add a document that is due in so many seconds, replacing any of that name."""
        self._put(owner, name, document, after, "")

    def take(self) -> list[str]:
        """Take the names of documents that are due: one of each owner, then a second of each, and so on."""
        now, owners = self._now(), self._lanes()
        held = {lane: self._taken(lane, now) for lanes in owners.values() for lane in lanes}
        held_by = {owner: sum(held[lane] for lane in lanes) for owner, lanes in owners.items()}
        room = self._most - sum(held_by.values())
        waiting = []
        for owner, lanes in owners.items():
            # each takes 5 off the difference: 2 for its lane, 2 for its owner, 1 for the room
            most = {lane: (room - 2 * (held[lane] + held_by[owner]) + 4) // 5 for lane in lanes}
            found = _in_turn([self._waiting(lane, now, most[lane]) for lane in lanes])
            waiting.append([(owner, lane, name) for lane, name in found])
        chosen = []
        for owner, lane, name in _in_turn(waiting):
            if 2 * (held[lane] + held_by[owner]) < room:
                chosen.append((lane, name))
                held[lane] += 1
                held_by[owner] += 1
                room -= 1
        for lane, name in chosen:
            self._call("ZADD", self._key(lane, "waiting"), "XX", now + self._seconds, name)
            self._call("ZADD", self._key(lane, "taken"), now + self._seconds, name)
            self._call("EXPIRE", self._key(lane, "taken"), round(2 * self._seconds))
        return [name for _, name in chosen]

    def overdue(self, owner: str) -> int:
        """How many documents of an owner are due and not taken."""
        return int(self._call("ZCOUNT", self._key(owner, "waiting"), "-inf", self._now()))

    def count(self, owner: str) -> int:
        """How many documents of an owner there are."""
        return int(self._call("ZCARD", self._key(owner, "waiting")))

    def give_back(self, owner: str, name: str) -> None:
        """Note that a taken document is done with."""
        self._call("ZREM", self._key(owner, "taken"), name)

    def remove(self, owner: str, name: str) -> None:
        """Remove a document."""
        keys = (self._documents, self._key(), self._key(owner, "waiting"))
        self._redis.run("agenda_remove", *keys, owner, name)

    def _put(self, owner: str, name: str, document: Any, after: float, is_new: str) -> None:
        keys = (self._documents, self._key(), self._key(owner, "waiting"))
        self._redis.run("agenda_put", *keys, owner, name, json.dumps(document), after, is_new)

    def _key(self, *parts: str) -> str:
        return self._redis.key("gateway", self._name, *parts)

    def _now(self) -> float:
        seconds, micros = self._call("TIME")
        return int(seconds) + int(micros) / 1e6

    def _lanes(self) -> dict[str, list[str]]:
        """The lanes by their owner."""
        found: dict[str, list[str]] = {}
        for each in self._call("SMEMBERS", self._key()):
            lane = str(each, "utf-8")
            found.setdefault(lane.partition(" ")[0], []).append(lane)
        return found

    def _taken(self, owner: str, now: float) -> int:
        self._call("ZREMRANGEBYSCORE", self._key(owner, "taken"), "-inf", now)
        return int(self._call("ZCARD", self._key(owner, "taken")))

    def _waiting(self, owner: str, now: float, most: int) -> list[tuple[str, str]]:
        if most <= 0:
            return []
        found = self._call("ZRANGEBYSCORE", self._key(owner, "waiting"), "-inf", now, "LIMIT", 0, most)
        names = [str(each, "utf-8") for each in found]
        documents = self._call("HMGET", self._documents, *names) if names else []
        for name, document in zip(names, documents, strict=True):
            if document is None:  # an older version removed it, which knows no lanes
                self.remove(owner, name)
        return [(owner, name) for name, document in zip(names, documents, strict=True) if document]


def _in_turn(lists: Iterable[Sequence[T]]) -> Iterator[T]:
    """The first element of each list, then the second of each, and so on."""
    return (each for each in chain.from_iterable(zip_longest(*lists)) if each is not None)


class Election:
    """An election among processes, for what only one of them may do. Methods raise `Unavailable`.

    `term` is for how many seconds the winner keeps its office without asking again.
    """

    def __init__(self, redis: FarmRedis, office: str, candidate: str, term: int) -> None:
        self._call = redis.call
        self._key = redis.key("gateway", office)
        self._candidate = candidate
        self._term = term

    def is_won(self) -> bool:
        """Whether the candidate holds the office, now for another term."""
        if self._call("SET", self._key, self._candidate, "NX", "EX", self._term):
            return True
        is_won = self._call("GET", self._key) == self._candidate.encode()
        if is_won or self._call("TTL", self._key) > self._term:  # the clock was set back
            self._call("EXPIRE", self._key, self._term)
        return bool(is_won)

    def resign(self) -> None:
        """Give up the office."""
        if self._call("GET", self._key) == self._candidate.encode():
            self._call("DEL", self._key)


def first_value(redis: FarmRedis, *name: str, proposal: str) -> str:
    """The value of that name, which is `proposal` unless there was one already."""
    key = redis.key("gateway", *name)
    redis.call("SET", key, proposal, "NX")
    return str(redis.call("GET", key), "utf-8")


def count_in_window(redis: FarmRedis, *name: str, window: int) -> int:
    """How many calls for that name there were since the last multiple of `window` seconds, with this one."""
    key = redis.key("gateway", *name, str(int(time.time()) // window))
    count = int(redis.call("INCR", key))
    if count == 1:
        redis.call("EXPIRE", key, 2 * window)
    return count
