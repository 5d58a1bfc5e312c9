"""The interface to the models in a farm's store, whichever way the farm is reached."""

from typing import Protocol

from img2img_shared.farm.service import FarmService
from img2img_shared.pushed_models.pushed_model import ModelKind, NewModel, PushedModel


class ModelsBackend(Protocol):
    """Access to pushed models. Its methods raise `Unavailable` and `StoreError`."""

    def all(self) -> list[PushedModel]:
        """All models, by kind and name."""

    def find(self, wanted: str, kind: ModelKind | None) -> PushedModel:
        """Like `ModelShelf.pushed_model`."""

    def sizes(self, sha256: str) -> dict[int, int]:
        """The size in bytes of each part of a file that is there, by its number."""

    def put_part(self, sha256: str, number: int, data: bytes) -> None:
        """Upload one whole part."""

    def add(self, new: NewModel) -> PushedModel:
        """Like `ModelShelf.add_pushed_model`."""

    def read(self, model: PushedModel, start: int, size: int) -> bytes:
        """Up to `size` bytes of a file from `start` on, at least one."""

    def remove(self, model: PushedModel) -> None:
        """Like `ModelShelf.remove_pushed_model`."""


class DirectModels:
    """A `ModelsBackend` over the farm's service."""

    def __init__(self, service: FarmService, owner: str) -> None:
        self._service = service
        self._owner = owner
        self.sizes = service.model_objects.sizes
        self.put_part = service.put_model_part
        self.read = service.model_objects.read

    def all(self) -> list[PushedModel]:
        return self._service.pushed_models()

    def find(self, wanted: str, kind: ModelKind | None) -> PushedModel:
        return self._service.pushed_model(wanted, kind)

    def add(self, new: NewModel) -> PushedModel:
        return self._service.add_pushed_model(new, self._owner)

    def remove(self, model: PushedModel) -> None:
        self._service.remove_pushed_model(model.sha256, self._owner)
