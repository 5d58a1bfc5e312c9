"""The models in a farm's store, through its gateway."""

from typing import Any

from pydantic import TypeAdapter

from img2img_producer.backends.gateway_client import GatewayClient
from img2img_shared.pushed_models.pushed_model import ModelKind, NewModel, PushedModel

_PATH = "/v1/models/pushed"
_MODELS = TypeAdapter(list[PushedModel])


class GatewayModels:
    """A `ModelsBackend` over ``/v1/models/pushed``, for keys of the role operate."""

    def __init__(self, client: GatewayClient) -> None:
        self._client = client

    def all(self) -> list[PushedModel]:
        return _MODELS.validate_python(self._get(""))

    def find(self, wanted: str, kind: ModelKind | None) -> PushedModel:
        query = {"name": wanted} if kind is None else {"name": wanted, "kind": kind}
        return PushedModel.model_validate(self._get("/find", **query))

    def sizes(self, sha256: str) -> dict[int, int]:
        return {int(number): size for number, size in self._get(f"/{sha256}/parts").items()}

    def put_part(self, sha256: str, number: int, data: bytes) -> None:
        self._client.ask("PUT", f"{_PATH}/{sha256}/parts/{number}", content=data)

    def add(self, new: NewModel) -> PushedModel:
        answer = self._client.ask("POST", _PATH, json=new.model_dump())
        return PushedModel.model_validate(answer.json())

    def read(self, model: PushedModel, start: int, size: int) -> bytes:
        query = {"start": start, "size": size}
        return self._client.ask("GET", f"{_PATH}/{model.sha256}/bytes", params=query).content

    def remove(self, model: PushedModel) -> None:
        self._client.ask("DELETE", f"{_PATH}/{model.sha256}")

    def _get(self, path: str, **query: str) -> Any:
        return self._client.ask("GET", _PATH + path, params=query).json()
