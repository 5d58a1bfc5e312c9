"""A picture can be looked at while it is rendered, and is none the worse for it."""

from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from img2img_shared.errors import FarmError
from img2img_worker.engine.engine import Engine, Pixels
from img2img_worker.engine.preview import Colours
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.vae import Decoded
from tests import checkpoints
from tests.unit.engine_toys import ToyFamily, render

SAMPLERS = ("Euler a", "Heun", "DPM++ 2M SDE", "UniPC")


@pytest.fixture
def family() -> ToyFamily:
    return ToyFamily()


def looked_at(engine: Engine, number: int, **params: Any) -> tuple[Pixels, list[Pixels]]:
    """A picture, and its estimates after each model call."""
    glances: list[Future[Pixels]] = []
    future: Future[Pixels]

    def look(done: int, total: int) -> None:
        if done < total:
            glances.append(engine.estimate(future))

    # submitted by the engine's own callback of another, so that `future` is known when it begins
    def begin(done: int, total: int) -> None:
        nonlocal future
        if done == 1:
            future = engine.submit(render(number, **params), look)

    engine.submit(render(99, steps=1), begin).result(60)
    return future.result(60), [glance.result(60) for glance in glances]


@pytest.mark.parametrize("deterministic", [True, False])
def test_looking_changes_no_byte(family: ToyFamily, deterministic: bool) -> None:
    for sampler in SAMPLERS:
        with Engine(family, slots=2, deterministic=deterministic) as engine:
            unseen = engine.submit(render(1, steps=6, sampler_name=sampler)).result(60)
            calls = engine.counts.calls
            seen, estimates = looked_at(engine, 1, steps=6, sampler_name=sampler)
            assert engine.counts.calls == 2 * calls + 1
        assert np.array_equal(seen, unseen)
        assert len(estimates) == calls - 1


def test_an_estimate_is_the_latest_answer_in_colours(family: ToyFamily) -> None:
    decode, final = family.decode, list[Tensor]()

    def note(latents: Tensor, **given: Any) -> Decoded:
        final.append(latents)
        return decode(latents, **given)

    family.decode = note  # type: ignore[method-assign]  # it still decodes
    with Engine(family, slots=1) as engine:
        _, estimates = looked_at(engine, 3, steps=40, denoising_strength=0.9)
    result = Colours(family).pictures(final[-1])[0].numpy().astype(int)
    assert {(each.shape, each.dtype.name) for each in estimates} == {((8, 8, 3), "uint8")}
    # with Euler, what the last call answers is the result; the call before is nearly there, the first is not
    distances = [np.abs(each - result).mean() for each in estimates]
    assert distances[-1] < 0.5
    assert distances[0] > 5


def test_before_the_first_model_call_it_is_the_init_image(family: ToyFamily) -> None:
    glances: list[Future[Pixels]] = []

    def before(x: Tensor, t: Tensor, conditions: Conditions) -> None:
        if not glances:
            glances.append(engine.estimate(slow))

    with Engine(family, slots=2) as engine:
        # the first image's first call asks for the second's estimate, which joins before it is answered
        slow = engine.submit(render(1, width=128, steps=3))
        family.before = before
        slow.result(60)
        estimate = glances[0].result(60)
    assert estimate.shape == (8, 16, 3)


def test_what_is_not_in_flight_cannot_be_looked_at(family: ToyFamily) -> None:
    with Engine(family, slots=1) as engine:
        done = engine.submit(render(1, steps=1))
        done.result(60)
        stranger: Future[Pixels] = Future()
        for future in (done, stranger):
            with pytest.raises(CancelledError):
                engine.estimate(future).result(60)
    with pytest.raises(CancelledError):
        engine.estimate(done).result(60)


def test_a_glance_that_fails_costs_no_picture(family: ToyFamily) -> None:
    encode = family.encode

    def short(pixels: Tensor, **given: Any) -> Tensor:
        if pixels.shape[1] != 64:  # not the pictures, but what the map is fitted to
            raise torch.OutOfMemoryError("no room")
        return encode(pixels, **given)

    family.encode = short  # type: ignore[method-assign]  # a fault, put in where the model would have it
    glances: list[Future[Pixels]] = []
    with Engine(family, slots=1) as engine:
        first = engine.submit(render(1, steps=9))
        family.before = lambda *_: glances.append(engine.estimate(first))
        assert first.result(60).shape == (64, 64, 3)
        family.before = lambda *_: None
        assert engine.submit(render(2, steps=2)).result(60).shape == (64, 64, 3)
    assert isinstance(glances[0].exception(60), torch.OutOfMemoryError)


def test_an_estimate_that_is_no_number_is_an_error(family: ToyFamily) -> None:
    predict = family.predict
    family.predict = lambda x, t, conditions: predict(x, t, conditions) * torch.nan  # type: ignore[method-assign]  # a fault
    glances: list[Future[Pixels]] = []
    with Engine(family, slots=1) as engine:
        future = engine.submit(render(1, steps=9, denoising_strength=1))

        def look(*_: object) -> None:
            if len(family.rows) == 4:
                glances.append(engine.estimate(future))

        family.before = look
        with pytest.raises(FarmError, match="not finite"):
            future.result(60)
        with pytest.raises(FarmError, match="not finite"):
            glances[0].result(60)


def test_the_map_is_exact_where_latents_are_colours(family: ToyFamily) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (1, 48, 64, 3), dtype=np.uint8)
    latents = family.encode(torch.from_numpy(pixels))
    means = pixels.reshape(1, 6, 8, 8, 8, 3).mean((2, 4))
    assert np.abs(Colours(family).pictures(latents).numpy() - means).max() <= 1


def test_it_works_for_latents_of_any_number_of_channels(tmp_path_factory: pytest.TempPathFactory) -> None:
    family = open_checkpoint(checkpoints.cached(tmp_path_factory, checkpoints.sd3))
    latents = torch.randn(2, family.latent_channels, 5, 7)
    assert Colours(family).pictures(latents).shape == (2, 5, 7, 3)


def ended_early(engine: Engine, after: int, **params: Any) -> tuple[Pixels, int]:
    """A picture that was wanted after so many model calls, and how many were made."""
    made: list[int] = []
    future: Future[Pixels]

    def count(done: int, _: int) -> None:
        made.append(done)
        if done == after:
            engine.end_early(future)

    def begin(done: int, _: int) -> None:
        nonlocal future
        if done == 1:
            future = engine.submit(render(1, **params), count)
            if after == 0:
                engine.end_early(future)

    engine.submit(render(99, steps=1), begin).result(60)
    return future.result(60), made[-1]


@dataclass(kw_only=True)
class Recording(ToyFamily):
    """A toy that keeps the latents which it decodes."""

    latents: list[Tensor] = field(default_factory=list)

    def decode(self, latents: Tensor, **given: Any) -> Decoded:
        self.latents.append(latents)
        return super().decode(latents, **given)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_picture_that_ends_early_is_the_models_last_answer(sampler: str, after: int) -> None:
    family = Recording()
    params: dict[str, Any] = {"steps": 8, "sampler_name": sampler}
    with Engine(family, slots=2) as engine:
        _, glances = looked_at(engine, 1, **params)
        _, calls = ended_early(engine, after, **params)
        assert calls == max(after, 1)
        assert np.array_equal(Colours(family).pictures(family.latents[-1])[0].numpy(), glances[calls - 1])


def test_one_that_is_done_or_unknown_cannot_end_early(family: ToyFamily) -> None:
    with Engine(family) as engine:
        future = engine.submit(render(1, steps=2))
        future.result(60)
        engine.end_early(future)
        engine.end_early(Future())
        assert engine.submit(render(2, steps=2)).result(60).size
