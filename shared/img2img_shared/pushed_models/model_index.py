"""An index of the store's models in Redis: submits use it, since they must not list the store."""

import secrets
import threading
from collections.abc import Mapping

from img2img_shared.ledger.connect import FarmRedis
from img2img_shared.ledger.tables import Table
from img2img_shared.pushed_models.model_objects import ModelObjects
from img2img_shared.pushed_models.pushed_model import ModelKind, PushedModel, find_pushed, read_pushed

#: of the document that is another one whenever something has changed
_VERSION = ""
#: seconds for which nobody finds a file that is being removed, unless that is said again or it has ended
_REMOVAL = 120


class ModelIndex:
    """The index of one farm; thread-safe. The store is what counts: if Redis loses its data, it is rebuilt.

    Methods raise `Unavailable`, and `StoreError` if the store must be listed.
    """

    def __init__(self, redis: FarmRedis, objects: ModelObjects) -> None:
        self._redis = redis
        self._table = Table(redis, "models")
        self._objects = objects
        self._lock = threading.Lock()
        self._version: str | None = None
        self._known: Mapping[str, PushedModel] = {}

    def all(self) -> Mapping[str, PushedModel]:
        """All models by their SHA-256."""
        with self._lock:
            version = self._table.get(_VERSION)
            if version is None:
                self._refresh()
            elif version != self._version:
                documents = self._table.all()
                self._version = documents.pop(_VERSION, None)
                read = {sha256: read_pushed(each) for sha256, each in documents.items()}
                self._known = {sha256: each for sha256, each in read.items() if each is not None}
            return self._known

    def find(self, kind: ModelKind, wanted: str) -> PushedModel | None:
        """The model that a name, a title or a hash means; of several with that name, the last one pushed."""
        return find_pushed(wanted, kind, self.all().values())

    def put(self, model: PushedModel) -> None:
        """Add a model, which is in the store."""
        self._redis.call("DEL", self._removal_key(model.sha256))
        document = model.model_dump(mode="json")
        self._table.put({model.sha256: document, _VERSION: secrets.token_hex(8)})

    def remove(self, sha256: str) -> None:
        """Remove a model from the index, so that no job can name it while it is removed from the store."""
        self._redis.call("SET", self._removal_key(sha256), 1, "EX", _REMOVAL)
        self._table.remove(sha256)
        self._table.put({_VERSION: secrets.token_hex(8)})

    def end_removal(self, sha256: str) -> None:
        """Note that it is gone from the store, and may be pushed again."""
        self._redis.call("DEL", self._removal_key(sha256))

    def is_being_removed(self, sha256: str) -> bool:
        """Whether its removal has begun and not ended."""
        return bool(self._redis.call("EXISTS", self._removal_key(sha256)))

    def refresh(self) -> Mapping[str, PushedModel]:
        """Rebuild the index from the store; returns the store's models."""
        with self._lock:
            self._refresh()
            return self._known

    def _refresh(self) -> None:
        known = self._table.all()  # first: what is added meanwhile was in the store before
        there = [each for each in self._objects.all() if not self.is_being_removed(each.sha256)]
        found = {each.sha256: each for each in there}
        changed = {
            sha256: each.model_dump(mode="json")
            for sha256, each in found.items()
            if known.get(sha256) != each.model_dump(mode="json")
        }
        gone = known.keys() - found.keys() - {_VERSION}
        for sha256 in gone:
            self._table.remove(sha256)
        if changed or gone or _VERSION not in known:
            self._table.put({**changed, _VERSION: secrets.token_hex(8)})
        self._known, self._version = found, None

    def _removal_key(self, sha256: str) -> str:
        return self._redis.key("gateway", "models", "removing", sha256)
