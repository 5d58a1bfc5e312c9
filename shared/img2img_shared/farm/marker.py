"""The proof that a store is the farm's: an object in it with the farm's id, which the ledger has too.

A network share that is not mounted leaves an empty folder behind, and a wrong URL names another farm's store.
In either, a worker would find no object, or put pictures where nobody looks for them.
"""

import secrets

from img2img_shared.errors import StoreError
from img2img_shared.ledger import Ledger
from img2img_shared.store import Store

#: where the id lies
MARKER = "farm-id"


class StoreMarker:
    """The marker of one store. Methods also raise `Unavailable`."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        store.expect(MARKER, ledger.farm_id)
        #: the farm's id as it was found in the store
        self._proven: str | None = None

    def establish(self, *, anew: bool = False) -> None:
        """Make the store the farm's, if the farm has none yet; called before a job's inputs are put there.

        The store is read once; after that only the ledger is asked, which may have lost the id.

        Args:
            anew: a store without a marker is marked again; for a farm that has its store to itself.

        Raises:
            StoreError: it is not the farm's store, or cannot be read or written.
        """
        known = self._ledger.farm_id()
        if known is not None and known == self._proven:
            return
        found = self._read()
        if found is None and (known is None or anew):
            found = known or secrets.token_hex(16)
            if not self._store.create(MARKER, found.encode()):
                found = self._read()
            elif known is None:
                self._ledger.begin_generations()
        if known is None and found is not None:
            known = self._ledger.set_farm_id(found)
        self._compare(known, found)

    def check(self) -> None:
        """Compare the marker with the ledger; a farm without any job has none yet.

        Raises:
            StoreError: it is not the farm's store, or cannot be read.
        """
        known = self._ledger.farm_id()
        if known is not None:
            self._compare(known, self._read())

    def _read(self) -> str | None:
        try:
            return self._store.get(MARKER).decode("utf-8", "replace").strip()
        except StoreError as error:
            if not error.missing:
                raise
            return None

    def _compare(self, known: str | None, found: str | None) -> None:
        if known is None or found != known:
            holds = "there is none" if found is None else f"here it holds {found[:64]!r}"
            raise StoreError(
                f"{self._store.url} is not the store of this farm, in which the object {MARKER!r} holds "
                f"{known!r}: {holds}. Mount or name the right one, or write that id there if this is it",
                transient=False,
                mendable=True,
                reason="the store is not this farm's",
            )
        self._proven = known
