"""Images share model calls, join and leave between steps, and do not notice each other."""

import threading
from concurrent.futures import CancelledError, Future
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from img2img_shared.errors import FarmError, Refused, Unavailable
from img2img_shared.params import Params
from img2img_worker.engine import decoding, encoded_texts
from img2img_worker.engine.engine import Engine, Pixels, Render
from img2img_worker.engine.guidance_rows import without_negative
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.steps import run_now
from img2img_worker.sampling.noise import fill_noise
from img2img_worker.sampling.plan import compile_plan
from img2img_worker.sampling.plan_key import PlanKey
from tests import checkpoints
from tests.checkpoints import embedded
from tests.unit.engine_toys import ToyFamily, contexts, render, without_calls

SAMPLERS = ("Euler", "Euler a", "Heun", "DDIM", "DPM++ 2M")


@pytest.fixture
def family() -> ToyFamily:
    return ToyFamily()


def mixed(n: int) -> list[Render]:
    """Renders that have nothing in common but their size."""
    return [
        render(
            i,
            prompt="a"[: i % 2] or "cat",
            steps=(20, 30, 50)[i % 3],
            denoising_strength=(0.2, 0.5, 0.75, 1.0)[i % 4],
            sampler_name=SAMPLERS[i % len(SAMPLERS)],
            cfg_scale=(7.0, 1.0, 3.0)[i % 3],
        )
        for i in range(n)
    ]


def run(engine: Engine, renders: list[Render]) -> list[Pixels]:
    return [future.result(60) for future in [engine.submit(each) for each in renders]]


def held(family: ToyFamily) -> threading.Event:
    """Holds the first model call back until the event is set, so that all images are submitted by then."""
    go = threading.Event()
    family.before = lambda *_: go.wait(60)
    return go


def model_calls(family: ToyFamily, each: Render) -> int:
    return len(compile_plan(PlanKey.of(each.params), family.levels(each.latent_size)).sigmas)


def test_images_of_any_parameters_share_each_model_call(family: ToyFamily) -> None:
    renders = mixed(120)
    go = held(family)
    with Engine(family, slots=8, deterministic=False) as engine:
        futures = [engine.submit(each) for each in renders]
        go.set()
        for future in futures:
            future.result(60)
        counts = engine.counts
    evaluations = sum(model_calls(family, each) for each in renders)
    assert counts.image_calls == evaluations
    assert counts.calls == len(family.rows)
    # besides the first call and the last ones, where too few images are left to fill the slots
    assert counts.calls <= 1.03 * evaluations / 8 + max(model_calls(family, each) for each in renders)


def test_a_picture_is_the_same_in_whatever_company(family: ToyFamily) -> None:
    renders = mixed(12)
    with Engine(family, slots=1, deterministic=False) as engine:
        alone = run(engine, renders)
    with Engine(family, slots=5, deterministic=False) as engine:
        together = run(engine, renders)
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_in_deterministic_mode_it_is_so_to_the_byte(family: ToyFamily) -> None:
    renders = mixed(12)
    with Engine(family, slots=1, deterministic=True) as engine:
        alone = run(engine, renders)
    order = np.random.default_rng(1).permutation(12)
    with Engine(family, slots=7, deterministic=True) as engine:
        together = run(engine, [renders[i] for i in order])
    assert set(family.encoded) == set(family.decoded) == {1}
    for place, number in enumerate(order):
        assert np.array_equal(together[place], alone[number])


def test_an_image_that_joins_midway_changes_nothing(family: ToyFamily) -> None:
    first, second = render(1, steps=20), render(2, steps=7, sampler_name="Euler a")
    with Engine(family, slots=2) as engine:
        alone = run(engine, [first, second])
        joined = []

        def join(done: int, total: int) -> None:
            if done == 5:
                joined.append(engine.submit(second))

        picture = engine.submit(first, on_step=join).result(60)
        late = joined[0].result(60)
    assert np.array_equal(picture, alone[0])
    assert np.array_equal(late, alone[1])


def test_no_more_is_encoded_or_decoded_between_two_model_calls_than_others_should_wait_for(
    family: ToyFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PIXELS", 2 * 64 * 64)
    told: list[str] = []
    encode, decode = family._encode, family._decode

    def noted_encode(image: torch.Tensor) -> torch.Tensor:
        told.append(f"encode {len(image)}")
        return encode(image)

    def noted_decode(latents: torch.Tensor) -> torch.Tensor:
        told.append(f"decode {len(latents)}")
        return decode(latents)

    family._encode, family._decode = noted_encode, noted_decode  # type: ignore[method-assign]  # watched
    called, go = threading.Event(), threading.Event()

    def before(*_: object) -> None:
        told.append("call")
        called.set()
        go.wait(60)

    family.before = before
    with Engine(family, slots=8, deterministic=False) as engine:
        slow = engine.submit(render(0, steps=30, denoising_strength=1))
        assert called.wait(60)  # until it has its slot, nobody waits for others' encoding
        quick = [engine.submit(render(number, steps=1)) for number in range(1, 6)]
        go.set()
        for future in (*quick, slow):
            future.result(60)
    busy = told[told.index("call") : -1]
    assert {each for each in busy if each != "call"} == {"encode 2", "encode 1", "decode 2", "decode 1"}
    for first, second in pairwise(busy):
        # one of what joins, one of what is done before the call, and one after it
        assert first == "call" or second == "call" or first != second


def test_images_without_guidance_need_one_row(family: ToyFamily) -> None:
    with Engine(family, slots=1, deterministic=False) as engine:
        run(engine, [render(cfg_scale=1, steps=4, denoising_strength=1)])
    assert family.rows == [1] * 4


def test_two_prompts_joined_by_and_have_a_row_each(family: ToyFamily) -> None:
    with Engine(family, slots=2, deterministic=False) as engine:
        run(engine, [render(prompt="cat AND red:0.5", steps=4, denoising_strength=1)])
        assert (engine.counts.rows, engine.counts.padding) == (3 * 4, 0)
    assert family.rows == [3] * 4


def test_calls_are_filled_up_only_to_row_counts_that_there_are_graphs_for(family: ToyFamily) -> None:
    family.is_compiled = True
    five_rows = render(prompt="cat AND red AND of AND the", steps=2, denoising_strength=1)
    with Engine(family, slots=3, deterministic=False) as engine:
        (picture,) = run(engine, [five_rows])
        assert (engine.counts.rows, engine.counts.padding) == (10, 2)
    assert family.rows == [6, 6]
    family.is_compiled = False
    with Engine(family, slots=3, deterministic=False) as engine:
        assert np.abs(run(engine, [five_rows])[0].astype(int) - picture).max() <= 1
    assert family.rows[2:] == [5, 5]


def test_an_image_of_many_rows_takes_several_calls_between_which_others_go_on(family: ToyFamily) -> None:
    many = render(1, prompt=" AND ".join(f"cat {n}" for n in range(20)), steps=3, denoising_strength=1)
    few = render(2, steps=3, denoising_strength=1)
    with Engine(family, slots=1, deterministic=False) as engine:
        alone = run(engine, [many, few])
    family.rows.clear()
    go = held(family)
    steps: list[int] = []
    with Engine(family, slots=2, deterministic=False) as engine:
        futures = [engine.submit(many), engine.submit(few, lambda *_: steps.append(len(family.rows)))]
        go.set()
        together = [future.result(60) for future in futures]
        assert engine.counts.image_calls == 6
    assert max(family.rows) == 4
    assert sum(family.rows) == 3 * 21 + 3 * 2
    assert steps[-1] - steps[0] == 2  # a part in each call from when it joined
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_an_image_of_many_rows_is_cancelled_between_two_of_its_calls(family: ToyFamily) -> None:
    many = render(1, prompt=" AND ".join(f"cat {n}" for n in range(20)), steps=3, denoising_strength=1)
    submitted: Future[Future[Pixels]] = Future()
    family.before = lambda *_: len(family.rows) == 3 and submitted.result().cancel()
    with Engine(family, slots=1, deterministic=False) as engine:
        submitted.set_result(engine.submit(many))
        with pytest.raises(CancelledError):
            submitted.result().result()
        run(engine, [render(2, steps=1)])
    assert family.rows == [2, 2, 2, 2]


def test_the_negative_row_is_left_out_at_every_second_call_below_s_min_uncond(family: ToyFamily) -> None:
    each = render(steps=10, denoising_strength=1, s_min_uncond=2)
    with Engine(family, slots=1, deterministic=False) as engine:
        run(engine, [each])
    sigmas = compile_plan(PlanKey.of(each.params), family.levels(each.latent_size)).sigmas
    assert family.rows == [1 if call % 2 and sigma < 2 else 2 for call, sigma in enumerate(sigmas)]
    assert 1 in family.rows


@pytest.mark.parametrize(("image_cfg_scale", "leaves_out"), [(None, False), (2.0, False), (1.0, True)])
def test_guided_by_the_picture_too_no_row_is_left_out(
    family: ToyFamily, image_cfg_scale: float | None, leaves_out: bool
) -> None:
    family.edits = True
    each = render(steps=10, denoising_strength=1, s_min_uncond=2, image_cfg_scale=image_cfg_scale)
    with Engine(family, slots=1, deterministic=False) as engine:
        run(engine, [each])
    assert (1 in family.rows) == leaves_out


def test_without_a_negative_row_the_guidance_has_no_scale(family: ToyFamily) -> None:
    cat, red = (family.condition(text, Params()) for text in run_now(family.encode_prompts(["cat", "red"])))
    assert [branch.weight for branch in without_negative([(cat, 0.7)])] == [1]
    assert [branch.weight for branch in without_negative([(cat, 1.0), (red, 0.25)])] == [0.75, 0.25]


@pytest.mark.parametrize("sampler_name", ["DDIM", "UniPC"])
def test_samplers_of_timesteps_hold_those_against_s_min_uncond(family: ToyFamily, sampler_name: str) -> None:
    each = render(steps=10, denoising_strength=1, s_min_uncond=200, sampler_name=sampler_name)
    with Engine(family, slots=1, deterministic=False) as engine:
        run(engine, [each])
    timesteps = compile_plan(PlanKey.of(each.params), family.levels(each.latent_size)).timesteps
    assert family.rows == [1 if call % 2 and t < 200 else 2 for call, t in enumerate(timesteps)]
    assert 1 in family.rows


@pytest.mark.parametrize("mixes", [True, False])
def test_prompts_of_different_lengths_share_each_model_call_where_the_family_can(
    family: ToyFamily, mixes: bool
) -> None:
    family.mixes_lengths = mixes
    renders = [render(0, prompt="red cat of", steps=3), render(1, prompt="cat", steps=3), render(2, steps=3)]
    with Engine(family, slots=1) as engine:
        alone = run(engine, renders)
    family.rows.clear()
    lengths: list[list[int]] = []
    go = threading.Event()

    def note(_x: torch.Tensor, _t: torch.Tensor, rows: Conditions) -> None:
        go.wait(60)
        lengths.append([len(context) for context in contexts(rows)])

    family.before = note
    with Engine(family, slots=3, deterministic=False) as engine:
        futures = [engine.submit(each) for each in renders]
        go.set()
        together = [future.result(60) for future in futures]
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert ([1, 1, 1, 1, 1, 3] in lengths) == mixes
    assert all(len(set(each)) == 1 for each in lengths) != mixes


def test_timesteps_differ_row_by_row_and_keep_their_fractions(family: ToyFamily) -> None:
    go = held(family)
    with Engine(family, slots=3, deterministic=False) as engine:
        futures = [engine.submit(render(i, steps=7 + i, cfg_scale=1)) for i in range(3)]
        go.set()
        for future in futures:
            future.result(60)
    shared = next(timesteps for timesteps in family.timesteps if len(timesteps) == 3)
    assert len(set(shared)) == 3
    assert any(t % 1 for t in shared)


def test_images_of_other_sizes_and_prompt_lengths_have_calls_of_their_own(family: ToyFamily) -> None:
    renders = [
        render(1),
        render(2, width=96),
        render(3, prompt="cat in the red", negative_prompt="dog of the cat"),
        render(4, width=96, steps=5),
    ]
    with Engine(family, slots=4) as engine:
        pictures = run(engine, renders)
    with Engine(family, slots=1) as engine:
        alone = run(engine, renders)
    assert [picture.shape for picture in pictures] == [(64, 64, 3), (64, 96, 3)] * 2
    assert all(np.array_equal(one, other) for one, other in zip(pictures, alone, strict=True))


def test_without_steps_it_is_the_input_through_the_vae(family: ToyFamily) -> None:
    each = without_calls(render())
    with Engine(family) as engine:
        picture = engine.submit(each).result(60)
    expected = family.decode(family.encode(torch.from_numpy(each.pixels)[None])).pixels[0].numpy()
    assert family.rows == []
    assert np.array_equal(picture, expected)


def test_what_the_mask_keeps_is_the_encoded_input(family: ToyFamily) -> None:
    mask = np.zeros((8, 8), np.float32)
    mask[2:5, 3:7] = 1
    each = render(mask=mask, denoising_strength=1)
    with Engine(family) as engine:
        picture = engine.submit(each).result(60)
    kept = family.decode(family.encode(torch.from_numpy(each.pixels)[None])).pixels[0].numpy()
    outside = np.kron(mask, np.ones((8, 8))) == 0
    assert np.array_equal(picture[outside], kept[outside])
    assert not np.array_equal(picture[~outside], kept[~outside])


def test_latent_noise_is_filled_in_from_the_jobs_own_source_and_seed(family: ToyFamily) -> None:
    # without a step, the picture is what was filled in
    mask = np.ones((8, 8), np.float32)
    for source, delta in (("cpu", 0), ("nv", 0), ("cpu", -2)):
        own: dict[str, Any] = {
            "inpainting_fill": 2,
            "noise_source": source,
            "fill_noise_seed_delta": delta,
        }
        each = without_calls(render(5, mask=mask, **own))
        with Engine(family) as engine:
            picture = engine.submit(each).result(60)
        filled = family.decode(fill_noise(5 + delta, (4, 8, 8), source)[None]).pixels[0].numpy()
        assert np.array_equal(picture, filled)


def test_an_edit_checkpoint_is_guided_by_the_picture_too_by_default_as_in_a1111(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    family = open_checkpoint(checkpoints.cached(tmp_path_factory, checkpoints.edit))
    with Engine(family) as engine:
        default, same, other = run(
            engine, [render(image_cfg_scale=scale, steps=2) for scale in (None, 1.5, 5.0)]
        )
    assert np.array_equal(default, same)
    assert not np.array_equal(default, other)


def test_pictures_and_prompts_are_encoded_once(family: ToyFamily) -> None:
    each = render(steps=2)
    with Engine(family) as engine:
        first = engine.submit(each).result(60)
        assert np.array_equal(engine.submit(each).result(60), first)
    assert family.encoded == [1]
    assert family.texts == [("cat",), ("dog",)]


def test_progress_is_told_call_by_call(family: ToyFamily) -> None:
    told: list[tuple[int, int]] = []
    with Engine(family) as engine:
        engine.submit(render(steps=3, denoising_strength=1), lambda *at: told.append(at)).result(60)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_closing_fails_what_is_not_done_and_takes_nothing_more(family: ToyFamily) -> None:
    go = held(family)
    engine = Engine(family, slots=1)
    futures = [engine.submit(render(i)) for i in range(3)]
    closing = threading.Thread(target=engine.close)
    closing.start()
    go.set()
    closing.join(60)
    for future in futures:
        with pytest.raises(Unavailable, match="closed"):
            future.result(60)
    with pytest.raises(Unavailable, match="closed"):
        engine.submit(render())


def test_a_parameter_that_the_checkpoint_has_no_use_for_is_refused(family: ToyFamily) -> None:
    with Engine(family) as engine:
        with pytest.raises(Refused, match="image_cfg_scale"):
            engine.submit(render(image_cfg_scale=1.2)).result(60)
        with pytest.raises(FarmError, match="lora"):
            engine.submit(render(prompt="cat <lora:style:0.8>")).result(60)


def test_prompts_are_forgotten_oldest_first_where_they_take_too_much_memory(
    family: ToyFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoded_texts, "REMEMBERED", embedded(family, "a").context.nbytes * 2)
    family.texts.clear()
    with Engine(family, slots=1) as engine:
        for prompt in ("cat", "dog", "cat", "red", "dog"):
            engine.submit(render(prompt=prompt, negative_prompt=prompt, steps=1)).result(60)
    # positive and negative prompts are encoded apart: each render's two fill what is remembered
    assert family.texts == [
        (text,) for text in ("cat", "cat", "dog", "dog", "cat", "cat", "red", "red", "dog", "dog")
    ]
