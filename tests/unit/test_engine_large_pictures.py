"""What the VAE does for a large picture holds nobody up: others have model calls between its steps."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from img2img_worker.engine import decoding, state
from img2img_worker.engine.decoding import Decoding
from img2img_worker.engine.engine import Engine, Pixels
from img2img_worker.engine.loaded import Loaded
from img2img_worker.engine.side_stream import SideStream
from img2img_worker.engine.state import RenderState, prepare_render
from img2img_worker.models.families.vae import Decoded
from img2img_worker.models.steps import Steps
from tests.unit.engine_toys import ToyFamily, render

STEPS = 20
#: seconds after which a test has hung
PATIENCE = 300


@pytest.fixture
def family() -> ToyFamily:
    return ToyFamily(vae_steps=STEPS)


def test_others_have_their_calls_between_the_steps_of_a_decoding(family: ToyFamily) -> None:
    seen: list[int] = []
    go = threading.Event()

    def before(*_: object) -> None:
        go.wait(PATIENCE)
        seen.append(family.decode_steps_done)

    family.before = before
    with Engine(family, slots=2) as engine:
        slow = engine.submit(render(1, steps=3 * STEPS, denoising_strength=1))
        quick = engine.submit(render(2, steps=1))
        go.set()
        quick.result(PATIENCE)
        slow.result(PATIENCE)
    assert seen[-1] == STEPS, "the quick one was decoded while the slow one was under way"
    assert all(later - earlier <= decoding.STEPS for earlier, later in pairwise(seen))


def test_a_large_init_image_is_encoded_in_steps_before_it_has_a_slot(
    family: ToyFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    late: list[Future[Pixels]] = []
    with Engine(family, slots=1) as engine:

        def before(*_: object) -> None:
            if not late:  # with the same picture, twice
                late.extend(engine.submit(render(2, steps=1)) for _ in range(2))
            seen.append(family.encode_steps_done)

        engine.submit(render(1, steps=1)).result(PATIENCE)  # encoded at once: a small one
        assert (family.encoded, family.encode_steps_done) == ([1], STEPS)
        monkeypatch.setattr(state, "LARGE", 1)
        family.encode_steps_done, family.before = 0, before
        engine.submit(render(3, steps=3 * STEPS, denoising_strength=1)).result(PATIENCE)
        first, second = (future.result(PATIENCE) for future in late)
    assert np.array_equal(first, second)
    assert family.encoded == [1, 1, 1], "the first, the slow one's, and once what two begin with"
    assert len(set(seen) - {0, STEPS}) > 0, "the slow one had calls while the other's picture was encoded"


class Inpainting(ToyFamily):
    """A toy whose second picture takes until somebody has a model call."""

    n_seen = 0

    def picture(self, pixels: Tensor, masks: Tensor | None, **_: Any) -> Steps[Tensor | None]:
        self.n_seen += 1
        calls, end = len(self.rows), time.monotonic() + PATIENCE
        while self.n_seen == 2 and len(self.rows) == calls:
            assert time.monotonic() < end, "nobody has a call meanwhile"
            yield
        return torch.zeros(len(pixels), 5, 8, 8)


def test_what_an_inpainting_checkpoint_sees_is_encoded_in_steps_before_there_is_a_slot() -> None:
    family = Inpainting(inpaints=True)
    late: list[Future[Pixels]] = []
    with Engine(family, slots=1) as engine:

        def before(*_: object) -> None:
            if not late:
                late.append(engine.submit(render(2, steps=1)))

        family.before = before
        engine.submit(render(1, steps=STEPS, denoising_strength=1)).result(PATIENCE)
        late[0].result(PATIENCE)
    assert family.n_seen == 2


class Endless(ToyFamily):
    """A toy whose first picture is never decoded to its end."""

    def decode_steps(self, latents: Tensor, **more: Any) -> Steps[Decoded]:
        if not began.is_set():
            began.set()
            while True:
                yield
        return self.decode(latents, **more)


began = threading.Event()


def test_who_is_cancelled_is_decoded_no_further() -> None:
    with Engine(Endless(), slots=1) as engine:
        endless = engine.submit(render(1, steps=1))
        assert began.wait(PATIENCE)
        endless.cancel()
        engine.submit(render(2, steps=1)).result(PATIENCE)


class TestDecoding:
    """Who is decoded with whom, and when."""

    def setup_method(self) -> None:
        self.told: list[list[int]] = []
        self.decoding = decoding_by(self.start)

    def start(self, images: Sequence[RenderState]) -> Steps[None]:
        for _ in range(2):
            self.told.append([image.render.seed for image in images])
            yield

    def test_the_most_urgent_goes_first_and_what_has_begun_goes_on(self, family: ToyFamily) -> None:
        first, second, urgent = images(family, 3)
        urgent.priority = 1
        self.decoding.step(self.decoding.batches([first])[0])
        assert self.decoding.batches([first, second]) == [(first,), (second,)]
        assert self.decoding.batches([first, second, urgent]) == [(urgent, second), (first,)]

    def test_where_one_leaves_the_others_begin_anew(self, family: ToyFamily) -> None:
        first, second = images(family, 2)
        self.decoding.step([first, second])
        self.decoding.drop(first)
        assert self.decoding.batches([second]) == [(second,)]
        self.decoding.step([second])
        assert self.told == [[0, 1], [1]]

    def test_what_fails_is_forgotten(self, family: ToyFamily) -> None:
        def fail(_: object) -> Steps[None]:
            yield
            raise ValueError("no picture")

        failing = decoding_by(fail)
        (image,) = images(family, 1)
        failing.step([image])
        with pytest.raises(ValueError, match="no picture"):
            failing.step([image])
        failing.step([image])  # from its beginning


def decoding_by(start: Callable[[Sequence[RenderState]], Steps[None]]) -> Decoding:
    side = SideStream(torch.device("cpu"))
    return Decoding(side, start, finished=list, do=lambda work, images: work(images))


def images(family: ToyFamily, n: int) -> list[RenderState]:
    checkpoint = Loaded.of(family, deterministic=True)
    return [prepare_render(render(number), checkpoint) for number in range(n)]
