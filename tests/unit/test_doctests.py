"""The examples in docstrings give what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "shared/img2img_shared",
    "producer/img2img_producer",
    "gateway/img2img_gateway",
    "worker/img2img_worker",
)
WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts[1:])
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_a_docstrings_examples_are_true(module: str) -> None:
    assert doctest.testmod(import_module(module)).failed == 0
