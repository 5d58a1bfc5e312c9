"""The values that a tenant has chosen for A1111's options."""

from collections.abc import Mapping
from typing import Any

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.sdapi.option_table import changes_pictures, check_option, defaults
from img2img_shared.checkpoints import with_hashes
from img2img_shared.errors import Refused
from img2img_shared.ledger.tables import Table


class Options:
    """The options of tenants, in Redis."""

    def __init__(self, farm: AsyncFarm, tenant: str) -> None:
        self._farm = farm
        self._chosen = Table(farm.redis, "options", tenant)

    async def all(self) -> dict[str, Any]:
        """Every option by its name, as it was sent, or with its default; the checkpoint by its title."""
        chosen = {**defaults(), **await self.chosen()}
        checkpoint = await self._farm.checkpoint(chosen["sd_model_checkpoint"])
        if checkpoint is not None:  # its title as in the list of checkpoints, where clients look for it
            (checkpoint,) = await self._farm.call(with_hashes, [checkpoint])
        return {
            **chosen,
            "sd_model_checkpoint": checkpoint.title if checkpoint else "",
            "sd_checkpoint_hash": (checkpoint and checkpoint.sha256) or "",
        }

    async def chosen(self) -> dict[str, Any]:
        """The options that the tenant has set."""
        return await self._farm.call(self._read)

    async def change(self, given: Mapping[str, Any]) -> None:
        """Store the tenant's choices, all or none of them.

        Raises:
            Refused: names an option that does not exist, or may not have that value.
        """
        checked = await self.checked(given)
        if checked:
            await self._farm.call(self._chosen.put, checked)

    async def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `given` that have a value, with the model's name as workers have it.

        Raises:
            Refused: names an option that does not exist, or may not have that value.
        """
        found: dict[str, Any] = {}
        for name, value in given.items():
            is_left_out = value is None or (value == "" and changes_pictures(name))
            check_option(name, defaults().get(name) if is_left_out else value)
            if is_left_out or name not in defaults():
                continue
            is_model = name == "sd_model_checkpoint"
            found[name] = await self._model(value) if is_model else value
        return found

    async def _model(self, wanted: object) -> str:
        checkpoint = await self._farm.checkpoint(str(wanted))
        if checkpoint is None:
            served = ", ".join(each.title for each in await self._farm.checkpoints()) or "none is, for now"
            raise Refused("sd_model_checkpoint", wanted, f"give a model that is served: {served}")
        return checkpoint.model

    def _read(self) -> dict[str, Any]:
        return {name: value for name, value in self._chosen.all().items() if name in defaults()}
