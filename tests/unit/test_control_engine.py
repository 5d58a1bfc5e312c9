"""Images held to control pictures in one engine: each by its own units, and no other image notices."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from img2img_shared.control import ControlUnit
from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.engine.control_schedule import as_adapters_see
from img2img_worker.engine.engine import Engine, Pixels, Render
from img2img_worker.engine.render import Control
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.control.networks import Adapter
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from img2img_worker.sampling.clock import share_done
from tests import checkpoints
from tests.unit.control_files import control_net, write_original
from tests.unit.engine_toys import render
from tests.unit.sharing import pictures_as_alone


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    folder = tmp_path_factory.mktemp("models")
    for seed, name in ((3, "edges"), (5, "shuffle")):
        write_original(control_net(checkpoint, seed), folder / f"{name}.safetensors")
    found = open_checkpoint(checkpoint, control_folders=(folder,))
    assert isinstance(found, StableDiffusion)
    return found


def picture(seed: int, channels: int = 3) -> Pixels:
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, channels), np.uint8)
    if channels == 4:
        pixels[:, :, 3] = np.where(np.arange(64) < 32, 255, 0)
    return pixels


def controlled(*units: dict[str, Any], channels: int = 3) -> Render:
    controls = tuple(
        Control(unit=ControlUnit(**{"model": "edges", **fields}), picture=picture(seed, channels))
        for seed, fields in enumerate(units)
    )
    plain = render(prompt="the cat", steps=4, denoising_strength=0.9, cfg_scale=5)
    return replace(plain, controls=controls)


def alone(family: StableDiffusion, one: Render, **more: Any) -> Pixels:
    with Engine(family, **more) as engine:
        pixels: Pixels = engine.submit(one).result()
        return pixels


UNITS: tuple[tuple[dict[str, Any], ...], ...] = (
    (),
    ({},),
    ({"weight": 0.4},),
    ({"guidance_start": 0.3}, {"model": "shuffle", "guidance_end": 0.3}),
    ({"control_mode": "ControlNet is more important"},),
    ({"control_mode": "My prompt is more important"}, {"weight": 1.5}),
    ({"advanced_weighting": (0.0, 0.5)},),
    ({"module": "tile_colorfix"},),
    ({"model": "shuffle", "weight": 2.0},),
)


@pytest.mark.parametrize("deterministic", [False, True])
def test_images_with_other_units_share_calls_and_come_out_as_alone(
    family: StableDiffusion, deterministic: bool
) -> None:
    renders = [controlled(*units) for units in UNITS]
    together = pictures_as_alone(family, renders, deterministic=deterministic)
    assert all((each != together[0]).any() for each in together[1:])


def test_a_unit_without_weight_or_after_its_end_changes_nothing(family: StableDiffusion) -> None:
    plain = alone(family, controlled())
    np.testing.assert_array_equal(alone(family, controlled({"weight": 0.0})), plain)
    late = controlled({"guidance_start": 0.99})
    np.testing.assert_array_equal(alone(family, late), plain)


def test_where_the_network_counts_more_negative_rows_are_left_alone(family: StableDiffusion) -> None:
    seen: list[int] = []
    network: Any = family.controls.find("edges")
    hook = network.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    alone(family, controlled({}), deterministic=False)
    assert set(seen) == {2}
    seen.clear()
    alone(family, controlled({"control_mode": "ControlNet is more important"}), deterministic=False)
    assert set(seen) == {1}
    seen.clear()
    second = replace(controlled({"control_mode": "ControlNet is more important"}), earlier_calls=4)
    alone(family, second, deterministic=False)
    assert set(seen) == {2}, "of a hires fix, where A1111's extension does not tell them apart"
    seen.clear()
    alone(family, replace(second, read_with="the cat"), deterministic=False)
    assert set(seen) == {1}
    hook.remove()


def test_what_inpaint_only_keeps_stays_as_it_was_encoded(family: StableDiffusion) -> None:
    """Its picture's latent is put back at every step, whatever the init image."""
    unit = {"module": "inpaint_only"}
    first, second = (
        alone(family, replace(controlled(unit, channels=4), seed=seed)).astype(int) for seed in (1, 2)
    )
    assert np.abs(first - second)[:, 48:].mean() < 0.2 * np.abs(first - second)[:, :24].mean()


@pytest.mark.parametrize(
    ("sampler", "steps", "wanted"),
    [
        ("Euler", 5, [0, 0, 1, 2, 3]),
        ("Heun", 3, [0, 0, 0, 1, 1]),
        ("DPM++ SDE", 3, [0, 0, 0, 1, 1]),
        ("PLMS", 4, [0, 0, 0, 1, 2]),
        ("UniPC", 5, [0, 0, 0, 1, 2]),
        ("DDIM", 4, [0, 0, 1, 2]),
    ],
)
def test_the_clock_shows_the_step_that_was_finished_last(sampler: str, steps: int, wanted: list[int]) -> None:
    params = Params(sampler_name=sampler, steps=steps, txt2img=True)
    assert [share_done(params, call) for call in range(len(wanted))] == [each / steps for each in wanted]


def test_a_network_that_is_not_there_is_refused_before_anything_is_rendered(family: StableDiffusion) -> None:
    with Engine(family) as engine, pytest.raises(Refused, match="edges, shuffle"):
        engine.submit(controlled({"model": "pose"}))


def test_units_of_one_adapter_see_what_the_first_of_them_that_acts_does_as_in_a1111() -> None:
    sketch, colour = (Adapter(key=name, network=None, halvings=()) for name in ("sketch", "colour"))
    units: tuple[dict[str, Any], ...] = ({"guidance_start": 0.5}, {}, {}, {"guidance_start": 0.1})
    controls = controlled(*units).controls
    earlier = replace(controls[2], first_pass=picture(9))
    seen = as_adapters_see((*controls[:2], earlier, controls[3]), (sketch, sketch, colour, colour))
    for control, wanted in zip(seen, (controls[1].picture,) * 2 + (picture(9),) * 2, strict=True):
        np.testing.assert_array_equal(control.first_pass, wanted)
    assert as_adapters_see(controls[:1], (None,)) == list(controls[:1])


def test_sharp_colours_soften_what_guidance_leads_away_from_where_the_extension_tells_it(
    family: StableDiffusion,
) -> None:
    plain, sharp = (controlled({"module": name}) for name in ("tile_colorfix", "tile_colorfix+sharp"))
    assert (alone(family, plain) != alone(family, sharp)).any()
    plain, sharp = (replace(each, earlier_calls=4) for each in (plain, sharp))
    np.testing.assert_array_equal(alone(family, plain), alone(family, sharp))
    told = replace(sharp, read_with="the cat")
    assert (alone(family, sharp) != alone(family, told)).any()


def test_colours_are_fixed_where_the_network_has_no_say(family: StableDiffusion) -> None:
    seen: list[int] = []
    network: Any = family.controls.find("edges")
    hook = network.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    one = controlled({"module": "tile_colorfix"})
    off = replace(one, controls=tuple(replace(each, amends_only=True) for each in one.controls))
    assert (alone(family, off) != alone(family, controlled())).any()
    assert not seen
    hook.remove()


def test_colours_are_fixed_before_what_is_kept_whatever_the_units_order(family: StableDiffusion) -> None:
    units: tuple[dict[str, Any], ...] = ({"module": "inpaint_only"}, {"module": "tile_colorfix"})
    one = controlled(*units, channels=4)
    other = replace(one, controls=one.controls[::-1])
    np.testing.assert_allclose(alone(family, one).astype(int), alone(family, other), atol=1)
