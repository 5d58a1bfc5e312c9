"""Noise: A1111's streams, seed for seed."""

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torchsde
from torch import Tensor

from img2img_shared.params import Params
from img2img_worker.sampling.brownian import BrownianPath
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.noise import NoiseStream, fill_noise, first_draw, noises
from img2img_worker.sampling.philox import Philox, philox
from img2img_worker.sampling.plan import Draw, Increment, compile_plan
from img2img_worker.sampling.plan_key import PlanKey

LEVELS = NoiseLevels.from_alphas_cumprod(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))
SHAPE = (4, 8, 6)
SPAN = (0.029167533, 14.614647)


def cpu(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))


def start(shape: tuple[int, int, int] = SHAPE, seed: int = 7, subseed: int = 9, **params: Any) -> Tensor:
    return NoiseStream(Params(**params), seed, subseed, shape).next()


def test_philox_gives_the_published_words() -> None:
    """Known answers of Random123 for Philox 4x32-10."""
    zeros, ones = np.zeros(1, np.uint32), np.full(1, 0xFFFFFFFF, np.uint32)
    got = philox((zeros, zeros, zeros, zeros), np.zeros(2, np.uint32))
    assert [int(word[0]) for word in got] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    got = philox((ones, ones, ones, ones), np.full(2, 0xFFFFFFFF, np.uint32))
    assert [int(word[0]) for word in got] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def test_philox_gives_what_a1111_states_for_seed_0() -> None:
    expected = [
        [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
        [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
        [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
    ]
    # stated from double-precision constants: single ones, as CUDA has them, differ in the seventh digit
    assert np.allclose(Philox(0).randn((3, 4)), expected, rtol=0, atol=5e-7)


def test_philox_depends_on_all_64_bits_of_the_seed_and_on_the_call() -> None:
    generator = Philox(5)
    first, second = generator.randn((1000,)), generator.randn((1000,))
    other = Philox(5 + 2**32).randn((1000,))
    assert abs(np.corrcoef([first, second, other]) - np.eye(3)).max() < 0.1
    assert np.array_equal(Philox(2**63 - 1).randn((4,)), Philox(2**63 - 1).randn((4,)))
    assert first.std() == pytest.approx(1, abs=0.1)


def test_the_start_is_the_seeds_first_draw_and_the_rest_goes_on_from_there() -> None:
    stream = NoiseStream(Params(), 7, 9, SHAPE)
    generator = torch.Generator("cpu").manual_seed(7)
    for _ in range(3):
        assert torch.equal(stream.next(), torch.randn(SHAPE, generator=generator))


def test_nv_noise_is_philoxs_in_the_same_order() -> None:
    stream, philox_stream = NoiseStream(Params(noise_source="nv"), 7, 9, SHAPE), Philox(7)
    for _ in range(3):
        assert np.array_equal(stream.next().numpy(), philox_stream.randn(SHAPE))
    assert np.array_equal(fill_noise(7, SHAPE, "nv").numpy(), Philox(7).randn(SHAPE))


@pytest.mark.parametrize("source", ["cpu", "nv"])
def test_a_subseed_turns_the_noise_towards_its_own(source: str) -> None:
    low, high = (first_draw(seed, SHAPE, source).double().numpy() for seed in (7, 9))
    unit_low = low / np.sqrt((low**2).sum(axis=1, keepdims=True))
    unit_high = high / np.sqrt((high**2).sum(axis=1, keepdims=True))
    omega = np.arccos((unit_low * unit_high).sum(axis=1, keepdims=True))
    wanted = (np.sin(0.7 * omega) * low + np.sin(0.3 * omega) * high) / np.sin(omega)
    got = start(subseed_strength=0.3, noise_source=source).numpy()
    assert np.abs(got - wanted).max() < 1e-5
    assert torch.allclose(start(subseed_strength=1.0), cpu(9, *SHAPE), atol=1e-5)


def test_a_subseed_equal_to_the_seed_changes_nothing() -> None:
    assert torch.allclose(start(subseed=7, subseed_strength=0.4), cpu(7, *SHAPE), atol=1e-6)


def test_later_draws_do_not_depend_on_the_subseed() -> None:
    stream = NoiseStream(Params(subseed_strength=0.5), 7, 9, SHAPE)
    plain = NoiseStream(Params(), 7, 9, SHAPE)
    assert not torch.equal(stream.next(), plain.next())
    assert torch.equal(stream.next(), plain.next())


@pytest.mark.parametrize(
    ("height", "width", "target", "source"),
    [
        (64, 64, (slice(4, 12), slice(0, 8)), (slice(0, 8), slice(0, 8))),
        (64, 128, (slice(4, 12), slice(0, 8)), (slice(0, 8), slice(4, 12))),
        (192, 32, (slice(0, 16), slice(2, 6)), (slice(4, 20), slice(0, 4))),
        (88, 24, (slice(2, 13), slice(2, 5)), (slice(0, 11), slice(0, 3))),  # odd margins: rounded down
        (136, 88, (slice(0, 15), slice(0, 7)), (slice(1, 16), slice(2, 9))),  # cut: one short at the end
    ],
)
def test_seed_resize_lays_the_other_sizes_noise_in_the_middle(
    height: int, width: int, target: tuple[slice, slice], source: tuple[slice, slice]
) -> None:
    wanted = cpu(7, 4, 16, 8)
    wanted[:, *target] = cpu(7, 4, height // 8, width // 8)[:, *source]
    got = start((4, 16, 8), seed_resize_from_h=height, seed_resize_from_w=width)
    assert torch.equal(got, wanted)


def test_seed_resize_and_subseed_act_together() -> None:
    got = start((4, 8, 8), subseed_strength=1.0, seed_resize_from_h=32, seed_resize_from_w=32)
    assert torch.allclose(got[:, 2:6, 2:6], cpu(9, 4, 4, 4), atol=1e-5)
    assert torch.equal(got[:, :2], cpu(7, 4, 8, 8)[:, :2])


def test_fill_noise_is_the_seeds_first_draw() -> None:
    assert torch.equal(fill_noise(7, SHAPE), cpu(7, *SHAPE))


def torchsdes(seed: int) -> torchsde.BrownianTree:
    low, high = (torch.tensor(sigma) for sigma in SPAN)
    return torchsde.BrownianTree(low, torch.zeros(SHAPE), high, entropy=seed)


@pytest.mark.filterwarnings("ignore:Should have t")  # torchsde rounds its ends, and says so
@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_a_brownian_path_is_torchsdes_in_any_order(seed: int) -> None:
    tree = torchsdes(seed)
    path = BrownianPath(seed, SPAN, SHAPE, partial(first_draw, noise_source="cpu"))
    ends = np.geomspace(SPAN[1], SPAN[0], 40).astype(np.float32).tolist()
    pairs = [*pairwise(ends), (ends[0], ends[30]), (ends[3], ends[4])]
    for sigma, sigma_next in [*pairs, *pairs[::-7]]:
        high, low = torch.tensor(sigma), torch.tensor(sigma_next)
        wanted = -tree(low.clamp(*SPAN), high.clamp(*SPAN)) / (high - low).sqrt()
        assert torch.allclose(path.noise(sigma, sigma_next), wanted, rtol=0, atol=2e-6)


def test_a_brownian_path_on_nv_noise_is_torchsdes_with_its_source_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def randn(size: tuple[int, ...], dtype: torch.dtype, device: Any, seed: int) -> Tensor:
        return torch.from_numpy(Philox(int(seed)).randn(size))

    monkeypatch.setattr("torchsde._brownian.brownian_interval._randn", randn)
    wanted = -torchsdes(7)(1.0, 2.0)
    path = BrownianPath(7, SPAN, SHAPE, partial(first_draw, noise_source="nv"))
    assert torch.allclose(path.noise(2.0, 1.0), wanted, atol=2e-6)


def test_a_brownian_paths_steps_have_variance_1_and_are_independent() -> None:
    path = BrownianPath(1, SPAN, (1, 50, 50), partial(first_draw, noise_source="cpu"))
    steps = [path.noise(a, b).flatten().numpy() for a, b in [(9.0, 5.0), (5.0, 1.0), (1.0, 0.9)]]
    assert np.abs(np.corrcoef(steps) - np.eye(3)).max() < 0.06
    assert np.allclose(np.std(steps, axis=1), 1, atol=0.05)


def test_noises_serve_a_plan_in_order() -> None:
    params = Params(sampler_name="DPM++ SDE", steps=4, denoising_strength=1.0)
    plan = compile_plan(PlanKey.of(params), LEVELS)
    got = list(noises(plan, params, 7, 9, SHAPE))
    assert len(got) == plan.n_noises == 7
    assert torch.equal(got[0], cpu(7, *SHAPE))
    assert plan.span == pytest.approx((LEVELS.sigma_min, LEVELS.sigma_max), rel=1e-6)
    path = BrownianPath(7, plan.span, SHAPE, partial(first_draw, noise_source="cpu"))
    for request, noise in zip(plan.noises[1:], got[1:], strict=True):
        assert isinstance(request, Increment)
        assert torch.equal(noise, path.noise(request.sigma, request.sigma_next))
        assert noise.dtype == torch.float32


def test_a_brownian_path_covers_the_schedule_whatever_the_strength() -> None:
    keys = {"sampler_name": "DPM++ 2M SDE", "steps": 10}
    weak, strong = Params(**keys, denoising_strength=0.2), Params(**keys, denoising_strength=1.0)
    last = [list(noises(compile_plan(PlanKey.of(p), LEVELS), p, 7, 9, SHAPE))[-1] for p in (weak, strong)]
    assert torch.equal(*last)


def test_draws_that_a_sampler_makes_and_does_not_use_are_skipped() -> None:
    params = Params(steps=6, denoising_strength=1.0, s_churn=3.0, s_tmax=1.0)
    plan = compile_plan(PlanKey.of(params), LEVELS)
    generator = torch.Generator("cpu").manual_seed(7)
    stream = [torch.randn(SHAPE, generator=generator) for _ in range(7)]
    positions = [request.position for request in plan.noises if isinstance(request, Draw)]
    assert len(positions) < 7
    for position, noise in zip(positions, noises(plan, params, 7, 9, SHAPE), strict=True):
        assert torch.equal(noise, stream[position])
