"""Soft inpainting: its blend, where its result shows, and its company in a batch."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.params import Params
from img2img_shared.wire import decode_job, encode_job
from img2img_worker.engine import exact_sharing
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.soft_blend import soft_blend, soft_exponent
from img2img_worker.farm.soft_inpainting_recipe import soft_inpaint
from img2img_worker.pictures.composite import compose
from img2img_worker.pictures.soft_opening import change, soft_opening, window_mean
from tests.unit.engine_toys import ToyFamily, render, without_calls
from tests.unit.test_recipe import LEVELS, job

SOFT: dict[str, Any] = {"soft_inpainting": True, "denoising_strength": 1.0, "steps": 6}


def gradient() -> NDArray[np.float32]:
    return np.tile(np.linspace(0, 1, 8, dtype=np.float32), (8, 1))


@pytest.mark.parametrize("contrast", [1.0, 4.0, 32.0])
def test_a_blend_has_the_power_mean_of_both_magnitudes(contrast: float) -> None:
    latents, kept = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * 1000
    mask, exponent = torch.from_numpy(gradient())[None, None], soft_exponent(3.0, 1.5, 0.25)
    assert exponent == pytest.approx(3**1.5 / 4)
    told = torch.tensor([exponent] * 2), torch.tensor([contrast] * 2)
    blended = soft_blend(latents, kept, mask.expand(2, 1, 8, 8), *told)
    share = mask.double() ** exponent
    a, b = (each.double().norm(dim=1, keepdim=True) for each in (kept, latents))
    mean = (a**contrast * (1 - share) + b**contrast * share) ** (1 / contrast)
    torch.testing.assert_close(blended.norm(dim=1, keepdim=True), mean.float(), rtol=1e-4, atol=0)
    direction = kept * (1 - share) + latents * share
    torch.testing.assert_close(
        blended / blended.norm(dim=1, keepdim=True),
        (direction / direction.norm(dim=1, keepdim=True)).float(),
        rtol=1e-3,
        atol=1e-4,
    )


def test_where_nothing_is_new_an_overflow_is_not_seen() -> None:
    kept, latents = torch.ones(1, 4, 2, 2), torch.full((1, 4, 2, 2), torch.nan)
    one = torch.ones(1)
    blended = soft_blend(latents, kept, torch.zeros(1, 1, 2, 2), one, one)
    torch.testing.assert_close(blended, kept * 2 / 2.00001, rtol=1e-7, atol=0)


@pytest.mark.parametrize("sampler", ["Euler a", "DDIM", "DPM adaptive"])
def test_images_with_and_without_share_calls_and_do_not_notice(
    sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_sharing, "PATIENCE", 0)  # what comes together is tried at once
    all_are_in = threading.Event()
    all_are_in.set()
    family = ToyFamily(before=lambda *_: all_are_in.wait(60))
    mask = gradient()
    renders = [
        render(1, mask=mask, sampler_name=sampler, **SOFT),
        render(2, mask=mask, denoising_strength=1.0, steps=6, sampler_name=sampler),
        render(3, mask=mask, sampler_name="Euler", mask_blend_power=2, **SOFT),
        render(4, mask=mask, sampler_name="DDIM", **SOFT),
        render(5, denoising_strength=1.0, steps=6, sampler_name="Euler"),
    ]
    with Engine(family) as engine:
        alone = [engine.submit(each).result(60) for each in renders]
        calls = engine.counts.calls
        all_are_in.clear()
        futures = [engine.submit(each) for each in renders]
        all_are_in.set()
        together = [future.result(60) for future in futures]
        assert engine.counts.calls - calls < calls
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_last_latent_is_not_laid_over_once_more() -> None:
    family, mask = ToyFamily(), np.zeros((8, 8), np.float32)
    mask[:, 4:] = 0.5
    with Engine(family) as engine:
        pictures = [engine.submit(render(1, mask=mask, **(SOFT | own))).result(60) for own in ({}, HARD)]
        start = engine.submit(without_calls(render(1))).result(60)
    np.testing.assert_allclose(pictures[0][:, :32], start[:, :32], atol=1, err_msg="kept by every step")
    assert not np.array_equal(pictures[0][:, 32:], pictures[1][:, 32:])


HARD: dict[str, Any] = {"soft_inpainting": False}


def test_a_filter_takes_the_mean_between_two_quantiles_of_weight() -> None:
    cells = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)
    for low, high in ((0.9, 1.0), (0.25, 0.75), (0.0, 1.0)):
        found = window_mean(cells, low, high)
        for row, column in ((0, 0), (2, 3), (4, 5)):
            assert found[row, column] == pytest.approx(one_mean(cells, row, column, low, high), rel=1e-5)


def one_mean(cells: NDArray[np.float32], row: int, column: int, low: float, high: float) -> float:
    """By the definition, for one cell: the heap of its neighbours' values, each as thick as its weight."""
    end = np.exp(-4.0)
    places = [
        (y, x)
        for y in range(max(0, row - 2), min(len(cells), row + 3))
        for x in range(max(0, column - 2), min(len(cells[0]), column + 3))
    ]
    weights = [(np.exp(-((y - row) ** 2 + (x - column) ** 2) / 2.25) - end) / (1 - end) for y, x in places]
    heap = sorted(zip([float(cells[place]) for place in places], weights, strict=True))
    total = sum(weight for _, weight in heap)
    start, end = low * total, high * total
    if end - start < 1:
        middle = (start + end) / 2
        start, end = (total - 1, total) if middle + 0.5 > total else (middle - 0.5, middle + 0.5)
    height = value = taken = 0.0
    for each, weight in heap:
        share = max(0.0, min(end, height + weight) - max(start, height))
        value, taken, height = value + each * share, taken + share, height + weight
    return value / taken


def test_the_result_shows_where_it_has_changed_the_picture() -> None:
    before, after = np.zeros((2, 4, 8, 8), np.float32)
    after[:, :, 4:] = 3.0
    mask = np.ones((8, 8), np.float32)
    changes = change(before, after)
    assert (changes[0, 0], changes[0, 7]) == (0.0, 6.0)
    opening = np.asarray(soft_opening(changes, mask, Params(width=64, height=64)))
    assert opening[:, :4].max() < 10
    assert opening[:, -8:].min() > 250
    always = Params(width=64, height=64, soft_inpainting=True, composite_difference_threshold=0)
    assert np.asarray(soft_opening(changes, mask, always))[:, -8:].min() == 255
    never = {"composite_difference_threshold": 8, "composite_difference_contrast": 8}
    assert np.asarray(soft_opening(changes, mask, always.model_copy(update=never))).max() < 30


def test_a_recipe_tells_the_change_from_the_latents_before_and_after() -> None:
    mask = gradient()
    steps = soft_inpaint(render(1, mask=mask, **SOFT), mask, LEVELS)
    (first,) = next(steps)
    assert first.wants_latent
    after = np.full((4, 8, 8), 2, np.float32)
    before, decoded = steps.send([after])
    assert (before.params.steps, before.wants_latent, before.pixels is None) == (0, True, False)
    assert (decoded.params.steps, decoded.wants_latent, decoded.mask) == (0, False, None)
    np.testing.assert_array_equal(decoded.latent, after)
    with pytest.raises(StopIteration) as end:
        steps.send([after, np.full((64, 64, 3), 9, np.uint8)])
    pixels, opening = end.value.value
    assert (pixels.max(), opening.getextrema()) == (9, (0, 0)), "nothing has changed"


@pytest.mark.parametrize(("switch_at", "last"), [(0.5, "second"), (1.0, None)])
def test_the_last_latent_is_decoded_by_the_checkpoint_that_made_it(
    switch_at: float, last: str | None
) -> None:
    refined = render(1, mask=gradient(), refiner_checkpoint="second", refiner_switch_at=switch_at, **SOFT)
    steps = soft_inpaint(refined, gradient(), LEVELS)
    next(steps)
    before, decoded = steps.send([np.zeros((4, 8, 8), np.float32)])
    assert (before.checkpoint, decoded.checkpoint) == (None, last)


def test_it_is_laid_over_whether_the_original_would_be_or_not() -> None:
    params = Params(width=64, height=64, inpaint_full_res=False, overlay_inpaint=False)
    picture, result = Image.new("RGB", (64, 64), "#102030"), Image.new("RGB", (64, 64), "#a0b0c0")
    mask, opening = Image.new("L", (64, 64), 255), Image.new("L", (64, 64), 0)
    assert compose(result, picture, mask, params).picture.getpixel((9, 9)) == (0xA0, 0xB0, 0xC0)
    assert compose(result, picture, mask, params, opening).picture.getpixel((9, 9)) == (0x10, 0x20, 0x30)


def test_its_values_are_sent_as_they_were_given() -> None:
    values = {"soft_inpainting": True, "mask_blend_power": 2, "mask_blend_scale": 1.0}
    read = decode_job(encode_job(job(**values))).params
    assert repr((read.mask_blend_power, read.mask_blend_scale)) == "(2, 1.0)"
