"""A refiner takes over within an image's steps: another checkpoint, in the same engine."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from img2img_shared.errors import Refused, Unavailable
from img2img_shared.job import Input
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.other_checkpoints import OtherCheckpoints
from img2img_worker.farm.hires_recipe import hires_fix
from img2img_worker.farm.recipe import recipe
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.prompts.text_encoder import Encoded
from img2img_worker.pictures.infotext import infotext
from img2img_worker.sampling.live import plan_of
from img2img_worker.sampling.plan_key import PlanKey
from img2img_worker.sampling.refiner import first_refined
from tests.unit.engine_toys import TilingFamily, ToyFamily, render
from tests.unit.test_recipe import LEVELS, SERVED, finished, job

REFINER: dict[str, Any] = {"refiner_checkpoint": "second", "steps": 10, "denoising_strength": 1.0}


@dataclass(kw_only=True)
class Inverted(ToyFamily):
    """Another checkpoint of the same kind."""

    def predict(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        return -super().predict(x, t, conditions)


@pytest.mark.parametrize(
    ("changes", "call"),
    [
        ({"refiner_switch_at": 0.0}, 0),
        ({"refiner_switch_at": None}, 0),
        ({"refiner_switch_at": 0.5}, 5),
        ({"refiner_switch_at": 0.8}, 8),
        ({"refiner_switch_at": 1.0}, None),
        ({"refiner_switch_at": 0.5, "scheduler": "Karras"}, 5),
        ({"refiner_switch_at": 0.5, "denoising_strength": 0.5}, 1),
        ({"refiner_switch_at": 0.5, "denoising_strength": 0.5, "refiner_switch_by_sample_steps": True}, 3),
        ({"refiner_switch_at": 0.5, "sampler_name": "Heun", "refiner_switch_by_sample_steps": True}, 10),
        ({"refiner_switch_at": 0.5, "sampler_name": "DDIM"}, 4),
        ({"refiner_switch_at": 0.5, "sampler_name": "DPM adaptive"}, -1),
        ({"refiner_switch_at": 0.5, "denoising_strength": 0.3}, 0),
        ({"refiner_checkpoint": None}, None),
    ],
)
def test_it_takes_over_by_noise_levels_or_by_steps(changes: dict[str, Any], call: int | None) -> None:
    params = Params(**REFINER | {"sampler_name": "Euler"} | changes)
    assert first_refined(params, plan_of(PlanKey.of(params), LEVELS), LEVELS) == call


@pytest.mark.parametrize("sampler", ["Euler a", "DDIM", "DPM adaptive"])
def test_its_calls_are_its_own_and_others_do_not_notice(sampler: str) -> None:
    first, second = ToyFamily(), Inverted()
    own: dict[str, Any] = {"sampler_name": sampler, "denoising_strength": 1.0, "steps": 10}
    renders = [
        render(1, **REFINER | own, refiner_switch_at=0.5),
        render(2, **REFINER | own, refiner_switch_at=0.7),
        render(3, **own),
    ]
    others = {"second": second}.__getitem__
    with Engine(first, slots=3, deterministic=False, others=others, most_others=1) as engine:
        alone = [engine.submit(each).result(60) for each in renders]
        calls = [len(family.rows) for family in (first, second)]
        go = threading.Event()
        first.before = lambda *_: go.wait(60)
        futures = [engine.submit(each) for each in renders]
        go.set()
        together = [future.result(60) for future in futures]
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert 0 < len(second.rows) - calls[1] < calls[1], "refiners' rows share calls"
    with Engine(first) as engine:
        plain = engine.submit(render(1, **own)).result(60)
    assert not np.array_equal(plain, alone[0])
    with Engine(second) as engine:
        whole = engine.submit(render(1, **own)).result(60)
    with Engine(first, others={"second": second}.__getitem__, most_others=1) as engine:
        np.testing.assert_array_equal(engine.submit(render(1, **REFINER | own)).result(60), whole)


def test_it_encodes_the_prompts_itself() -> None:
    first, second = ToyFamily(), Inverted()
    with Engine(first, others={"second": second}.__getitem__, most_others=1) as engine:
        engine.submit(render(1, **REFINER, refiner_switch_at=0.5)).result(60)
    assert first.texts == second.texts == [("cat",), ("dog",)]
    assert (first.encoded, second.encoded) == ([1], [])
    assert (first.decoded, second.decoded) == ([], [1]), "the last checkpoint decodes, as in A1111"


@pytest.mark.parametrize(("configuration", "tiled"), [("toy", True), ("another", False), (None, False)])
def test_another_network_of_a_second_pass_does_not_tile_as_in_a1111(
    configuration: str | None, tiled: bool
) -> None:
    other = TilingFamily(configuration=configuration)
    with Engine(ToyFamily(), others={"other": other}.__getitem__, most_others=1) as engine:
        engine.submit(replace(render(1, tiling=True), checkpoint="other")).result(60)
    assert other.tiled == [tiled]


@dataclass
class _Merging(ToyFamily):
    ratios: set[float] = field(default_factory=set)

    def condition(self, text: Encoded, params: Params, **more: Any) -> Condition:
        self.ratios.add(params.token_merging_ratio)
        return super().condition(text, params, **more)


@pytest.mark.parametrize(("configuration", "ratio"), [("toy", 0.5), ("another", 0.0)])
def test_tokens_are_merged_by_a_refiner_of_the_same_form_alone_as_in_a1111(
    configuration: str, ratio: float
) -> None:
    first, other = _Merging(), _Merging(configuration=configuration)
    with Engine(first, others={"second": other}.__getitem__, most_others=1) as engine:
        engine.submit(render(1, **REFINER, token_merging_ratio=0.5)).result(60)
    assert (first.ratios, other.ratios) == ({0.5}, {ratio})


@pytest.mark.parametrize(
    ("refiner", "allowed"),
    [
        (ToyFamily(latent_channels=16), "same kind"),
        (ToyFamily(inpaints=True), "wants to see more"),
    ],
)
def test_one_that_does_not_go_with_the_first_checkpoint_is_refused(refiner: ToyFamily, allowed: str) -> None:
    with (
        Engine(ToyFamily(), others=lambda _: refiner, most_others=1) as engine,
        pytest.raises(Refused, match=allowed),
    ):
        engine.submit(render(1, **REFINER))


def test_without_a_place_for_others_there_are_none() -> None:
    with Engine(ToyFamily()) as engine, pytest.raises(Refused, match="takes none"):
        engine.submit(render(1, **REFINER))


def test_as_many_are_kept_as_may_be_and_the_one_that_was_not_used_for_longest_goes() -> None:
    read: list[str] = []

    def family(name: str) -> ToyFamily:
        read.append(name)
        return ToyFamily()

    others = OtherCheckpoints(family, 2, deterministic=True)
    for name in ("a", "b", "a", "c", "a", "b"):
        others.borrow([name])
        others.give_back([name])
    assert read == ["a", "b", "c", "b"]
    others.drop_idle()
    others.borrow(["b"])
    assert read[-1] == "b"


def test_an_image_waits_until_a_place_is_free() -> None:
    others = OtherCheckpoints(lambda _: ToyFamily(), 1, deterministic=True)
    held = others.borrow(["a"])
    with ThreadPoolExecutor(2) as pool:
        same, other = pool.submit(others.borrow, ["a"]), pool.submit(others.borrow, ["b"])
        assert same.result(60) == held, "one that is there is had at once"
        others.give_back(["a"])
        assert not wait([other], 0).done
        others.give_back(["a"])
        assert list(other.result(60)) == ["b"]
        last = pool.submit(others.borrow, ["c"])
        others.close()
        with pytest.raises(Unavailable):
            last.result(60)


def test_an_image_that_needs_two_has_both_and_one_is_kept() -> None:
    read: list[str] = []

    def family(name: str) -> ToyFamily:
        read.append(name)
        return ToyFamily()

    others = OtherCheckpoints(family, 1, deterministic=True)
    others.borrow(["a"])
    with ThreadPoolExecutor(1) as pool:
        both = pool.submit(others.borrow, ["a", "b"])
        assert both.result(60).keys() == {"a", "b"}, "nothing else is in use"
        another = pool.submit(others.borrow, ["c", "d"])
        assert not wait([another], 0).done
        others.give_back(["a"])
        others.give_back(["a", "b"])
        assert another.result(60).keys() == {"c", "d"}
    others.give_back(["c", "d"])
    for name in ("d", "c"):
        others.borrow([name])
        others.give_back([name])
    assert read == ["a", "b", "c", "d", "c"]


def test_one_that_cannot_be_read_leaves_its_place() -> None:
    def read(name: str) -> ToyFamily:
        if name == "bad":
            raise Refused("checkpoint", name, "another")
        return ToyFamily()

    others = OtherCheckpoints(read, 1, deterministic=True)
    with pytest.raises(Refused, match="bad"):
        others.borrow(["bad"])
    assert list(others.borrow(["good"])) == ["good"]


def test_one_file_is_read_once_for_images_that_come_together() -> None:
    read: list[str] = []
    go = threading.Event()

    def family(name: str) -> ToyFamily:
        go.wait(60)
        read.append(name)
        return ToyFamily()

    others = OtherCheckpoints(family, 1, deterministic=True)
    with ThreadPoolExecutor(3) as pool:
        borrowed = [pool.submit(others.borrow, ["a"]) for _ in range(3)]
        go.set()
        assert len({id(each.result(60)["a"]) for each in borrowed}) == 1
    assert read == ["a"]


def told(**params: Any) -> str:
    """The last line of a picture's text."""
    steps = recipe(job(txt2img=True, **params), Input(), 0, {}, SERVED)
    (first,) = next(steps)
    answers = [np.zeros((4, 8, 8), np.float32)] if first.wants_latent else []
    for answer in answers:
        steps.send([answer])
    size = 128 if answers else 64
    (data,) = finished(steps, np.full((size, size, 3), 9, np.uint8)).values()
    return read_texts(data)["parameters"].split("\n")[-1]


def test_a_text_tells_it_where_it_has_taken_over() -> None:
    assert "RNG: CPU, Refiner: second, Refiner switch at: 0.5, " in told(**REFINER, refiner_switch_at=0.5)
    assert "RNG: CPU, Refiner: second, Version" in told(**REFINER)
    assert "Refiner" not in told(**REFINER, refiner_switch_at=1)
    by_steps = {"refiner_switch_at": 0.5, "refiner_switch_by_sample_steps": True, "s_min_uncond": 3}
    text = told(**REFINER, **by_steps)
    assert ", Refiner switch by sampling steps: True, NGMS: 3, Refiner: second, " in text
    assert "Refiner" not in told(**REFINER | {"refiner_checkpoint": "tiny-model [0123456789]"})


def test_of_a_hires_fix_it_has_the_second_pass_or_what_is_said() -> None:
    hires = {"enable_hr": True, "txt2img": True, "refiner_switch_at": 0.5}
    shares = {"second pass": [False, True], "first pass": [True, False], "both passes": [True, True]}
    for which, wanted in shares.items():
        params = {**REFINER, **hires, "hires_fix_refiner_pass": which}
        steps = hires_fix(render(1, **params), 8, checkpoint="third")
        (low,) = next(steps)
        (high,) = steps.send([np.zeros((4, 8, 8), np.float32)])
        assert [bool(each.params.refiner_checkpoint) for each in (low, high)] == wanted
        assert (low.checkpoint, high.checkpoint) == (None, "third")
    text = told(**{**REFINER, "enable_hr": True, "hires_fix_refiner_pass": "both passes"})
    assert "Hires refiner: both passes, Refiner: second, " in text
    assert "Hires refiner" not in told(**REFINER, enable_hr=True)
    assert "Hires refiner" not in told(**REFINER | {"hires_fix_refiner_pass": "both passes"})


@pytest.mark.parametrize(
    ("second", "refiner", "wanted"),
    [
        (None, "m", [False, False]),
        (None, "other", [True, True]),
        ("other", "m", [False, True]),
        ("other", "other", [True, False]),
        ("other", "third", [True, True]),
    ],
)
def test_a_checkpoint_is_not_its_own_refiner_in_either_pass(
    second: str | None, refiner: str, wanted: list[bool]
) -> None:
    served = replace(SERVED, model="m", title="m", model_hash="1", other_title=lambda name: f"{name} [1]")
    hires = {"enable_hr": True, "hr_checkpoint_name": second, "hires_fix_refiner_pass": "both passes"}
    params = {"txt2img": True, "steps": 2, "refiner_checkpoint": refiner, **hires}
    steps = recipe(job(**params), Input(), 0, {}, served)
    (low,) = next(steps)
    (high,) = steps.send([np.zeros((4, 8, 8), np.float32)])
    assert [bool(each.params.refiner_checkpoint) for each in (low, high)] == wanted


def test_control_is_told_behind_the_mask_where_a_refiner_is_to_come_as_in_a1111() -> None:
    for refiner in (None, "second"):
        params = Params(control=[{"model": "edges"}], refiner_checkpoint=refiner)
        text = infotext(params, prompt="", negative_prompt="", seed=1, subseed=2, model="tiny", has_mask=True)
        assert (text.index("Mask blur: 4") < text.index("ControlNet 0: ")) is (refiner is not None)
