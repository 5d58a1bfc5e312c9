"""The commands for API keys: of which farm."""

import pytest
from typer.testing import CliRunner

from img2img_gateway.commands import app
from img2img_shared.errors import Refused


@pytest.mark.parametrize("command", [["list"], ["create", "alice"], ["revoke", "0" * 8]])
def test_no_keys_of_another_farm_are_made(command: list[str]) -> None:
    """Not of the one in this machine's folder, where the one that is named is behind a gateway."""
    told = CliRunner().invoke(app, ["key", *command], env={"IMG2IMG_FARM_URL": "https://farm.example"})
    assert isinstance(told.exception, Refused)
    assert "POST /v1/keys with a key of the role admin" in str(told.exception)
