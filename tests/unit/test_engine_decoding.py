"""From final latents to pictures: beside the model calls where a stream is for that, and again in full."""

import threading
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor

from img2img_shared.errors import FarmError, Unavailable
from img2img_worker.engine import decoding, loop, preparation, side_stream
from img2img_worker.engine.delivery import PICTURE, SOUND, Delivery
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.side_stream import SideStream
from img2img_worker.models.families.vae import Decoded
from img2img_worker.models.steps import Steps, run_now
from tests.unit.engine_toys import ToyFamily, render

T = TypeVar("T")

#: seconds after which a test has hung
PATIENCE = 300


class Half(ToyFamily):
    """A toy whose VAE overflows in half precision, and for some pictures in any."""

    def decode(self, latents: Tensor, *, full_precision: bool = False, **more: Any) -> Decoded:
        decoded = super().decode(latents, **more)
        is_even = (latents.flatten(1).sum(1) * 1000).long() % 2 == 0
        fine = is_even & full_precision
        return decoded._replace(is_finite=fine, is_half=not full_precision)


def test_what_overflows_is_decoded_once_more_and_in_full() -> None:
    renders = [render(number) for number in range(6)]
    with Engine(ToyFamily(), slots=1) as engine:
        expected = [engine.submit(each).result(PATIENCE) for each in renders]
        usual = engine.counts.image_calls
    family = Half()
    with Engine(family, slots=3) as engine:
        futures = [engine.submit(each) for each in renders]
        errors = [future.exception(PATIENCE) for future in futures]
        calls = engine.counts.image_calls
    fine = [number for number, error in enumerate(errors) if error is None]
    assert 0 < len(fine) < len(renders)
    assert all(np.array_equal(futures[number].result(0), expected[number]) for number in fine)
    assert all("the decoded picture is not finite" in str(error) for error in errors if error is not None)
    assert family.decoded == [1] * 2 * len(renders)
    assert calls == usual, "no step was made twice"


def test_what_overflows_is_found_by_the_thread_that_delivers() -> None:
    delivery = Delivery()
    futures: list[Future[Any]] = [Future() for _ in range(4)]
    places: list[int] = []

    def again(place: int) -> None:
        places.append(place)
        if place == 2:
            raise Unavailable("the engine is closed")

    faults = torch.tensor([SOUND, PICTURE, PICTURE, SOUND])
    delivery.answers(futures, torch.arange(4), faults, again)
    delivery.close()
    assert [futures[number].result(0) for number in (0, 3)] == [0, 3]
    assert not futures[1].done()
    with pytest.raises(Unavailable):
        futures[2].result(0)
    assert places == [1, 2]


class Held(SideStream):
    """A stream whose works, though done, are under way until it is told."""

    passed = threading.Event()

    def __bool__(self) -> bool:
        return True

    def take(self, steps: Steps[T], *given: Tensor) -> Steps[T]:
        yield from ()
        made = run_now(steps)
        self._marks.append(Passing())
        return made


class Passing:
    """The mark of one work."""

    def query(self) -> bool:
        return Held.passed.is_set()

    def synchronize(self) -> None:
        Held.passed.wait(PATIENCE)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Has to be set before more than two pictures, decoded one by one, are done."""
    monkeypatch.setattr(loop, "SideStream", Held)
    monkeypatch.setattr(side_stream, "MOST", 2)
    monkeypatch.setattr(decoding, "TOGETHER", 1)
    monkeypatch.setattr(Held, "passed", threading.Event())
    return Held.passed


def test_beside_model_calls_so_many_are_decoded_and_their_slots_are_free(held: threading.Event) -> None:
    family = ToyFamily(vae_steps=20)
    go, called = threading.Event(), threading.Semaphore(0)
    family.before = lambda *_: go.wait(PATIENCE)
    with Engine(family, slots=4) as engine:
        futures = [engine.submit(render(number, steps=1)) for number in range(4)]
        late = [engine.submit(render(number, steps=1), lambda *_: called.release()) for number in (4, 5)]
        go.set()
        for future in futures[:2]:
            future.result(PATIENCE)
        for _ in late:
            assert called.acquire(timeout=PATIENCE), "the late ones have the slots of those, and their calls"
        assert not futures[2].done()
        held.set()
        for future in (*futures, *late):
            future.result(PATIENCE)
    assert family.decoded == [1] * 6


def test_short_memory_while_a_decoding_is_launched_loses_nothing(held: threading.Event) -> None:
    renders = [render(number) for number in range(6)]
    with Engine(ToyFamily(), slots=1, deterministic=True) as engine:
        held.set()
        expected = [engine.submit(each).result(PATIENCE) for each in renders]
    family = ToyFamily()
    decode, fail_at = family._decode, [2, 3]

    def short(latents: Tensor) -> Tensor:
        picture = decode(latents)
        if len(family.decoded) in fail_at:
            raise torch.OutOfMemoryError("no room")
        return picture

    family._decode = short  # type: ignore[method-assign]  # a fault, put in where the model would have it
    with Engine(family, slots=4, deterministic=True) as engine:
        futures = [engine.submit(each) for each in renders]
        pictures = [future.result(PATIENCE) for future in futures]
    assert all(np.array_equal(*both) for both in zip(pictures, expected, strict=True))
    assert len(family.decoded) == len(renders) + len(fail_at)


def test_who_is_cancelled_while_others_are_decoded_leaves_and_who_fails_fails_alone(
    held: threading.Event,
) -> None:
    family = ToyFamily()
    decode = family._decode

    def fail(latents: Tensor) -> Tensor:
        picture = decode(latents)
        if len(family.decoded) == 2:
            raise FarmError("no picture")
        return picture

    family._decode = fail  # type: ignore[method-assign]  # a fault, put in where the model would have it
    go = threading.Event()
    family.before = lambda *_: go.wait(PATIENCE)
    with Engine(family, slots=4) as engine:
        futures = [engine.submit(render(number, steps=1)) for number in range(5)]
        go.set()
        futures[2].result(PATIENCE)  # with the first, all that may be under way
        with pytest.raises(FarmError, match="no picture"):
            futures[1].result(PATIENCE)
        assert futures[3].cancel()
        held.set()
        assert futures[4].result(PATIENCE).shape == futures[0].result(PATIENCE).shape
    assert family.decoded == [1] * 4


def test_what_is_encoded_beside_model_calls_has_its_slot_when_that_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    renders = [render(number) for number in range(6)]
    renders += [replace(render(0), seed=number) for number in (7, 8)]  # of a picture that is encoded once
    with Engine(ToyFamily(), slots=1) as engine:
        expected = [engine.submit(each).result(PATIENCE) for each in renders]
    for room in (preparation, loop):
        monkeypatch.setattr(room, "SideStream", Held)
    monkeypatch.setattr(Held, "passed", threading.Event())
    family = ToyFamily(vae_steps=3)
    with Engine(family, slots=4) as engine:
        futures = [engine.submit(each) for each in renders]
        assert not futures[0].done()
        assert engine.in_flight == 0
        Held.passed.set()
        pictures = [future.result(PATIENCE) for future in futures]
    assert all(np.array_equal(*both) for both in zip(pictures, expected, strict=True))
    assert family.encoded == [1] * 6
