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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from standardwebhooks.webhooks import Webhook

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.webhook_targets import find_target, post
from img2img_shared.connect import answering
from img2img_shared.errors import FarmError, NotFound
from img2img_shared.job import Job

#: seconds until the next try, after each: about a day in all, as Standard Webhooks proposes
BACKOFF = (5, 60, 300, 1800, 7200, 18000, 36000, 36000)
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
        self._call: Callable[..., Any] = core.redis.execute_command

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
        with answering():
            self._call("HDEL", self._core.key("hooks"), job_id)

    def all(self) -> dict[str, Hook]:
        """By job."""
        with answering():
            found: dict[bytes, bytes] = self._call("HGETALL", self._core.key("hooks"))
        return {str(job, "utf-8"): _hook(data) for job, data in found.items()}

    def advance(self, job_id: str, hook: Hook, after: str) -> None:
        """Events up to `after` were looked at."""
        self._keep(job_id, replace(hook, after=after))

    def send(self, hook: Hook, delivery_id: str, kind: str, data: Mapping[str, Any]) -> None:
        """Have a message delivered; one of the same id is on its way once."""
        now = time.time()
        stamp = datetime.fromtimestamp(now, UTC).isoformat()
        body = json.dumps({"type": kind, "timestamp": stamp, "data": data})
        delivery = Delivery(id=delivery_id, tenant=hook.tenant, url=hook.url, body=body, created=now)
        with answering():
            if self._call("HSETNX", self._core.key("deliveries"), delivery_id, json.dumps(asdict(delivery))):
                self._call("ZADD", self._core.key("due"), now, delivery_id)

    def due(self) -> list[str]:
        """Deliveries whose time has come; each is left to the caller for a while."""
        now = time.time()
        with answering():
            found = self._call("ZRANGEBYSCORE", self._core.key("due"), "-inf", now, "LIMIT", 0, 100)
            for each in found:
                self._call("ZADD", self._core.key("due"), "XX", now + CLAIMED, each)
        return [str(each, "utf-8") for each in found]

    def deliver(self, delivery_id: str) -> None:
        """Try once. On failure it is due again later, or dead after the last try."""
        with answering():
            data = self._call("HGET", self._core.key("deliveries"), delivery_id)
        if data is None:
            return  # it was delivered already
        delivery = Delivery(**json.loads(data))
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
        with answering():
            self._call("HSET", self._core.key("deliveries"), delivery_id, json.dumps(asdict(tried)))
            self._call("ZADD", self._core.key("due"), time.time() + BACKOFF[tried.tries - 1], delivery_id)

    def dead(self, tenant: str) -> list[Delivery]:
        """Those of a tenant that were given up, newest first."""
        with answering():
            found: list[bytes] = self._call("HVALS", self._core.key("dead", tenant))
        return sorted((Delivery(**json.loads(each)) for each in found), key=lambda each: -each.created)

    def revive(self, tenant: str, delivery_id: str) -> None:
        """Try a dead one again from the beginning.

        Raises:
            NotFound: the tenant has none of that id.
        """
        key = self._core.key("dead", tenant)
        with answering():
            data = self._call("HGET", key, delivery_id)
            if data is None:
                raise NotFound(f"no dead delivery {delivery_id!r}")
            fresh = replace(Delivery(**json.loads(data)), tries=0, error=None)
            self._call("HSET", self._core.key("deliveries"), delivery_id, json.dumps(asdict(fresh)))
            self._call("ZADD", self._core.key("due"), time.time(), delivery_id)
            self._call("HDEL", key, delivery_id)

    def secret(self, tenant: str) -> str:
        """What a tenant's messages are signed with, "whsec_" and base64; made when first asked for."""
        key = self._core.key("secret", tenant)
        with answering():
            self._call("SET", key, "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(), "NX")
            return str(self._call("GET", key), "utf-8")

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
        with answering():
            self._call("HSET", self._core.key("hooks"), job_id, json.dumps(asdict(hook)))

    def _forget(self, delivery_id: str) -> None:
        with answering():
            self._call("ZREM", self._core.key("due"), delivery_id)
            self._call("HDEL", self._core.key("deliveries"), delivery_id)

    def _bury(self, delivery: Delivery) -> None:
        key = self._core.key("dead", delivery.tenant)
        with answering():
            if self._call("HLEN", key) < DEAD:
                self._call("HSET", key, delivery.id, json.dumps(asdict(delivery)))
        self._forget(delivery.id)


def _hook(data: bytes) -> Hook:
    facts = json.loads(data)
    return Hook(**{**facts, "events": tuple(facts["events"])})
