"""What goes wrong with one image stays with it; short memory costs time, not pictures."""

import threading
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from img2img_shared.errors import FarmError
from img2img_worker.engine import scheduler
from img2img_worker.engine.batch import Batch
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.loaded import Loaded
from img2img_worker.engine.state import prepare_render
from img2img_worker.models.families.condition import Conditions
from tests.unit.engine_toys import ToyFamily, contexts, render


@pytest.fixture
def family() -> ToyFamily:
    return ToyFamily()


def test_a_cancelled_image_frees_its_slot_before_the_next_step(family: ToyFamily) -> None:
    with Engine(family, slots=1) as engine:
        cancelled = []

        def stop(done: int, total: int) -> None:
            if done == 3:
                cancelled.append(first.cancel())

        ready = threading.Event()
        family.before = lambda *_: ready.wait(60)
        first = engine.submit(render(1, steps=20, denoising_strength=1), stop)
        second = engine.submit(render(2, steps=5, denoising_strength=1))
        ready.set()
        second.result(60)
        counts = engine.counts
    assert cancelled == [True]
    with pytest.raises(CancelledError):
        first.result(0)
    assert counts.image_calls == 3 + 5


def test_an_image_cancelled_while_it_waits_is_never_begun(family: ToyFamily) -> None:
    with Engine(family, slots=1) as engine:
        go = threading.Event()
        family.before = lambda *_: go.wait(60)
        first, second, third = (engine.submit(render(i, steps=4)) for i in range(3))
        assert second.cancel()
        go.set()
        first.result(60)
        third.result(60)
    assert len(family.decoded) == 2
    assert engine.counts.image_calls == 2 * 4


def test_a_picture_that_cannot_be_encoded_fails_alone(family: ToyFamily) -> None:
    bad = render(1, width=64)
    assert bad.pixels is not None
    damaged = torch.from_numpy(bad.pixels.copy())
    encode = family.encode

    def refuse(pixels: Tensor, **given: Any) -> Tensor:
        if (pixels == damaged).flatten(1).all(1).any():
            raise RuntimeError("this one")
        return encode(pixels, **given)

    good = [render(i) for i in (2, 3)]
    with Engine(family, slots=1) as engine:
        expected = [engine.submit(each).result(60) for each in good]
    family.encode = refuse  # type: ignore[method-assign]  # a fault, put in where the model would have it
    with Engine(family, slots=3, deterministic=False) as engine:
        futures = [engine.submit(each) for each in (good[0], bad, good[1])]
        with pytest.raises(RuntimeError, match="this one"):
            futures[1].result(60)
        assert np.array_equal(futures[0].result(60), expected[0])
        assert np.array_equal(futures[2].result(60), expected[1])


def test_a_model_call_that_one_image_breaks_is_made_again_without_it(family: ToyFamily) -> None:
    good = [render(i, prompt="cat") for i in (2, 3)]
    with Engine(family, slots=1) as engine:
        expected = [engine.submit(each).result(60) for each in good]

    def refuse(x: Tensor, t: Tensor, conditions: Conditions) -> None:
        if any((context[:, 1] > 0.6).any() for context in contexts(conditions)):
            raise RuntimeError("that prompt")

    family.before = refuse
    with Engine(family, slots=3) as engine:
        futures = [engine.submit(each) for each in (good[0], render(1, prompt="wolverine"), good[1])]
        with pytest.raises(RuntimeError, match="that prompt"):
            futures[1].result(60)
        assert np.array_equal(futures[0].result(60), expected[0])
        assert np.array_equal(futures[2].result(60), expected[1])


def test_where_images_can_no_longer_be_rendered_together_the_log_says_so(
    family: ToyFamily, caplog: pytest.LogCaptureFixture
) -> None:
    go = threading.Event()

    def refuse(x: Tensor, t: Tensor, conditions: Conditions) -> None:
        go.wait(60)
        if len({len(context) for context in contexts(conditions)}) > 1:
            raise RuntimeError("no such lengths")

    family.before = refuse
    pair = [render(n, prompt="a b", negative_prompt="c d", steps=3) for n in (1, 2)]
    pair[1] = render(2, prompt="a b c", negative_prompt="d e f", steps=3)
    with Engine(family, slots=2, deterministic=False) as engine:
        futures = [engine.submit(each) for each in pair]
        go.set()
        assert all(future.result(60).size for future in futures)
    assert "2 images together failed: each is tried alone" in caplog.text
    assert "no such lengths" in caplog.text


def test_a_latent_that_is_not_a_number_fails_its_image_only(family: ToyFamily) -> None:
    predict = family.predict

    def overflow(x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        answer = predict(x, t, conditions)
        answer[[bool(context[0, 1] > 0.6) for context in contexts(conditions)]] = torch.nan
        return answer

    mask = np.zeros((8, 8), np.float32)
    mask[:4] = 1
    good = [render(2), render(3, cfg_scale=1), render(4, mask=mask)]
    bad = [render(5, prompt="wolverine"), render(6, prompt="wolverine", cfg_scale=1, mask=mask)]
    with Engine(family, slots=1) as engine:
        expected = [engine.submit(each).result(60) for each in good]
    family.predict = overflow  # type: ignore[method-assign]  # a fault, put in where the model would have it
    with Engine(family, slots=3) as engine:
        futures = [engine.submit(each) for each in (bad[0], *good, bad[1], *good)]
        for future in (futures[0], futures[4]):
            with pytest.raises(FarmError, match="not finite"):
                future.result(60)
        for future, picture in zip(futures[1:4] + futures[5:], expected * 2, strict=True):
            assert np.array_equal(future.result(60), picture)


def test_a_picture_that_its_vae_makes_no_numbers_of_fails_alone(family: ToyFamily) -> None:
    good = [render(i) for i in (2, 3)]
    with Engine(family, slots=1) as engine:
        expected = [engine.submit(each).result(60) for each in good]
        latent = engine.submit(replace(render(5), wants_latent=True)).result(60)
    decode = family._decode

    def overflow(latents: Tensor) -> Tensor:
        image = decode(latents)
        image[(latents == torch.from_numpy(latent)).flatten(1).all(1), 0, 0, 0] = torch.nan
        return image

    family._decode = overflow  # type: ignore[method-assign]  # a fault, put in where the model would have it
    with Engine(family, slots=3) as engine:
        futures = [engine.submit(each) for each in (good[0], render(5), good[1])]
        with pytest.raises(FarmError, match="the decoded picture is not finite"):
            futures[1].result(60)
        for future, picture in zip((futures[0], futures[2]), expected, strict=True):
            assert np.array_equal(future.result(60), picture)


def test_a_callback_that_raises_ends_its_image_only(family: ToyFamily) -> None:
    def stumble(done: int, total: int) -> None:
        raise RuntimeError("in a callback")

    with Engine(family, slots=2) as engine:
        bad = engine.submit(render(1), stumble)
        good = engine.submit(render(2))
        with pytest.raises(RuntimeError, match="in a callback"):
            bad.result(60)
        assert good.result(60).shape == (64, 64, 3)


def test_short_memory_halves_the_slots_and_every_picture_comes_out_right(
    family: ToyFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "RECOVERY", 10**6)  # the slots do not come back
    # so many steps that all slots are taken for a while, however slowly images are taken in
    renders = [
        render(i, steps=60 + i, sampler_name=("Euler a", "DPM++ 2M", "Heun")[i % 3], denoising_strength=0.9)
        for i in range(10)
    ]
    with Engine(family, slots=1, deterministic=False) as engine:
        alone = [engine.submit(each).result(60) for each in renders]
    refused = []

    def short(x: Tensor, t: Tensor, conditions: Conditions) -> None:
        # not from the start: the images that are put back have come some way
        if len(x) > 4 and family.rows.count(16) > 5:
            refused.append(len(x))
            raise torch.OutOfMemoryError(f"no room for {len(x)} rows")

    family.before = short
    steps = engine.counts.image_calls
    with Engine(family, slots=8, deterministic=False) as engine:
        futures = [engine.submit(each) for each in renders]
        together = [future.result(60) for future in futures]
        counts = engine.counts
    assert refused == [16, 8]
    assert counts.image_calls == steps  # nothing was rendered twice
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_what_an_image_takes_along_outlives_its_slot(family: ToyFamily) -> None:
    batch = Batch((4, 8, 8), family.device)
    first, second = (prepare_render(render(i), Loaded.of(family, deterministic=True)) for i in range(2))
    for image in (first, second):
        image.history = torch.randn(image.course.depth, 4, 8, 8)
    came_with = first.history
    assert came_with is not None
    batch.put(first)
    batch.drop(first, keep=True)
    batch.put(second)
    assert first.history is not None
    assert torch.equal(first.history, came_with)


def test_an_image_too_large_for_the_device_fails_with_a_reason_and_others_go_on(family: ToyFamily) -> None:
    def short(x: Tensor, t: Tensor, conditions: Conditions) -> None:
        if x.shape[-1] > 8:
            raise torch.OutOfMemoryError("no room")

    family.before = short
    with Engine(family, slots=4, deterministic=False) as engine:
        futures = [engine.submit(render(i, width=128 if i == 1 else 64)) for i in range(5)]
        with pytest.raises(MemoryError, match="128 × 64 is too large for cpu, even alone"):
            futures[1].result(60)
        for number in (0, 2, 3, 4):
            assert futures[number].result(60).shape == (64, 64, 3)


def test_short_memory_in_the_vae_is_survived_too(family: ToyFamily) -> None:
    encode, decode = family._encode, family._decode
    failures = {"encode": 1, "decode": 1}

    def short_encode(image: Tensor) -> Tensor:
        if failures["encode"]:
            failures["encode"] -= 1
            raise torch.OutOfMemoryError("no room to encode")
        return encode(image)

    def short_decode(latents: Tensor) -> Tensor:
        if failures["decode"]:
            failures["decode"] -= 1
            raise torch.OutOfMemoryError("no room to decode")
        return decode(latents)

    renders = [render(i, steps=5) for i in range(6)]
    with Engine(family, slots=1) as engine:
        alone = [engine.submit(each).result(60) for each in renders]
    family._encode, family._decode = short_encode, short_decode  # type: ignore[method-assign]  # faults, put in
    with Engine(family, slots=16) as engine:
        together = [future.result(60) for future in [engine.submit(each) for each in renders]]
    assert failures == {"encode": 0, "decode": 0}
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
