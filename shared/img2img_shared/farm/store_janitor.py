"""Removes from the store what nobody needs any more, after asking the ledger, a bit at a time.

Each gateway and each worker has one, and one of them at a time does the work. Wherever it stops or is killed,
the next one continues: the ledger forgets a job before the store does, and remembers what is to be removed
until it is.
"""

import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from img2img_shared.errors import FarmError, Refused, Summary, WireError
from img2img_shared.farm.input_janitor import InputJanitor
from img2img_shared.farm.intake import AGE
from img2img_shared.farm.ledger_age import LedgerAge
from img2img_shared.farm.orphans import Orphan
from img2img_shared.farm.storage import Storage
from img2img_shared.farm.sweep import Found, Sweep
from img2img_shared.ledger.connect import FarmRedis
from img2img_shared.ledger.retention import Retention
from img2img_shared.ledger.submissions import Submissions
from img2img_shared.ledger.tables import Election, Table
from img2img_shared.pushed_models.model_index import ModelIndex
from img2img_shared.pushed_models.model_objects import ModelObjects
from img2img_shared.settings import Settings
from img2img_shared.store import Store

log = logging.getLogger(__name__)

#: seconds between two rounds of a process
EVERY = 60.0
#: seconds between two looks at all of the store, and between two generations of the ledger
SWEEP_EVERY, ADVANCE_EVERY = 6 * 3600.0, 600.0
#: seconds in which whoever got removed jobs must have removed their results, and after which it looks again
TURN, AGAIN = 600.0, 24 * 3600.0
#: seconds for which a janitor is waited for that is not heard of, and between two signs of its life
TERM, SIGN = 300, 20.0


class Busy(Refused):
    """Another process is doing it."""


class Replaced(FarmError):
    """Another process is the janitor now."""


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """What was removed, or would be in a dry run."""

    #: jobs that were kept long enough, with their results
    jobs: int
    #: pictures that nothing names, and their bytes
    pictures: int
    bytes: int
    #: jobs that only the store knew
    orphans: int
    #: seconds until pictures can be removed, since the ledger is younger than the store; 0: they were
    held_for: float


class StoreJanitor:
    """The janitor of one store. Methods raise `Unavailable` when Redis does not answer, and `StoreError`."""

    def __init__(self, redis: FarmRedis, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._retention = Retention(redis)
        self._age = LedgerAge(store, self._retention)
        self._submissions = InputJanitor(Submissions(redis), store)
        self._orphans = Table(redis, "orphans")
        self._models = ModelObjects(store)
        self._model_index = ModelIndex(redis, self._models)
        self._storage = Storage(redis)
        self._lock = Election(redis, "janitor", secrets.token_hex(8), TERM)
        self._signed = 0.0

    def round(self) -> None:
        """Do what is due, unless another process is doing it."""
        self._submissions.round()
        if not self._is_due():
            return
        with suppress(Busy), self._turn():
            if self._since("advanced") >= ADVANCE_EVERY:
                self._advance()
            self._remove_jobs()
            if self._since("swept") >= SWEEP_EVERY:
                self._clean(self._settings.keep_uploads, self._settings.keep_orphans)

    def clean(self, *, uploads: float | None, orphans: float | None = None, dry_run: bool = False) -> Cleaned:
        """Look through the whole store now, and remove what may go; with `dry_run`, only say what would go.

        Args:
            uploads: seconds for which a picture that nothing names stays; None: forever.
            orphans: seconds for which an orphan stays listed before it is removed; None: forever.

        Raises:
            Refused: another process is doing it, or the store has something that cannot be read.
        """
        if not dry_run:
            with self._turn():
                return self._clean(uploads, orphans)
        # it takes no turn, and so has none to hold on to
        found = self._look(Sweep(self._store, self._retention, self._age, uploads=uploads), 0)
        gone = self._overdue(found, orphans)
        return _as_cleaned(found, len(self._retention.due()), len(found.unnamed), len(gone))

    def _clean(self, uploads: float | None, orphans: float | None) -> Cleaned:
        self._retention.set_note("swept", self._retention.now())
        if not self._retention.is_begun():
            return _as_cleaned(Found(), 0, 0, 0)
        jobs = self._remove_jobs()
        generation = self._advance()
        before = self._storage.counted()
        sweep = Sweep(self._store, self._retention, self._age, uploads=uploads, step=self._step)
        found = self._look(sweep, generation)
        self._storage.write(found, before)
        self._list(found.orphans)
        for job_id in found.late:
            self._step()
            self._store.delete_all(f"jobs/{job_id}")
        gone = [each for each in self._overdue(found, orphans) if self._retention.take_orphan(each.id)]
        for each in gone:
            self._step()
            self._store.delete_all(f"jobs/{each.id}")
            self._orphans.remove(each.id)
        self._remove_unfinished_models()
        self._model_index.refresh()
        pictures = sweep.remove_unnamed(found)
        self._storage.write(found, {})
        cleaned = _as_cleaned(found, jobs, pictures, len(gone))
        if cleaned.jobs or cleaned.pictures or cleaned.orphans:
            log.info("removed from the store: %s", cleaned)
        return cleaned

    def _look(self, sweep: Sweep, generation: int) -> Found:
        try:
            return sweep.look(generation)
        except WireError as error:
            reason = f"put right what cannot be read; until then no picture is removed: {error}"
            raise Refused("clean", Summary("not possible"), reason) from error

    def listed(self) -> dict[str, float]:
        """The orphans found so far, and when each was first found (seconds since 1970)."""
        return {job_id: facts["since"] for job_id, facts in self._orphans.all().items()}

    def _is_due(self) -> bool:
        """Whether there is anything to do; what was never done is due after a while."""
        if not self._retention.is_begun():
            return False
        is_over = self._since("advanced") >= ADVANCE_EVERY or self._since("swept") >= SWEEP_EVERY
        return is_over or self._retention.has_removals()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Within the context, no other process cleans.

        Raises:
            Refused: another process is cleaning.
        """
        if not self._lock.is_won():
            raise Busy(
                "clean",
                Summary("not possible now"),
                "another process of the farm is cleaning; try again in some minutes",
            )
        self._signed = time.monotonic()
        try:
            yield
        finally:
            self._lock.resign()

    def _remove_jobs(self) -> int:
        """Remove the objects of jobs that have expired or were removed; returns of how many jobs."""
        if self._retention.due():
            self._advance()  # before anything that an older ledger says is believed
            while self._retention.expire():
                self._step()
        count = 0
        while found := self._retention.removals(TURN):
            for removal in found:
                self._step()
                count += self._store.delete_all(f"jobs/{removal.split()[0]}") > 0
                self._retention.cleared(removal, AGAIN)
        return count

    def _remove_unfinished_models(self) -> None:
        """Remove uploads of models that stopped long ago; a client that continues one now has to wait."""
        for sha256 in self._models.unfinished(before=self._retention.now() - AGE):
            self._step()
            self._model_index.remove(sha256)
            if not self._models.has_about(sha256):
                self._models.remove(sha256)
            self._model_index.end_removal(sha256)

    def _list(self, found: list[Orphan]) -> None:
        """Note since when each orphan is known, and forget those that no longer are orphans."""
        known, now = self._orphans.all(), self._retention.now()
        ids = {each.id for each in found}
        for job_id in known.keys() - ids:
            self._orphans.remove(job_id)
        self._orphans.put({each.id: {**asdict(each), "since": now} for each in found if each.id not in known})

    def _overdue(self, found: Found, orphans: float | None) -> list[Orphan]:
        """Orphans that have been listed for long enough, while nothing was lost from the ledger."""
        if orphans is None or (orphans and self._age.trusted_for() < orphans):
            return []
        listed, now = self.listed(), self._retention.now()
        return [each for each in found.orphans if now - listed.get(each.id, now) >= orphans]

    def _advance(self) -> int:
        generation = self._age.advance()
        self._retention.set_note("advanced", self._retention.now())
        return generation

    def _since(self, fact: str) -> float:
        """Seconds since something was last done; the first time, that counts as done now."""
        now, found = self._retention.now(), self._retention.note(fact)
        if found is None:
            self._retention.set_note(fact, now)
        return 0.0 if found is None else now - found

    def _step(self) -> None:
        """Say now and then that this janitor is alive.

        Raises:
            Replaced: it was thought dead.
        """
        if time.monotonic() - self._signed >= SIGN:
            if not self._lock.is_won():
                raise Replaced("another process is the janitor by now")
            self._signed = time.monotonic()


def _as_cleaned(found: Found, jobs: int, pictures: int, orphans: int) -> Cleaned:
    return Cleaned(
        jobs=jobs,
        pictures=pictures,
        bytes=sum(found.unnamed.values()),
        orphans=orphans,
        held_for=found.held_for,
    )
