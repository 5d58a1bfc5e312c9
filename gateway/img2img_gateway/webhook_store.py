"""Webhooks: who wants to know what of which job, and what a tenant's messages are signed with.

{prefix}:gateway:hooks           hash: job to whom to tell what
{prefix}:gateway:secret:TENANT   what its messages are signed with
"""

import base64
import secrets
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Self

from anyio import CapacityLimiter, to_thread

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.webhook_deliveries import Deliveries
from img2img_gateway.webhook_targets import find_target
from img2img_shared.job import Job
from img2img_shared.ledger.tables import Table, first_value
from img2img_shared.records import Event, known_fields

#: hosts that are looked up at a time, for requests: one may take half a minute
LOOKUPS = 8


@dataclass(frozen=True, kw_only=True)
class Hook:
    """Who wants to know what of a job."""

    tenant: str
    url: str
    events: tuple[str, ...]
    #: id of the last event that was looked at
    after: str = "0"
    #: images of the job that had ended by then; None: an older version did not note it
    ended: int | None = None
    #: index of the next image to tell of without an event; None: there was an event for each
    missed: int | None = None
    #: images with a smaller index are done, and were told of
    told: int = 0
    #: seconds since 1970
    created: float = 0.0

    def after_event(self, last: Event) -> Self:
        """The same once events up to `last` were looked at."""
        return replace(self, after=last.id, ended=last.done + last.failed)


class WebhookStore:
    """The farm's webhooks. Methods block; each raises `Unavailable` when Redis does not answer."""

    def __init__(self, farm: AsyncFarm) -> None:
        self._farm = farm
        self._hooks = Table(farm.redis, "hooks")
        #: apart from the farm's calls, which hosts that nobody can look up would hold up
        self._lookups = CapacityLimiter(LOOKUPS)
        self.deliveries = Deliveries(farm, self.secret)

    async def checked(self, url: str, events: list[Any]) -> Hook:
        """A hook as a request asks for it.

        Raises:
            Refused: its URL may not be called.
            Unavailable: its host cannot be looked up.
        """
        look_up = partial(find_target, url, private=self._farm.settings.webhook_private)
        await to_thread.run_sync(look_up, limiter=self._lookups)
        return Hook(tenant="", url=url, events=tuple(events), ended=0, created=time.time())

    def add(self, job: Job, hook: Hook) -> None:
        """Tell what becomes of `job`, which is about to be written."""
        self.keep(job.id, replace(hook, tenant=job.tenant))

    def remove(self, job_id: str) -> None:
        """Tell no more."""
        self._hooks.remove(job_id)

    def all(self) -> dict[str, Hook]:
        """By job."""
        found = self._hooks.all()
        with self._hooks.reading():
            return {job: _hook(facts) for job, facts in found.items()}

    def keep(self, job_id: str, hook: Hook) -> None:
        """Keep the hook of a job, in place of what was known of it."""
        self._hooks.put({job_id: asdict(hook)})

    def secret(self, tenant: str) -> str:
        """What a tenant's messages are signed with, "whsec_" and base64; made when first asked for."""
        proposal = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        return first_value(self._farm.redis, "secret", tenant, proposal=proposal)


def _hook(facts: dict[str, Any]) -> Hook:
    return Hook(**{**known_fields(Hook, facts), "events": tuple(facts["events"])})
