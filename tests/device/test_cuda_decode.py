"""A VAE that runs beside the model calls makes the same pictures as one that runs between them."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from img2img_worker.engine.engine import Engine, Pixels, Render
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from img2img_worker.models.families.vae import Decoded
from img2img_worker.models.steps import Steps
from tests import checkpoints
from tests.unit.engine_toys import render

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

#: seconds after which a test has hung
PATIENCE = 300
#: cycles of a GPU that take about 50 ms, and a few seconds
SHORT, LONG = 10**8, 6 * 10**9
SIZES = ((64, 64), (128, 64), (192, 128))


@pytest.fixture(autouse=True)
def full_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Convolutions of float32 in full precision: in TF32, a picture shows how many rows shared its calls."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield
    torch.cuda.synchronize()


@pytest.fixture
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., StableDiffusion]:
    def open_one(**more: Any) -> StableDiffusion:
        folder = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
        family = open_checkpoint(folder, device="cuda", **more)
        assert isinstance(family, StableDiffusion)
        return family

    return open_one


def renders(n: int) -> list[Render]:
    """Renders of three sizes and two to five steps, so that some end alone and some together."""
    return [
        render(number, width=width, height=height, steps=2 + number % 4, denoising_strength=0.9)
        for number, (width, height) in zip(range(n), SIZES * n, strict=False)
    ]


def alone(family: StableDiffusion, wanted: Sequence[Render], *, deterministic: bool) -> list[Pixels]:
    with Engine(family, slots=1, deterministic=deterministic) as engine:
        return [engine.submit(each).result(PATIENCE) for each in wanted]


def slow(family: StableDiffusion, monkeypatch: pytest.MonkeyPatch, cycles: int) -> None:
    """Delay each decoding by so many cycles: the picture shows whether others overwrite its memory."""
    decode_steps = family.decode_steps

    def late(latents: Tensor, **more: Any) -> Steps[Decoded]:
        torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]  # torch's own
        return (yield from decode_steps(latents, **more))

    monkeypatch.setattr(StableDiffusion, "decode_steps", lambda _, latents, **more: late(latents, **more))


def slow_to_encode(family: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_steps = family.encode_steps

    def late(pixels: Tensor, **more: Any) -> Steps[Tensor]:
        torch.cuda._sleep(SHORT)  # type: ignore[no-untyped-call]  # torch's own
        return (yield from encode_steps(pixels, **more))

    monkeypatch.setattr(StableDiffusion, "encode_steps", lambda _, pixels, **more: late(pixels, **more))


def largest_difference(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one.astype(int) - other).max())


def test_pictures_rendered_together_are_like_those_rendered_one_by_one(
    opened: Callable[..., StableDiffusion], monkeypatch: pytest.MonkeyPatch
) -> None:
    family, wanted = opened(), renders(36)
    expected = alone(family, wanted, deterministic=False)
    slow(family, monkeypatch, SHORT)
    with Engine(family, slots=16, deterministic=False) as engine:
        futures = [engine.submit(each) for each in wanted]
        pictures = [future.result(PATIENCE) for future in futures]
    assert max(map(largest_difference, pictures, expected)) <= 1


@pytest.mark.parametrize("vae_dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_in_deterministic_mode_they_are_the_same_to_the_byte(
    opened: Callable[..., StableDiffusion], monkeypatch: pytest.MonkeyPatch, vae_dtype: torch.dtype
) -> None:
    family, wanted = opened(vae_dtype=vae_dtype), renders(36)
    expected = alone(family, wanted, deterministic=True)
    slow(family, monkeypatch, SHORT)
    slow_to_encode(family, monkeypatch)
    with Engine(family, slots=16, deterministic=True) as engine:
        futures = [engine.submit(each) for each in wanted]
        pictures = [future.result(PATIENCE) for future in futures]
    assert all(np.array_equal(*both) for both in zip(pictures, expected, strict=True))


def test_nothing_is_lost_when_many_end_at_once_and_some_are_cancelled(
    opened: Callable[..., StableDiffusion],
) -> None:
    family = opened()
    wanted = [render(number, steps=3, denoising_strength=0.9) for number in range(64)]
    expected = alone(family, wanted, deterministic=True)
    futures: list[Future[Pixels]] = []
    all_submitted = threading.Event()

    def cancel_at(number: int) -> Callable[[int, int], None]:
        def tell(done: int, total: int) -> None:
            assert all_submitted.wait(PATIENCE)
            if number % 5 == 0 and done == total:
                futures[number].cancel()

        return tell

    with Engine(family, slots=32, deterministic=True) as engine:
        for number, each in enumerate(wanted):
            futures.append(engine.submit(each, cancel_at(number)))
        all_submitted.set()
        assert not wait(futures, PATIENCE).not_done
    for number, (future, picture) in enumerate(zip(futures, expected, strict=True)):
        if number % 5:
            assert np.array_equal(future.result(0), picture)
        else:
            assert future.cancelled()


def test_a_slot_is_free_and_others_have_calls_while_a_picture_is_decoded(
    opened: Callable[..., StableDiffusion], monkeypatch: pytest.MonkeyPatch
) -> None:
    family = opened()
    alone(family, renders(3), deterministic=False)  # so that the first calls are not slow below
    slow(family, monkeypatch, LONG)
    is_done: list[bool] = []
    with Engine(family, slots=1, deterministic=False) as engine:
        first = engine.submit(render(1, steps=1))
        second = engine.submit(
            render(2, steps=4, denoising_strength=1), lambda *_: is_done.append(first.done())
        )
        second.result(PATIENCE)
        first.result(PATIENCE)
    assert is_done[0] is False, "the second had no call before the first was decoded"


def test_what_was_launched_is_delivered_though_the_engine_closes(
    opened: Callable[..., StableDiffusion], monkeypatch: pytest.MonkeyPatch
) -> None:
    family, wanted = opened(), render(1, steps=1)
    (expected,) = alone(family, [wanted], deterministic=True)
    slow(family, monkeypatch, LONG)
    began = threading.Event()
    with Engine(family, slots=1, deterministic=True) as engine:
        first = engine.submit(wanted)
        # it gets the slot of the first, which is being decoded by then
        second = engine.submit(render(2, steps=20), lambda *_: began.set())
        assert began.wait(PATIENCE)
        second.cancel()
    assert np.array_equal(first.result(0), expected)


def test_a_picture_that_overflows_in_the_encoder_is_encoded_again(
    opened: Callable[..., StableDiffusion],
) -> None:
    half, wanted = opened(vae_dtype=torch.float16), renders(12)
    half.vae.network.encoder.conv_in.weight.data.mul_(2**16)
    half.vae.network.encoder.conv_in.bias.data.fill_(6e4)
    expected = alone(half, wanted, deterministic=True)
    with Engine(half, slots=8, deterministic=True) as engine:
        futures = [engine.submit(each) for each in wanted]
        pictures = [future.result(PATIENCE) for future in futures]
    assert all(np.array_equal(*both) for both in zip(pictures, expected, strict=True))
    assert half.vae.network.dtype == torch.float16
    alone(half, wanted[:1], deterministic=False)
    assert half.vae.network.dtype == torch.float32


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_picture_that_overflows_in_half_precision_is_decoded_all_the_same(
    opened: Callable[..., StableDiffusion], deterministic: bool
) -> None:
    whole, half = opened(), opened(vae_dtype=torch.float16)
    for family in (whole, half):
        family.vae.network.decoder.conv_in.weight.data.mul_(2**16)
        family.vae.network.decoder.conv_in.bias.data.fill_(6e4)  # the most that float16 holds is 65,504
    wanted = renders(24)
    expected = alone(whole, wanted, deterministic=deterministic)
    with Engine(half, slots=8, deterministic=deterministic) as engine:
        futures = [engine.submit(each) for each in wanted]
        pictures = [future.result(PATIENCE) for future in futures]
    assert max(map(largest_difference, pictures, expected)) < 12
    assert half.vae.network.dtype == (torch.float16 if deterministic else torch.float32)
    if deterministic:
        expected = alone(half, wanted, deterministic=True)
        assert all(np.array_equal(*both) for both in zip(pictures, expected, strict=True))


def test_short_memory_costs_time_and_no_picture(opened: Callable[..., StableDiffusion]) -> None:
    family = opened()
    # all of one picture, which is encoded once, so that they begin and end together and are decoded in fours
    picture = render(0, width=512, height=512, steps=10, denoising_strength=0.9)
    wanted = [replace(picture, seed=number) for number in range(8)]

    def peak(work: Callable[[], list[Pixels]]) -> tuple[list[Pixels], int]:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        pictures = work()
        family.free_memory()
        return pictures, torch.cuda.max_memory_allocated()

    def together() -> list[Pixels]:
        with Engine(family, slots=8, deterministic=False) as engine:
            return [each.result(PATIENCE) for each in [engine.submit(one) for one in wanted]]

    expected, fewest = peak(lambda: alone(family, wanted, deterministic=False))
    _, enough = peak(together)
    torch.cuda.empty_cache()
    most = (fewest + enough) / 2
    short: list[int] = []
    try:
        torch.cuda.set_per_process_memory_fraction(most / torch.cuda.get_device_properties(0).total_memory)
        with Engine(
            family, slots=8, deterministic=False, on_out_of_memory=lambda slots, _: short.append(slots)
        ) as engine:
            futures = [engine.submit(each) for each in wanted]
            pictures = [future.result(PATIENCE) for future in futures]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert short, "there was enough memory for all"
    assert max(map(largest_difference, pictures, expected)) <= 1
