"""What the commands say, as they say it."""

import pytest
from rich.table import Table

from img2img_shared.command_line import print_table, say

#: what rich would take for an emoji, and for a style
WRITTEN = "<LORA:x:1> :heart: [bold]"


def test_what_users_wrote_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say(WRITTEN)
    table = Table.grid()
    table.add_row(WRITTEN)
    print_table(table)
    out, told = capsys.readouterr()
    assert (out.strip(), told.strip()) == (WRITTEN, WRITTEN)
