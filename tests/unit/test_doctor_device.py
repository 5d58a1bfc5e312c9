"""What `img2img doctor` says of the devices that a worker here is to render on."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from img2img_shared.farm.doctor import Verdict, examine_device


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [{"name": "H100", "memory": 80 * 2**30}, {"name": "L4", "memory": 24 * 2**30}]
    found = SimpleNamespace(returncode=0, stdout=json.dumps({"torch": "2.13.0", "gpus": gpus}), stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: found)


@pytest.mark.parametrize("wanted", ["auto", "cpu", "cuda", "cuda:1", "cuda:0,cuda:1"])
def test_gpus_that_are_there_are_named(wanted: str) -> None:
    finding = examine_device(wanted)
    assert finding.verdict is Verdict.OK
    assert "H100 (80 GiB), L4 (24 GiB)" in finding.text


@pytest.mark.parametrize("wanted", ["cuda:2", "cuda:0,cuda:2"])
def test_one_that_is_not_there_is_wrong(wanted: str) -> None:
    finding = examine_device(wanted)
    assert finding.verdict is Verdict.WRONG
    assert (
        "cuda:2, and torch 2.13.0 numbers those that it finds from cuda:0 on: H100 (80 GiB)" in finding.text
    )
