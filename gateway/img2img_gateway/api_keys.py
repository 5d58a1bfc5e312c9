"""API keys: who calls, for which tenant, and within which limits. Redis has a key's hash, never the key."""

import logging
import secrets
import time
from dataclasses import asdict, dataclass, fields
from typing import Any

from img2img_gateway.gateway_errors import Problem
from img2img_gateway.key_roles import Role
from img2img_gateway.keys_mark import KEY, KeysMark
from img2img_gateway.sessions import hashed
from img2img_shared.durations import read_duration, write_duration
from img2img_shared.errors import NotFound, Refused, Unavailable
from img2img_shared.ledger import FarmRedis
from img2img_shared.ledger.audit import Audit
from img2img_shared.ledger.tables import Table, count_in_window
from img2img_shared.store import Store

log = logging.getLogger(__name__)

#: seconds over which a key's requests are counted, and within which its use is noted once
WINDOW = 60
#: seconds for which it is believed that there are keys, or none
FRESH = 1.0
#: requests a minute with which the page of a key with a `rate` may look at jobs and pictures
LOOKS = 3000
#: under which name the key is noted that was revoked last of all
_LAST = "last"


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key, without its secret."""

    id: str
    #: for people: whose it is
    name: str
    tenant: str
    role: Role = Role.SUBMIT
    #: requests a minute; None: no limit
    rate: int | None = None
    #: images of the tenant that may wait or run at a time; None: no limit
    quota: int | None = None
    #: images of one job; None: no limit
    largest: int | None = None
    #: the highest that a job may have; None: any
    priority: int | None = None
    #: how long jobs are kept that do not say, and the longest that they may ask for; None: as the farm says
    keep: str | None = None
    #: bytes that its tenant may have in the store; None: no limit
    storage: int | None = None
    #: seconds since 1970
    created: int = 0

    def allowed_priority(self, asked: int | None) -> int:
        """The priority of a job that asks for this one; without one, 0 if the key may have that.

        Raises:
            Refused: it is too high.
        """
        highest = 100 if self.priority is None else self.priority
        if asked is None:
            return min(0, highest)
        if asked > highest:
            raise Refused("priority", asked, f"this key allows at most {highest}")
        return asked

    def allowed_keep(self, asked: str | None) -> str | None:
        """How long a job is kept that asks for this.

        Raises:
            Refused: it is too long.
        """
        if self.keep is None or asked is None:
            return asked or self.keep
        longest, wanted = read_duration(self.keep), read_duration(asked)
        if longest is not None and (wanted is None or wanted > longest):
            raise Refused("keep", asked, f"this key allows at most {self.keep}")
        return asked


class ApiKeys:
    """The keys of a farm. Every method raises `Unavailable` when Redis, or the store, does not answer."""

    def __init__(self, redis: FarmRedis, store: Store) -> None:
        self._redis = redis
        self._mark = KeysMark(store)
        self._audit = Audit(redis)
        #: by the hash of their secrets
        self._keys = Table(redis, "keys")
        #: there when the last key was revoked, rather than lost with all that Redis knew
        self._revoked = Table(redis, "revoked")
        #: when each was used last, by its id: seconds since 1970
        self._uses = Table(redis, "key-uses")
        #: those of them that this process has written
        self._noted: dict[str, int] = {}
        self._asked, self._exist = -FRESH, False

    def create(
        self,
        name: str,
        tenant: str,
        *,
        by: str = "",
        role: Role = Role.SUBMIT,
        rate: int | None = None,
        quota: int | None = None,
        largest: int | None = None,
        priority: int | None = None,
        keep: str | None = None,
        storage: int | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its secret, which cannot be read again. `by`: who makes it, for the audit."""
        key_id = secrets.token_hex(4)
        secret = f"img2img_{key_id}_{secrets.token_urlsafe(32)}"
        key = ApiKey(
            id=key_id,
            name=name,
            tenant=tenant,
            role=role,
            rate=rate,
            quota=quota,
            largest=largest,
            priority=priority,
            keep=keep and write_duration(read_duration(keep)),
            storage=storage,
            created=int(time.time()),
        )
        # what is as ever is not written: a gateway of an older version may not know it
        facts = {name: value for name, value in asdict(key).items() if value is not None}
        if role is Role.SUBMIT:
            del facts["role"]
        self._mark.put()
        self._keys.put({hashed(secret): facts})
        self._revoked.remove(_LAST)
        if by:
            self._audit.write(by=by, tenant=tenant, action="create-key", subject=key_id, detail=role)
        return key, secret

    def all(self) -> list[ApiKey]:
        """All keys, oldest first."""
        return sorted((key for _, key in self._pairs()), key=lambda key: (key.created, key.id))

    def last_uses(self) -> dict[str, int]:
        """By id, when a key was last used, in seconds since 1970, to the minute; without unused keys."""
        return self._uses.all()

    def revoke(self, key_id: str, by: str = "") -> ApiKey:
        """Revoke a key: its next request is refused.

        Raises:
            NotFound: there is no key with that id.
        """
        for digest, key in self._pairs():
            if key.id == key_id:
                self._keys.remove(digest)
                self._uses.remove(key.id)
                if not len(self._keys):
                    self._revoked.put({_LAST: key.id})
                    self._mark.remove()
                if by:
                    self._audit.write(by=by, tenant=key.tenant, action="revoke-key", subject=key.id)
                return key
        raise NotFound(f"no key {key_id!r}; `img2img key list` names them")

    def exist(self) -> bool:
        """Whether there is any key; looked up again each second.

        Once there was one, this is true until the last one is revoked. So a gateway stays closed when Redis
        has lost all keys, even if it starts only after that.
        """
        now = time.monotonic()
        if now >= self._asked + FRESH:
            self._exist = len(self._keys) > 0 or (not len(self._revoked) and self._existed())
            self._asked = now
        return self._exist

    def look_after_mark(self) -> None:
        """Have the store remember keys that an older version made, and warn of keys that Redis has lost.

        A store that does not answer just now is no error: it is asked again when it matters.
        """
        try:
            if len(self._keys):
                self._mark.put()
            elif not len(self._revoked) and self._mark.is_there():
                log.warning(
                    "API keys were lost: the store remembers some (%s), and Redis knows none. Nobody is "
                    "answered until there is one again (img2img key create), or that is removed",
                    KEY,
                )
        except Unavailable as error:
            log.warning("%s", error)

    def admit(self, secret: str) -> ApiKey | None:
        """The key with that secret, with this request counted, or None.

        Raises:
            Problem: 429, with the seconds to wait, when its requests of this minute are used up.
        """
        return self.admit_hash(hashed(secret))

    def admit_hash(self, secret_hash: str, *, looks: bool = False) -> ApiKey | None:
        """Like `admit`, by the hash of the secret.

        Args:
            looks: the request is one of the many by which a page shows things; they are counted separately.
        """
        facts = self._keys.get(secret_hash)
        if facts is None:
            return None
        with self._keys.reading():
            key = _key(facts)
        self._note_use(key.id)
        if key.rate is not None and looks:
            self._count(f"looks-{key.id}", max(key.rate, LOOKS))
        elif key.rate is not None:
            self._count(key.id, key.rate)
        return key

    def _existed(self) -> bool:
        return self._exist or self._mark.is_there()

    def _note_use(self, key_id: str) -> None:
        now = int(time.time())
        if now >= self._noted.get(key_id, 0) + WINDOW:
            self._uses.put({key_id: now})
            self._noted[key_id] = now

    def _count(self, key_id: str, rate: int) -> None:
        if count_in_window(self._redis, "rate", key_id, window=WINDOW) > rate:
            wait = WINDOW - int(time.time()) % WINDOW
            raise Problem(
                429, f"this key may make {rate} requests a minute", headers={"Retry-After": str(wait)}
            )

    def _pairs(self) -> list[tuple[str, ApiKey]]:
        found = self._keys.all()
        with self._keys.reading():
            return [(digest, _key(facts)) for digest, facts in found.items()]


def _key(facts: dict[str, Any]) -> ApiKey:
    if unknown := facts.keys() - {each.name for each in fields(ApiKey)}:  # limits, perhaps
        told = f"the API key {facts['id']} was made by a newer version, with {', '.join(sorted(unknown))}"
        raise Unavailable(f"{told}: update this gateway", reason="this gateway is too old for the API key")
    return ApiKey(**{**facts, "role": Role(facts.get("role", Role.SUBMIT))})
