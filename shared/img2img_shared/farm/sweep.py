"""One look through a farm's store: finds what nothing names, and adds up the rest by tenant.

A picture may be removed if no page of inputs in the store, no job in the ledger and no submission under way
names it, and if it was uploaded so long ago that nobody is about to name it. A page that cannot be read might
name any picture, so then nothing is removed.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from img2img_shared.errors import StoreError, WireError
from img2img_shared.farm.intake import AGE, REMOVAL
from img2img_shared.farm.job_folder import JobFolder, job_folders
from img2img_shared.farm.ledger_age import LedgerAge
from img2img_shared.farm.orphans import Orphan
from img2img_shared.job import inputs_folder, picture_digest
from img2img_shared.ledger.retention import PICTURES, SHARE, Retention, Standing
from img2img_shared.store import Store
from img2img_shared.wire import decode_inputs, decode_job

log = logging.getLogger(__name__)

#: pictures that one look may find to remove: those beyond are found by the next
MOST = 200_000
#: times that jobs which came meanwhile are looked at, before a tenant's pictures are left to the next look
_TRIES = 20


@dataclass
class Found:
    """The result of one sweep."""

    #: bytes by tenant: of pictures that jobs were made from, and of results
    inputs: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    orphans: list[Orphan] = field(default_factory=list)
    #: jobs that were removed, and whose results came after that
    late: list[str] = field(default_factory=list)
    #: pictures that nothing names, by their keys, and their bytes
    unnamed: dict[str, int] = field(default_factory=dict)
    #: seconds until unnamed pictures can be removed, since the ledger is younger than the store; 0: they can
    held_for: float = 0.0


class Sweep:
    """A sweep of one farm's store. Methods raise `Unavailable` and `StoreError`.

    Args:
        uploads: seconds for which a picture that nothing names stays; None: forever.
        step: called between any two calls to the store; what it raises ends the sweep.
    """

    def __init__(
        self,
        store: Store,
        retention: Retention,
        age: LedgerAge,
        *,
        uploads: float | None,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._retention = retention
        self._age = age
        self._uploads = uploads
        self._step = step
        self._generation = 0
        #: the last of each tenant's jobs, all up to which were looked at
        self._latest: dict[str, str] = {}

    def look(self, generation: int) -> Found:
        """Find out what is there, without removing anything.

        Args:
            generation: the ledger's.

        Raises:
            WireError: a newer version wrote a page of inputs.
        """
        found = Found(held_for=max(0.0, AGE - self._age.trusted_for()))
        self._generation = generation
        self._add_up_inputs(found)
        self._latest = {tenant: self._retention.latest(tenant) for tenant in found.inputs}
        folders = job_folders(self._store)
        while share := list(islice(folders, SHARE)):
            self._step()
            standings = self._retention.standings([each.job_id for each in share])
            for folder, standing in zip(share, standings, strict=True):
                self._add_up(found, folder, standing)
        return found

    def remove_unnamed(self, found: Found) -> int:
        """Remove the pictures that nothing names, unless something names them now; returns how many."""
        if found.held_for:
            return 0
        by_tenant: dict[str, list[str]] = {}
        for key in found.unnamed:
            by_tenant.setdefault(key.split("/")[1], []).append(key)
        return sum(self._remove_of(tenant, keys, found) for tenant, keys in by_tenant.items())

    def _add_up_inputs(self, found: Found) -> None:
        """Add up the inputs, and list the old ones; if there are too many, another part each time."""
        now, parts = self._retention.now(), max(1, round(self._retention.note("parts") or 1))
        count = 0
        for each in self._store.objects("inputs"):
            words = each.key.split("/")
            tenant = words[1] if len(words) == 3 else ""  # an older version's pictures are all tenants'
            found.inputs[tenant] += each.size
            if not tenant or self._uploads is None or now - each.written <= self._uploads:
                continue
            count += 1
            if int(words[2][:8], 16) % parts == self._generation % parts:
                found.unnamed[each.key] = each.size
        self._retention.set_note("parts", 1 + count // MOST)

    def _add_up(self, found: Found, folder: JobFolder, standing: Standing) -> None:
        if standing.tenant is not None:
            found.results[standing.tenant] += folder.bytes
        elif standing.is_removed:
            found.late.append(folder.job_id)
        elif standing.is_unknown:
            found.orphans.append(Orphan.of(folder))
        self._strike(found, folder.pages, standing)

    def _strike(self, found: Found, pages: Iterable[str], standing: Standing) -> None:
        """Strike what any job names from the unnamed."""
        if not found.unnamed:
            return
        for key in self._named_pictures(pages, standing):
            found.unnamed.pop(key, None)

    def _named_pictures(self, pages: Iterable[str], standing: Standing) -> Iterator[str]:
        for page in pages:
            self._step()
            try:
                for item in decode_inputs(self._store.get(page)):
                    yield from item.pictures.values()
            except StoreError as error:
                if not error.missing:  # else it was removed a moment ago
                    raise
            except WireError as error:
                raise WireError(f"{page} cannot be read, and may name any picture: {error}") from None
        if standing.data:
            yield from decode_job(standing.data).pictures.values()

    def _remove_of(self, tenant: str, keys: list[str], found: Found) -> int:
        count = 0
        for start in range(0, len(keys), PICTURES):
            for _ in range(_TRIES):
                share = [
                    picture_digest(key) for key in keys[start : start + PICTURES] if key in found.unnamed
                ]
                if not share:
                    break
                doomed = self._retention.doom(
                    tenant, share, latest=self._latest[tenant], turn=REMOVAL, generation=self._generation
                )
                if doomed is not None:
                    count += self._remove_doomed(tenant, doomed, found)
                    break
                if not self._strike_new(tenant, found):
                    return count
        return count

    def _strike_new(self, tenant: str, found: Found) -> bool:
        """Strike what newly submitted jobs name; False: there are too many of these."""
        jobs = self._retention.submitted_since(tenant, self._latest[tenant])
        if jobs is None:
            return False
        for job_id, standing in zip(jobs, self._retention.standings(jobs), strict=True):
            self._strike(found, self._store.list(inputs_folder(job_id)), standing)
        if jobs:
            self._latest[tenant] = jobs[0]
        return True

    def _remove_doomed(self, tenant: str, digests: list[str], found: Found) -> int:
        begun, now, count = time.monotonic(), self._retention.now(), 0
        spared = set(digests)
        try:
            for digest in digests:
                self._step()
                if time.monotonic() - begun > REMOVAL / 4:  # a slow store must not remove what has come again
                    break
                key = f"inputs/{tenant}/{digest}"
                written = self._store.written(key)
                if written is None or now - written <= (self._uploads or 0.0):
                    continue
                spared.discard(digest)  # should the store not answer, it may yet remove it
                self._store.delete(key)
                spared.add(digest)
                found.inputs[tenant] -= found.unnamed[key]
                count += 1
        finally:
            self._retention.spare(tenant, sorted(spared))
        return count
