"""Pictures that images refer to: as the extension's attention injection, beside images without any."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from img2img_shared.control import ControlUnit
from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.engine.control_schedule import network_of
from img2img_worker.engine.engine import Engine, Pixels, Render
from img2img_worker.engine.reference_schedule import ReferenceNoise, reference_noise
from img2img_worker.engine.render import Control
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.control.image_prompt_rows import ImagePrompt, RowImagePrompt
from img2img_worker.models.control.references import RowReference
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.family import Family, GuidanceRow
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from tests import checkpoints
from tests.checkpoints import embedded
from tests.unit.control_files import control_net, write_original
from tests.unit.engine_toys import render
from tests.unit.sharing import answers_as_alone, pictures_as_alone

SIZE = (8, 8)
T = 441.0


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1_published)
    folder = tmp_path_factory.mktemp("models")
    write_original(control_net(checkpoint, 3), folder / "edges.safetensors")
    found = open_checkpoint(checkpoint, control_folders=(folder,))
    assert isinstance(found, StableDiffusion)
    return found


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference(seed: int = 0, **more: Any) -> RowReference:
    values: dict[str, Any] = {"attends": True, "matches": False, "weight": 1.0, "fidelity": 0.0} | more
    return RowReference(origin=random(4, *SIZE, seed=seed), noise=random(4, *SIZE, seed=seed + 1), **values)


def condition(family: StableDiffusion, prompt: str, *references: RowReference) -> Condition:
    text = family.condition(embedded(family, prompt), Params(width=64, height=64))
    return replace(text, references=references)


def answered(family: StableDiffusion, row: Condition, x: Tensor) -> Tensor:
    return family.predict(x, torch.tensor([T]), Conditions.stack([row]))


@contextmanager
def beside(unet: Any, pictures: dict[int, list[Tensor]], shares: dict[int, float]) -> Iterator[None]:
    """Each self-attention over the pictures that it is given, by a plain reading of the extension."""
    hooks = []
    for number, module in enumerate(attentions(unet)):
        if number not in pictures:
            continue

        def hook(attention: Any, given: Any, answer: Tensor, number: int = number) -> Tensor:
            handles = dict(attention._forward_hooks)
            attention._forward_hooks.clear()
            (x,) = given
            context = torch.cat([x, *pictures[number]], dim=1)
            found: Tensor = attention(x, encoder_hidden_states=context)
            attention._forward_hooks.update(handles)
            return shares[number] * answer + (1 - shares[number]) * found

        hooks.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


def attentions(unet: Any) -> list[Any]:
    """The widest first, those of a width as the data goes."""
    found = [
        module
        for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
        for name, module in block.named_modules()
        if name.endswith("attn1")
    ]
    return sorted(found, key=lambda module: -module.to_q.in_features)


def shown(family: StableDiffusion, row: Condition, which: RowReference) -> dict[int, Tensor]:
    """What each self-attention is given when the UNet sees the picture, with the noise of the timestep."""
    sigma = float(family.noise_levels.sigmas[round(T)])
    assert which.noise is not None
    x = (which.origin + sigma * which.noise) / (1 + sigma**2) ** 0.5
    found: dict[int, Tensor] = {}
    hooks = []
    for number, module in enumerate(attentions(family.unet)):

        def keep(_: Any, given: Any, number: int = number) -> None:
            found[number] = given[0]

        hooks.append(module.register_forward_pre_hook(keep))
    family.unet(x[None], torch.tensor([T]), encoder_hidden_states=row.tensors["context"][None])
    for each in hooks:
        each.remove()
    return found


@torch.inference_mode()
@pytest.mark.parametrize(
    ("weights", "fidelities"),
    [((1.0,), (0.0,)), ((1.0,), (0.3,)), ((0.4,), (0.5,)), ((1.0, 0.55), (0.2, 0.6))],
)
def test_a_row_attends_to_its_pictures_too(
    family: StableDiffusion, weights: tuple[float, ...], fidelities: tuple[float, ...]
) -> None:
    own = [
        reference(10 * number, weight=weight, fidelity=fidelity)
        for number, (weight, fidelity) in enumerate(zip(weights, fidelities, strict=True))
    ]
    row, x = condition(family, "the cat", *own), random(1, 4, *SIZE, seed=99)
    n = len(attentions(family.unet))
    given = [shown(family, row, each) for each in own]
    pictures: dict[int, list[Tensor]] = {}
    shares: dict[int, float] = {}
    for number in range(n):
        taking = [k for k, weight in enumerate(weights) if weight > number / n]
        if taking:
            pictures[number] = [given[k][number] for k in taking]
            shares[number] = sum(fidelities[k] for k in taking) / len(taking)
    assert len(pictures) == (n if max(weights) == 1 else sum(weights[0] > i / n for i in range(n)))
    with beside(family.unet, pictures, shares):
        wanted = answered(family, replace(row, references=()), x)
    plain = answered(family, replace(row, references=()), x)
    found = answered(family, row, x)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    assert (found - plain).abs().max() > 0.01


@torch.inference_mode()
def test_a_row_takes_over_mean_and_variance_of_its_picture(family: StableDiffusion) -> None:
    unet = family.unet
    # of the extension's blocks 4 to 11 down, the middle and 0 to 7 up, those of a depth below 0.6
    matched = [unet.down_blocks[3].resnets[1], unet.mid_block, unet.up_blocks[0].resnets[0]]
    matched += [unet.up_blocks[0].resnets[1], unet.up_blocks[0].upsamplers[0].conv]
    kept: dict[Any, tuple[Tensor, Tensor]] = {}
    own = reference(attends=False, matches=True, weight=0.6, fidelity=0.25)
    row, x = condition(family, "the cat", own), random(1, 4, *SIZE, seed=99)

    def keep(module: Any, _: Any, answer: Tensor) -> None:
        kept[module] = answer.var((2, 3), keepdim=True, correction=0), answer.mean((2, 3), keepdim=True)

    def match(module: Any, _: Any, answer: Tensor) -> Tensor:
        variance, mean = answer.var((2, 3), keepdim=True, correction=0), answer.mean((2, 3), keepdim=True)
        scale = (kept[module][0].clamp(min=1e-6) / variance.clamp(min=1e-6)).sqrt()
        return 0.25 * answer + 0.75 * ((answer - mean) * scale + kept[module][1])

    hooks = [module.register_forward_hook(keep) for module in matched]
    shown(family, row, own)
    for each in hooks:
        each.remove()
    hooks = [module.register_forward_hook(match) for module in matched]
    wanted = answered(family, replace(row, references=()), x)
    for each in hooks:
        each.remove()
    found = answered(family, row, x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (found - answered(family, replace(row, references=()), x)).abs().max() > 0.01


@torch.inference_mode()
@pytest.mark.parametrize("beside_image_prompt", [False, True])  # then the UNet sees all rows' references
def test_rows_with_other_references_or_none_share_a_call(
    family: StableDiffusion, beside_image_prompt: bool
) -> None:
    rows = [
        condition(family, "the cat"),
        condition(family, "the cat", reference(1)),
        condition(family, "a dog", reference(2, fidelity=0.5, weight=0.5)),
        condition(family, "the cat " * 90, reference(3, matches=True), reference(4, matches=True)),
        condition(family, "the cat", reference(5), reference(6, weight=0.0)),
    ]
    x, t = random(len(rows), 4, *SIZE, seed=50), torch.tensor([T, 20.0, 700.0, T, 999.0])
    if beside_image_prompt:
        rows[0] = replace(rows[0], image_prompts=(without_effect(family),))
    # a variance of few cells is easily small, and so is what is divided by it
    answers_as_alone(family, rows, x, t, tolerance=2e-3)


def without_effect(family: StableDiffusion) -> RowImagePrompt:
    n_layers = len(family.unet.attn_processors)
    nothing = (torch.zeros(1, 8),) * n_layers
    return RowImagePrompt(prompt=ImagePrompt(keys=nothing, values=nothing), weights=(0.0,) * n_layers)


def controlled(*units: dict[str, Any], seed: int = 0) -> Render:
    controls = tuple(
        Control(
            unit=ControlUnit(**({"module": "reference_only"} | fields)),
            picture=np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8),
        )
        for number, fields in enumerate(units)
    )
    plain = render(seed, prompt="the cat", steps=4, denoising_strength=0.9, cfg_scale=5)
    return replace(plain, controls=controls)


UNITS: tuple[tuple[dict[str, Any], ...], ...] = (
    (),
    ({},),
    ({"module": "reference_adain+attn", "control_mode": "My prompt is more important"},),
    ({"guidance_start": 0.5}, {"module": "none", "model": "edges"}),
    ({"threshold_a": 0.9}, {"weight": 0.4}),
    ({"module": "none", "model": "edges"},),
    ({"module": "reference_adain", "control_mode": "ControlNet is more important"},),
)


@pytest.mark.parametrize("deterministic", [False, True])
def test_images_with_references_share_calls_and_come_out_as_alone(
    family: StableDiffusion, deterministic: bool
) -> None:
    renders = [controlled(*units) for units in UNITS]
    together = pictures_as_alone(family, renders, deterministic=deterministic)
    assert all((each != together[0]).any() for each in together[1:])


def test_an_image_without_references_pays_for_none(family: StableDiffusion) -> None:
    """The UNet sees pictures for the rows that refer to them, and for no other."""
    seen: list[int] = []
    hook = family.unet.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    try:
        with Engine(family, slots=2, deterministic=False) as engine:
            futures = [engine.submit(controlled()), engine.submit(controlled({}))]
            [future.result() for future in futures]
            calls = engine.counts.calls
    finally:
        hook.remove()
    # an image has two rows in each of its calls, and so has its picture
    assert sum(seen) == 4 * 2 + 2 * 4 * 2
    assert len(seen) == calls + 4


def test_the_noises_are_those_that_the_extension_draws(family: StableDiffusion) -> None:
    first, second = condition(family, "the cat", reference()), condition(family, "a dog", reference())
    torch.manual_seed(77)
    torch.randn(1, 4, *SIZE)  # by the VAE, for the picture
    wanted = [torch.randn(2, 4, *SIZE) for _ in range(2)]
    noise = ReferenceNoise(77, 1, (4, *SIZE))
    rows = [GuidanceRow(condition=each, weight=1.0) for each in (first, second)]
    for drawn in wanted:
        found = noise.laid_over(rows, [first, second])
        for row, own in zip(found, drawn, strict=True):
            assert row.condition.references[0].noise is not None
            torch.testing.assert_close(row.condition.references[0].noise, own, rtol=0, atol=0)
    # a row of no weight draws too
    (last,) = noise.laid_over(rows[1:], [first, second])
    own = last.condition.references[0].noise
    assert own is not None
    torch.testing.assert_close(own, torch.randn(2, 4, *SIZE)[1], rtol=0, atol=0)


def test_each_picture_is_encoded_once_before_the_noises(family: StableDiffusion) -> None:
    one = controlled({}, {"module": "tile_colorfix", "model": "edges"}, {"module": "none", "model": "edges"})
    same = replace(one, controls=(one.controls[0], replace(one.controls[1], picture=one.controls[0].picture)))
    row = condition(family, "the cat", reference())
    firsts = []
    for each, encoded in ((one, 2), (same, 1)):
        found = reference_noise(each, (4, *SIZE))
        assert found is not None
        (noised,) = found.laid_over([GuidanceRow(condition=row, weight=1.0)], [row])
        torch.manual_seed(each.seed)
        torch.randn(encoded, 4, *SIZE)
        wanted = torch.randn(1, 4, *SIZE)[0]
        own = noised.condition.references[0].noise
        assert own is not None
        torch.testing.assert_close(own, wanted, rtol=0, atol=0)
        firsts.append(own)
    assert (firsts[0] != firsts[1]).any()
    assert reference_noise(controlled({"module": "none", "model": "edges"}), (4, *SIZE)) is None


def refused(family: Family, one: Render) -> str:
    (control,) = one.controls
    with pytest.raises(Refused) as found:
        network_of(control, family, one)
    return str(found.value)


def test_what_has_no_meaning_for_a_reference_is_refused(
    family: StableDiffusion, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one = controlled({})
    region = np.zeros((64, 64), np.uint8)
    assert "acts everywhere" in refused(
        family, replace(one, controls=(replace(one.controls[0], region=region),))
    )
    assert "has no residuals" in refused(family, controlled({"advanced_weighting": (0.5,)}))
    merging = one.params.model_copy(update={"token_merging_ratio": 0.5})
    assert "token_merging_ratio" in refused(family, replace(one, params=merging))
    small = open_checkpoint(checkpoints.cached(tmp_path_factory, checkpoints.sd1))
    assert "use reference_only" in refused(small, controlled({"module": "reference_adain"}))
    network_of(one.controls[0], small, one)
    for build in (checkpoints.edit, checkpoints.sd3):
        other = open_checkpoint(checkpoints.cached(tmp_path_factory, build))
        assert "have no references; use one of SD 1.x, 2.x or XL" in refused(other, one)


def test_negative_rows_keep_of_themselves_what_mode_and_fidelity_say(family: StableDiffusion) -> None:
    def rendered(**fields: Any) -> Pixels:
        with Engine(family, deterministic=True) as engine:
            pixels: Pixels = engine.submit(controlled(fields)).result()
            return pixels

    # the prompt counts more: nothing is kept; the network does: everything is
    for fidelity, mode in ((0.0, "My prompt is more important"), (1.0, "ControlNet is more important")):
        np.testing.assert_array_equal(rendered(threshold_a=fidelity), rendered(control_mode=mode))
    assert (rendered(threshold_a=0.0) != rendered(threshold_a=1.0)).any()
