"""Prompts are encoded between model calls, a piece of each in turn."""

import threading
from concurrent.futures import wait
from typing import Any

import numpy as np
import pytest
import torch

from img2img_shared.errors import Refused
from img2img_worker.engine import prompt_encoder
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.loaded import Loaded
from img2img_worker.engine.prompt_encoder import PromptEncoder
from img2img_worker.engine.state import RenderState, prepare_render
from img2img_worker.models.steps import Steps
from tests.unit.engine_toys import ToyFamily, render


@pytest.fixture
def family() -> ToyFamily:
    return ToyFamily()


def nothing(_: RenderState) -> Steps[None]:
    yield from ()


class Encoding:
    """An encoder, and what has come out of it."""

    def __init__(self) -> None:
        self.encoder = PromptEncoder(then=nothing)
        self.ready: list[RenderState] = []
        self.failed: list[tuple[RenderState, Exception]] = []

    def advance(self, times: int = 1) -> None:
        for _ in range(times):
            self.encoder.advance(0, self.ready.append, lambda *it: self.failed.append(it))


def of(family: ToyFamily, *prompts: str, **params: Any) -> list[RenderState]:
    checkpoint = Loaded.of(family, deterministic=True)
    return [prepare_render(render(prompt=prompt, **params), checkpoint) for prompt in prompts]


def test_a_short_prompt_does_not_wait_for_a_long_ones_end(family: ToyFamily) -> None:
    # an edit for each step: thirty texts
    long, short = of(family, "[" + "|".join(f"cat {n}" for n in range(30)) + "]", "cat", steps=30)
    encoding = Encoding()
    for image in (long, short):
        encoding.encoder.take(image)
    encoding.advance(times=4)
    assert encoding.ready == [short]
    encoding.advance(times=30)
    assert encoding.ready == [short, long]
    assert [len(image.phase.texts) for image in (short, long)] == [2, 31]
    assert not encoding.encoder


def test_what_several_want_at_once_is_encoded_once(family: ToyFamily) -> None:
    images = of(family, *["cat"] * 3)
    encoding = Encoding()
    for image in images:
        encoding.encoder.take(image)
    encoding.advance(times=10)
    assert encoding.ready == images
    assert family.texts == [("cat",), ("dog",)]


def begun_before_an_urgent_one(family: ToyFamily) -> tuple[Encoding, RenderState, RenderState]:
    """An image whose text is half encoded, and a more urgent one that wants the same."""
    checkpoint = Loaded.of(family, deterministic=True)
    first, urgent = (
        prepare_render(render(prompt="[a:b:2]"), checkpoint, priority=priority) for priority in (0, 10)
    )
    encoding = Encoding()
    encoding.encoder.take(first)
    encoding.advance()
    encoding.encoder.take(urgent)
    return encoding, first, urgent


def test_a_more_urgent_one_gets_what_another_has_begun(family: ToyFamily) -> None:
    """It waits for the other, and so must not have the other's turns."""
    encoding, first, urgent = begun_before_an_urgent_one(family)
    encoding.advance(times=10)
    assert set(encoding.ready) == {first, urgent}
    assert not encoding.encoder


def test_a_more_urgent_one_does_not_wait_for_one_that_rests(family: ToyFamily) -> None:
    """What is in flight is more urgent than the one that has begun the text."""
    encoding, _, urgent = begun_before_an_urgent_one(family)
    for _ in range(10):
        encoding.encoder.advance(0, encoding.ready.append, lambda *_: None, priority=5)
    assert encoding.ready == [urgent]


def test_where_the_first_that_wants_it_is_cancelled_another_goes_on(family: ToyFamily) -> None:
    first, second = of(family, *["[a:b:2]"] * 2)
    encoding = Encoding()
    for image in (first, second):
        encoding.encoder.take(image)
    encoding.advance()
    first.future.cancel()
    encoding.advance(times=10)
    assert encoding.ready == [second]
    assert len(second.phase.texts) == 3


def test_a_prompt_that_cannot_be_encoded_fails_its_image_alone(
    family: ToyFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_encoder, "MOST_TOKENS", 4)
    bad, good = of(family, "a b c AND d e", "cat")
    encoding = Encoding()
    for image in (bad, good):
        encoding.encoder.take(image)
    encoding.advance(times=10)
    assert encoding.ready == [good]
    ((failed, error),) = encoding.failed
    assert failed is bad
    assert isinstance(error, Refused)
    assert "4 tokens in all" in str(error)


def test_a_model_call_is_made_between_two_pieces_of_a_long_prompt(
    family: ToyFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = render(1, prompt="[" + "|".join(f"cat {n}" for n in range(150)) + "]", steps=150)
    few = render(2, steps=20, denoising_strength=1)
    with Engine(family, slots=2) as engine:
        alone = engine.submit(few).result(60)
    # as if every model call took no time: a piece of each image between two of them
    monkeypatch.setattr("img2img_worker.engine.loop.time.monotonic", lambda: 0.0)
    monkeypatch.setattr("img2img_worker.engine.prompt_encoder.time.monotonic", lambda: 0.0)
    begun, both_are_there = threading.Event(), threading.Event()

    def hold(_done: int, _total: int) -> None:
        begun.set()
        both_are_there.wait(60)

    with Engine(family, slots=2) as engine:
        engine.submit(render(3, steps=1, denoising_strength=1), hold)
        assert begun.wait(60)
        late, soon = engine.submit(many), engine.submit(few)
        family.rows.clear()
        both_are_there.set()
        assert np.array_equal(soon.result(60), alone)
        assert max(family.rows) == 2  # the other had not all of its texts yet
        late.cancel()


def test_short_memory_begins_an_images_texts_again(
    family: ToyFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, failures = family.encode_prompts, [True]

    def short(*args: object, **more: object) -> object:
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError("no room")
        return context(*args, **more)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(family, "encode_prompts", short)
    with Engine(family, slots=2) as engine:
        futures = [engine.submit(render(n)) for n in range(3)]
        wait(futures, 60)
        assert all(future.exception() is None for future in futures)
