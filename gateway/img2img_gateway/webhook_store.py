"""Webhooks: who wants to know, what is on its way, and what could not be delivered. All of it in Redis.

{prefix}:gateway:hooks           hash: job to whom to tell what
{prefix}:gateway:deliveries      hash: delivery to its message and its tries
{prefix}:gateway:due             sorted set of deliveries by when to try next
{prefix}:gateway:dead:TENANT     hash: delivery that was given up, with why
{prefix}:gateway:secret:TENANT   what its messages are signed with
"""

import base64
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from standardwebhooks.webhooks import Webhook

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.webhook_targets import find_target, post
from img2img_shared.errors import FarmError, NotFound
from img2img_shared.job import Job
from img2img_shared.ledger.tables import Agenda, Table, first_value

#: seconds until the next try, after each: about a day in all, as Standard Webhooks proposes
BACKOFF = (5, 60, 300, 1800, 7200, 18000, 36000, 36000)
#: deliveries that one round begins
AT_ONCE = 100
#: seconds for which a try that was begun is left alone
CLAIMED = 60
#: dead deliveries of a tenant that are remembered
DEAD = 1000


@dataclass(frozen=True, kw_only=True)
class Hook:
    """Who wants to know what of a job."""

    tenant: str
    url: str
    events: tuple[str, ...]
    #: id of the last event that was looked at
    after: str = "0"
    #: seconds since 1970
    created: float = 0.0


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


class WebhookStore:
    """The farm's webhooks. Methods block; each raises `Unavailable` when Redis does not answer."""

    def __init__(self, core: AsyncFarm) -> None:
        self._core = core
        self._private = core.settings.webhook_private
        self._hooks = Table(core.redis, "hooks")
        self._deliveries = Table(core.redis, "deliveries")
        self._due = Agenda(core.redis, "due")

    async def checked(self, url: str, events: list[Any]) -> Hook:
        """A hook as a request asks for it.

        Raises:
            Refused: its URL may not be called.
            Unavailable: its host cannot be looked up.
        """
        await self._core.call(find_target, url, private=self._private)
        return Hook(tenant="", url=url, events=tuple(events), created=time.time())

    def add(self, job: Job, hook: Hook) -> None:
        """Tell what becomes of `job`, which is about to be written."""
        self._keep(job.id, replace(hook, tenant=job.tenant))

    def remove(self, job_id: str) -> None:
        """Tell no more."""
        self._hooks.remove(job_id)

    def all(self) -> dict[str, Hook]:
        """By job."""
        return {job: _hook(facts) for job, facts in self._hooks.all().items()}

    def advance(self, job_id: str, hook: Hook, after: str) -> None:
        """Events up to `after` were looked at."""
        self._keep(job_id, replace(hook, after=after))

    def send(self, hook: Hook, delivery_id: str, kind: str, data: Mapping[str, Any]) -> None:
        """Have a message delivered; one of the same id is on its way once."""
        now = time.time()
        stamp = datetime.fromtimestamp(now, UTC).isoformat()
        body = json.dumps({"type": kind, "timestamp": stamp, "data": data})
        delivery = Delivery(id=delivery_id, tenant=hook.tenant, url=hook.url, body=body, created=now)
        if self._deliveries.add(delivery_id, asdict(delivery)):
            self._due.put(delivery_id, now)

    def due(self) -> list[str]:
        """Deliveries whose time has come; each is left to the caller for a while."""
        return self._due.take(AT_ONCE, CLAIMED)

    def deliver(self, delivery_id: str) -> None:
        """Try once. On failure it is due again later, or dead after the last try."""
        facts = self._deliveries.get(delivery_id)
        if facts is None:
            return  # it was delivered already
        delivery = Delivery(**facts)
        try:
            error = self._post(delivery)
        except FarmError as failure:
            error = str(failure)
        if error is None:
            self._forget(delivery_id)
            return
        tried = replace(delivery, tries=delivery.tries + 1, error=error)
        if tried.tries > len(BACKOFF):
            self._bury(tried)
            return
        self._deliveries.put({delivery_id: asdict(tried)})
        self._due.put(delivery_id, time.time() + BACKOFF[tried.tries - 1])

    def dead(self, tenant: str) -> list[Delivery]:
        """Those of a tenant that were given up, newest first."""
        found = self._dead(tenant).all().values()
        return sorted((Delivery(**facts) for facts in found), key=lambda each: -each.created)

    def revive(self, tenant: str, delivery_id: str) -> None:
        """Try a dead one again from the beginning.

        Raises:
            NotFound: the tenant has none of that id.
        """
        dead = self._dead(tenant)
        facts = dead.get(delivery_id)
        if facts is None:
            raise NotFound(f"no dead delivery {delivery_id!r}")
        self._deliveries.put({delivery_id: asdict(replace(Delivery(**facts), tries=0, error=None))})
        self._due.put(delivery_id, time.time())
        dead.remove(delivery_id)

    def secret(self, tenant: str) -> str:
        """What a tenant's messages are signed with, "whsec_" and base64; made when first asked for."""
        proposal = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        return first_value(self._core.redis, "secret", tenant, proposal=proposal)

    def _post(self, delivery: Delivery) -> str | None:
        """What went wrong; None: it was taken."""
        target = find_target(delivery.url, private=self._private)
        now = datetime.now(UTC)
        signature = Webhook(self.secret(delivery.tenant)).sign(delivery.id, now, delivery.body)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "img2img-farm",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }
        status = post(target, delivery.body.encode(), headers)
        return None if 200 <= status < 300 else f"{target.host} answered {status}"

    def _keep(self, job_id: str, hook: Hook) -> None:
        self._hooks.put({job_id: asdict(hook)})

    def _forget(self, delivery_id: str) -> None:
        self._due.remove(delivery_id)
        self._deliveries.remove(delivery_id)

    def _bury(self, delivery: Delivery) -> None:
        dead = self._dead(delivery.tenant)
        if len(dead) < DEAD:
            dead.put({delivery.id: asdict(delivery)})
        self._forget(delivery.id)

    def _dead(self, tenant: str) -> Table:
        return Table(self._core.redis, "dead", tenant)


def _hook(facts: dict[str, Any]) -> Hook:
    return Hook(**{**facts, "events": tuple(facts["events"])})
