"""The commands in the documentation are complete."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: a folder for results is what no command that fetches any can do without
_FETCHES = re.compile(r"^img2img (render|upscale|fetch)\b.*")


def documented_commands() -> list[str]:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    blocks = [block for text in texts for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)]
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if _FETCHES.match(line)]


@pytest.mark.parametrize("command", documented_commands())
def test_a_command_that_fetches_results_says_where_to(command: str) -> None:
    assert re.search(r" (--out|-o) ", command)
