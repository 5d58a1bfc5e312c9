"""A Discord bot: ``/paint picture:photo.jpg prompt:snow`` answers with the repainted picture.

``pip install discord.py``, and set DISCORD_TOKEN beside IMG2IMG_FARM_URL and IMG2IMG_KEY.
"""

import io
import os
import sys
from collections.abc import Mapping
from typing import Any

import discord
from discord import app_commands

from img2img_producer import AsyncFarm
from img2img_shared.errors import FarmError

#: bytes of a picture that somebody may send
LARGEST = 20_000_000


class Bot(discord.Client):
    """One farm for all who ask; each may have one picture under way."""

    def __init__(self, farm: AsyncFarm, params: Mapping[str, Any] | None = None) -> None:
        super().__init__(intents=discord.Intents.default())
        self._farm = farm
        self._params = params
        self._busy: set[int] = set()
        self.tree = app_commands.CommandTree(self)
        self.tree.add_command(
            app_commands.Command(name="paint", description="Repaint a picture", callback=self.paint)
        )

    async def setup_hook(self) -> None:
        """Tell Discord of the command."""
        await self.tree.sync()

    @app_commands.describe(picture="A picture", prompt="What is to be seen", strength="1 replaces it")
    async def paint(
        self,
        interaction: discord.Interaction,
        picture: discord.Attachment,
        prompt: str,
        strength: app_commands.Range[float, 0.0, 1.0] = 0.5,
    ) -> None:
        """Answers with the picture, or with the reason why there is none."""
        who = interaction.user.id
        if who in self._busy or picture.size > LARGEST:
            reason = "one at a time, please" if who in self._busy else f"at most {LARGEST:,} bytes, please"
            await interaction.response.send_message(reason, ephemeral=True)
            return
        self._busy.add(who)
        try:
            await interaction.response.defer(thinking=True)  # within three seconds, as Discord wants it
            data = await picture.read()
            try:
                job = await self._farm.submit(
                    data,
                    params=self._params,
                    prompt=prompt,
                    denoising_strength=strength,
                    name=f"discord {interaction.user.name}"[:200],
                    idempotency_key=str(interaction.id),
                )
                async for result in self._farm.results(job):
                    if result.reason is not None:
                        await interaction.followup.send(f"it failed: {result.reason}")
                        continue
                    file = discord.File(io.BytesIO(result.read()), filename=result.name)
                    await interaction.followup.send(file=file)
            except FarmError as error:
                await interaction.followup.send(f"it is refused: {error}")
        finally:
            self._busy.discard(who)


async def run() -> None:
    """Until Ctrl-C."""
    token = os.environ.get("DISCORD_TOKEN") or sys.exit("set DISCORD_TOKEN to the bot's token")
    async with AsyncFarm() as farm, Bot(farm) as bot:
        await bot.start(token)


if __name__ == "__main__":
    import asyncio

    asyncio.run(run())
