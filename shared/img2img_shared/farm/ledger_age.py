"""The proof that the ledger is no older than the store: both count generations, and the store's is not ahead.

After a FLUSHALL, or when a copy of Redis is restored, the ledger knows less than the store. Objects that it
does not name may be wanted then, and jobs may not have ended as it says. So it is trusted only from that
moment on.
"""

from img2img_shared.errors import StoreError
from img2img_shared.ledger.retention import Retention
from img2img_shared.store import Store

#: where the store's generation lies
KEY = "janitor/generation"


class LedgerAge:
    """The age of one farm's ledger. Methods raise `Unavailable` when Redis does not answer."""

    def __init__(self, store: Store, retention: Retention) -> None:
        self._store = store
        self._retention = retention

    def advance(self) -> int:
        """Check that the ledger is as old as the store, and begin the next generation, which is returned.

        Raises:
            StoreError: the store cannot be read or written.
        """
        known, noted = self._retention.note("generation"), self._noted_generation()
        if known is None or known < noted:
            self._retention.set_note("trusted", round(1000 * self._retention.now()))
        generation = 1 + int(max(known or 0, noted))
        self._retention.set_note("generation", generation)
        self._store.put(KEY, str(generation).encode())
        return generation

    def trusted_for(self) -> float:
        """For how many seconds the ledger has known of everything that happened."""
        return self._retention.now() - (self._retention.note("trusted") or 0.0) / 1000

    def _noted_generation(self) -> int:
        try:
            return int(self._store.get(KEY))
        except StoreError as error:
            if not error.missing:
                raise
            return 0
