"""What the commands say, as they say it."""

import subprocess
import sys
from pathlib import Path

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


def test_a_disk_that_takes_no_more_of_what_is_printed_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "img2img", "--help"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300, check=False
        )
    assert (done.returncode, done.stderr) == (1, "img2img: No space left on device\n")
