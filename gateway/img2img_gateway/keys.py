"""API keys: who calls, for which tenant, and how much they may. Redis holds a key's hash, never the key."""

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import redis

from img2img_gateway.errors import Problem
from img2img_shared.connect import answering
from img2img_shared.errors import NotFound
from img2img_shared.keys import farm_key

#: seconds over which a key's requests are counted
WINDOW = 60
#: seconds for which it is believed that there are keys, or none
FRESH = 1.0


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """One key, without its secret."""

    id: str
    #: for people: whose it is
    name: str
    tenant: str
    #: requests a minute; None: no limit
    rate: int | None = None
    #: images of the tenant that may wait or run at a time; None: no limit
    quota: int | None = None
    #: images of one job; None: no limit
    largest: int | None = None
    #: seconds since 1970
    created: int = 0


class ApiKeys:
    """The keys of a farm. Every method raises `Unavailable` when Redis does not answer."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._call: Callable[..., Any] = client.execute_command
        self._keys = f"{farm_key(prefix)}:gateway:keys"
        self._asked, self._exist = -FRESH, False
        self._rates = f"{farm_key(prefix)}:gateway:rate"

    def create(
        self,
        name: str,
        tenant: str,
        *,
        rate: int | None = None,
        quota: int | None = None,
        largest: int | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key, and its secret, which is told this once."""
        key_id = secrets.token_hex(4)
        secret = f"img2img_{key_id}_{secrets.token_urlsafe(32)}"
        key = ApiKey(
            id=key_id,
            name=name,
            tenant=tenant,
            rate=rate,
            quota=quota,
            largest=largest,
            created=int(time.time()),
        )
        with answering():
            self._call("HSET", self._keys, _hashed(secret), json.dumps(asdict(key)))
        return key, secret

    def all(self) -> list[ApiKey]:
        """All keys, oldest first."""
        return sorted((key for _, key in self._pairs()), key=lambda key: (key.created, key.id))

    def revoke(self, key_id: str) -> ApiKey:
        """Let a key in no more, from the next request on.

        Raises:
            NotFound: there is none of that id.
        """
        for digest, key in self._pairs():
            if key.id == key_id:
                with answering():
                    self._call("HDEL", self._keys, digest)
                return key
        raise NotFound(f"no key {key_id!r}; `img2img key list` names them")

    def exist(self) -> bool:
        """Whether there is any key; asked anew each second."""
        now = time.monotonic()
        if now >= self._asked + FRESH:
            with answering():
                self._exist = bool(self._call("EXISTS", self._keys))
            self._asked = now
        return self._exist

    def admit(self, secret: str) -> ApiKey | None:
        """The key of a secret, with this request counted; None: there is none.

        Raises:
            Problem: 429, with the seconds to wait, when its requests of this minute are used up.
        """
        with answering():
            data = self._call("HGET", self._keys, _hashed(secret))
        if data is None:
            return None
        key = ApiKey(**json.loads(data))
        if key.rate is not None:
            self._count(key.id, key.rate)
        return key

    def _count(self, key_id: str, rate: int) -> None:
        now = time.time()
        name = f"{self._rates}:{key_id}:{int(now) // WINDOW}"
        with answering():
            count = int(self._call("INCR", name))
            if count == 1:
                self._call("EXPIRE", name, 2 * WINDOW)
        if count > rate:
            wait = WINDOW - int(now) % WINDOW
            raise Problem(
                429, f"this key may make {rate} requests a minute", headers={"Retry-After": str(wait)}
            )

    def _pairs(self) -> list[tuple[bytes, ApiKey]]:
        with answering():
            found: dict[bytes, bytes] = self._call("HGETALL", self._keys)
        return [(digest, ApiKey(**json.loads(data))) for digest, data in found.items()]


def _hashed(secret: str) -> str:
    """A key has 256 random bits: there is nothing to guess, so that a plain hash will do."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
