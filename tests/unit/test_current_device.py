"""A worker's GPU need not be the machine's first, which any new thread takes for its own."""

import threading
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch

from img2img_worker.engine import side_stream
from img2img_worker.engine.engine import Engine
from tests.unit.engine_toys import ToyFamily


def test_the_engine_works_on_its_gpu_whichever_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[tuple[torch.device, str]] = []

    def device(which: torch.device) -> AbstractContextManager[None]:
        current.append((which, threading.current_thread().name))
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(side_stream, "_stream", lambda _: None)
    second = torch.device("cuda", 1)
    with Engine(ToyFamily(device=second), slots=1):
        pass
    assert current == [(second, "engine")]
