"""The one place where all settings are documented."""

import pytest

from img2img_gateway.gateway_settings import GatewaySettings
from tools.settings_table import FILE, table


def test_the_reference_of_settings_is_what_is_declared() -> None:
    assert FILE.read_text() == table(), "it is old: python -m tools.settings_table"


@pytest.mark.parametrize("name", GatewaySettings.model_fields)
def test_each_setting_says_what_it_means(name: str) -> None:
    (row,) = [
        line for line in FILE.read_text().splitlines() if line.startswith(f"| `IMG2IMG_{name.upper()}`")
    ]
    assert len(row.split(" | ")[1]) > 8, f"give {name} a comment"
