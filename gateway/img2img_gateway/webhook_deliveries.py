"""Messages on their way to webhooks, in Redis: those that wait, those being tried, and those given up.

{prefix}:gateway:deliveries    hash: delivery to its message and its tries
{prefix}:gateway:due           when to try each next, see `FairAgenda`
{prefix}:gateway:dead:TENANT   hash: deliveries that were given up, with the reason
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import Counter
from standardwebhooks.webhooks import Webhook

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.webhook_request import post
from img2img_gateway.webhook_targets import find_target
from img2img_shared.errors import FarmError, NotFound
from img2img_shared.ledger.connect import reading
from img2img_shared.ledger.tables import FairAgenda, Table
from img2img_shared.records import known_fields

#: seconds from each try to the next: about a day in all, as Standard Webhooks proposes
BACKOFF = (5, 60, 300, 1800, 7200, 18000, 36000, 36000)
#: deliveries that are tried at the same time; tenants share them, and so do the hosts of each
AT_ONCE = 64
#: deliveries of a tenant to a host that are due and not begun from which on they are behind
BEHIND = 100
#: deliveries of a tenant to a host that wait, for their next try too, from which on there is no room for more
FULL = 10_000
#: seconds after which a try that was begun and not ended may be begun again
CLAIMED = 60
#: dead deliveries of a tenant that are kept: the newest
DEAD = 1000

_TRIES = Counter("img2img_webhook_tries", "Tries to deliver a message to a webhook.", ["outcome"])


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One message to one URL."""

    #: the same for every try, so that its receiver can tell a repeat
    id: str
    tenant: str
    url: str
    body: str
    tries: int = 0
    error: str | None = None
    #: seconds since 1970
    created: float = 0.0

    @property
    def lane(self) -> str:
        """Its tenant's deliveries to the same host."""
        return _lane(self.tenant, self.url)


class Deliveries:
    """The deliveries of one farm. Methods block, and raise `Unavailable` where Redis does not answer.

    Args:
        secret: gives the secret that signs a tenant's messages.
    """

    def __init__(self, farm: AsyncFarm, secret: Callable[[str], str]) -> None:
        self._redis = farm.redis
        self._secret = secret
        self._private = farm.settings.webhook_private
        self._due = FairAgenda(farm.redis, "due", "deliveries", most=AT_ONCE, seconds=CLAIMED)

    def send(self, tenant: str, url: str, delivery_id: str, kind: str, data: Mapping[str, Any]) -> None:
        """Have a message delivered; a second one of the same id is dropped while the first is on its way."""
        now = time.time()
        stamp = datetime.fromtimestamp(now, UTC).isoformat()
        body = json.dumps({"type": kind, "timestamp": stamp, "data": data})
        delivery = Delivery(id=delivery_id, tenant=tenant, url=url, body=body, created=now)
        self._due.add(delivery.lane, delivery_id, asdict(delivery))

    def due(self) -> list[str]:
        """Deliveries to try now, the tenants in turn; the caller has each for `CLAIMED` seconds."""
        return self._due.take()

    def are_behind(self, tenant: str, url: str) -> bool:
        """Whether so many wait that more would delay those of the tenant's other jobs to the same host."""
        return self._due.overdue(_lane(tenant, url)) >= BEHIND

    def are_full(self, tenant: str, url: str) -> bool:
        """Whether there is no room for more: a host that is down for a day must not fill Redis."""
        return self._due.count(_lane(tenant, url)) >= FULL

    def deliver(self, delivery_id: str) -> None:
        """Try a delivery once. If it fails, it is due again later, or dead after the last try."""
        facts = self._due.get(delivery_id)
        if facts is None:
            return  # it was delivered already
        delivery = self._read(facts)
        try:
            error = self._post(delivery)
        except FarmError as failure:
            error = str(failure)
        _TRIES.labels("delivered" if error is None else "failed").inc()
        if error is None:
            self._due.remove(delivery.lane, delivery_id)
        else:
            self._try_later(replace(delivery, tries=delivery.tries + 1, error=error))
        self._due.give_back(delivery.lane, delivery_id)

    def dead(self, tenant: str) -> list[Delivery]:
        """A tenant's deliveries that were given up, newest first."""
        found = self._dead(tenant).all().values()
        return sorted((self._read(facts) for facts in found), key=lambda each: -each.created)

    def revive(self, tenant: str, delivery_id: str) -> None:
        """Try a dead delivery again, with as many tries as a new one.

        Raises:
            NotFound: the tenant has no dead delivery of this id.
        """
        dead = self._dead(tenant)
        facts = dead.get(delivery_id)
        if facts is None:
            raise NotFound(f"no dead delivery {delivery_id!r}")
        revived = replace(self._read(facts), tries=0, error=None)
        self._due.put(revived.lane, delivery_id, asdict(revived))
        dead.remove(delivery_id)

    def _post(self, delivery: Delivery) -> str | None:
        """Send it once; why it failed, or None."""
        target = find_target(delivery.url, private=self._private)
        now = datetime.now(UTC)
        signature = Webhook(self._secret(delivery.tenant)).sign(delivery.id, now, delivery.body)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "img2img-farm",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }
        status = post(target, delivery.body.encode(), headers)
        return None if 200 <= status < 300 else f"{target.host} answered {status}"

    def _try_later(self, tried: Delivery) -> None:
        if tried.tries > len(BACKOFF):
            self._bury(tried)
            return
        self._due.put(tried.lane, tried.id, asdict(tried), BACKOFF[tried.tries - 1])

    def _bury(self, delivery: Delivery) -> None:
        dead = self._dead(delivery.tenant)
        dead.put({delivery.id: asdict(delivery)})
        if len(dead) > DEAD:
            for oldest in self.dead(delivery.tenant)[DEAD:]:
                dead.remove(oldest.id)
        self._due.remove(delivery.lane, delivery.id)

    def _read(self, facts: Any) -> Delivery:
        with reading(self._redis.key("gateway", "deliveries")):
            return Delivery(**known_fields(Delivery, facts))

    def _dead(self, tenant: str) -> Table:
        return Table(self._redis, "dead", tenant)


def _lane(tenant: str, url: str) -> str:
    return f"{tenant} {urlsplit(url).netloc.lower()}"
