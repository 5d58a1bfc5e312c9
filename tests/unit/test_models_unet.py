"""A UNet answers as the published one does: at any size, and whatever the lengths of its rows' contexts."""

import weakref
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from img2img_shared.params import Params
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from tests import checkpoints
from tests.checkpoints import embedded
from tests.original_unet import original_unet


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def added_of(conditions: Conditions) -> dict[str, torch.Tensor] | None:
    """What diffusers' UNet for SDXL is given beside the context."""
    given = conditions.tensors
    return {"text_embeds": given["pooled"], "time_ids": given["time_ids"]} if given else None


@torch.inference_mode()
@pytest.mark.parametrize("size", [(8, 8), (9, 8), (11, 13)])
@pytest.mark.parametrize("build", [checkpoints.sd1, checkpoints.sd2, checkpoints.sdxl])
def test_a_latent_of_odd_sides_is_fitted_to_the_skip_connection_after_the_convolution(
    build: Any, size: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = checkpoints.cached(tmp_path_factory, build)
    family = open_checkpoint(folder)
    height, width = (side * 8 for side in size)
    row = family.condition(embedded(family, "a red cat"), Params(width=width, height=height))
    x, t = noise(1, 4, *size), torch.tensor([601.5])
    conditions = Conditions.stack([row])
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False)
    added = added_of(conditions)
    wanted = original_unet(unet, x, t, list(conditions.context), added)
    torch.testing.assert_close(family.predict(x, t, conditions), wanted)
    (plain,) = unet(x, t, conditions.context, added_cond_kwargs=added, return_dict=False)
    differs = (plain - wanted).abs().max() > 0.01
    assert differs == any(side % 2 for side in size)  # diffusers' own is another picture there


@torch.inference_mode()
@pytest.mark.parametrize("build", [checkpoints.sd1, checkpoints.sd2, checkpoints.sdxl])
def test_rows_of_one_call_may_have_contexts_of_different_lengths(
    build: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = checkpoints.cached(tmp_path_factory, build)
    family = open_checkpoint(folder)
    prompts = ("a red cat", "the dog", "a cat " * 50, "dog BREAK cat BREAK red")
    texts = [embedded(family, prompt) for prompt in prompts]
    rows = [family.condition(text, Params(width=72, height=64)) for text in texts]
    conditions = Conditions.stack(rows)
    assert [len(text.context) // 77 for text in texts] == [1, 1, 2, 3]
    x, t = noise(4, 4, 8, 9), torch.tensor([601.5, 20.0, 999.0, 333.3])
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False)
    wanted = original_unet(unet, x, t, [text.context for text in texts], added_of(conditions))
    torch.testing.assert_close(family.predict(x, t, conditions), wanted, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_one_row_whose_latent_is_halved_down_to_one_cell_is_answered_as_beside_another(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    family = open_checkpoint(checkpoints.cached(tmp_path_factory, checkpoints.sd1))
    row = family.condition(embedded(family, "a red cat"), Params())
    x, t = noise(2, 4, 2, 2), torch.tensor([601.5, 20.0])
    both = family.predict(x, t, Conditions.stack([row, row]))
    torch.testing.assert_close(family.predict(x[:1], t[:1], Conditions.stack([row])), both[:1])


@torch.inference_mode()
def test_a_context_has_its_keys_computed_once_however_many_calls_see_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    family = open_checkpoint(checkpoints.cached(tmp_path_factory, checkpoints.sd1))
    assert isinstance(family, StableDiffusion)
    seen: list[torch.Size] = []
    layers = [module for name, module in family.unet.named_modules() if name.endswith("attn2.to_k")]
    for layer in layers:
        layer.register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    texts = [embedded(family, prompt) for prompt in ("a red cat", "the dog " * 50)]
    rows = [family.condition(text, Params()) for text in texts]
    x, t = noise(2, 4, 8, 8), torch.tensor([601.5, 20.0])
    conditions = Conditions.stack(rows)
    answers = [family.predict(x, t, conditions) for _ in range(3)]
    assert len(seen) == 2 * len(layers)  # two lengths, each at the first call
    assert all(torch.equal(answer, answers[0]) for answer in answers)
    other = family.predict(x, t, Conditions.stack(rows))
    assert torch.equal(other, answers[0])
    assert len(seen) == 4 * len(layers)
    swapped = family.predict(x, t, Conditions.stack(rows[::-1]))
    assert not torch.equal(swapped, answers[0])


@torch.inference_mode()
def test_the_keys_of_a_context_leave_memory_with_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    family = open_checkpoint(checkpoints.cached(tmp_path_factory, checkpoints.sd1))
    assert isinstance(family, StableDiffusion)
    conditions = Conditions.stack([family.condition(embedded(family, "a red cat"), Params())])
    made: list[weakref.ref[torch.Tensor]] = []
    layer = next(module for name, module in family.unet.named_modules() if name.endswith("attn2.to_k"))
    layer.register_forward_hook(lambda _, __, keys: made.append(weakref.ref(keys)))
    family.predict(noise(1, 4, 8, 8), torch.tensor([601.5]), conditions)
    (keys,) = made
    assert keys() is not None
    del conditions
    assert keys() is None
