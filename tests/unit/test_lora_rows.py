"""Rows of one model call have LoRAs of their own: the answer is to rounding what merged weights give each."""

import ctypes
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_shared.params import Params
from img2img_shared.prompt_tags import Lora
from img2img_worker.models.adapters import products
from img2img_worker.models.adapters.lora_keys import denoiser_layers
from img2img_worker.models.adapters.patched import MERGED_AFTER
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.edge_padding import pad_input
from tests import checkpoints
from tests.checkpoints import embedded
from tests.unit.loras import TEXT, write_kinds, write_kohya

INK, GOLD = Lora(name="ink", unet_weight=0.1), Lora(name="gold", unet_weight=-0.07)
#: of each row
LORAS: tuple[tuple[Lora, ...], ...] = ((), (INK,), (GOLD,), (GOLD, INK), (INK,))


def opened(kind: str, factory: pytest.TempPathFactory, folder: Path | None = None) -> Any:
    return open_checkpoint(checkpoints.cached(factory, getattr(checkpoints, kind)), lora_folder=folder)


def denoiser(family: Any) -> nn.Module:
    network: nn.Module = getattr(family, "unet", None) or family.transformer
    return network


def written(family: Any, folder: Path) -> None:
    """For all layers that have a matrix or kernels: ink, and gold of half of them and of another rank."""
    layers = denoiser_layers(denoiser(family))
    names = [
        name for name, module in denoiser(family).named_modules()
        if module in set(layers.values()) and module.weight.ndim > 1
    ]  # fmt: skip
    write_kinds(folder / "ink.safetensors", denoiser(family), dict.fromkeys(names, "lora"), seed=1)
    write_kinds(folder / "gold.safetensors", denoiser(family), dict.fromkeys(names[::2], "lora"), seed=900)


def condition(family: Any, loras: Sequence[Lora], prompt: str, *, by_row: bool, **params: Any) -> Condition:
    text = embedded(family, prompt)
    picture = None
    if family.inpaints:
        picture = torch.randn(5, 8, 8, generator=torch.Generator().manual_seed(8))
    patch = family.loras.find(loras, by_row=by_row).denoiser
    row: Condition = family.condition(text, Params(**params), picture=picture, patch=patch)
    return row


def latents(family: Any, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(n, family.latent_channels, 8, 8, generator=generator)


def answers(family: Any, rows: Sequence[Condition], x: Tensor) -> Tensor:
    found: Tensor = family.predict(x, torch.full((len(rows),), 500.0), Conditions.stack(rows))
    return found


@pytest.mark.parametrize(
    ("kind", "prompts", "params"),
    [
        ("sd1", ["the cat"], {}),
        ("sd1", ["the cat"], {"tiling": True}),
        ("sd1", ["the cat", "the dog BREAK sits", "a"], {}),
        ("sd1_inpainting", ["the cat"], {}),
        ("sdxl", ["the cat"], {}),
        ("sd3", ["the cat"], {}),
        ("flux_dev", ["the cat"], {}),
    ],
    ids=["SD 1", "tiling", "lengths", "inpainting", "XL", "SD 3", "Flux"],
)
def test_each_row_of_a_call_is_answered_as_by_its_own_merged_weights(
    kind: str,
    prompts: list[str],
    params: dict[str, Any],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    family = opened(kind, tmp_path_factory)
    written(family, tmp_path)
    family = opened(kind, tmp_path_factory, tmp_path)
    x = latents(family, len(LORAS))
    texts = [prompts[number % len(prompts)] for number in range(len(LORAS))]
    merged = [
        answers(family, [condition(family, loras, text, by_row=False, **params)], x[number : number + 1])[0]
        for number, (loras, text) in enumerate(zip(LORAS, texts, strict=True))
    ]
    rows = [
        condition(family, loras, text, by_row=True, **params)
        for loras, text in zip(LORAS, texts, strict=True)
    ]
    assert len({row.shares for row in rows}) == 1
    found = answers(family, rows, x)
    size = max(each.abs().max().item() for each in merged)
    for ours, wanted in zip(found, merged, strict=True):
        assert (ours - wanted).abs().max() < 1e-4 * size
        if wanted is not merged[0]:
            assert (wanted - merged[0]).abs().max() > 1e-2 * size


class Kernels:
    """As `triton_kernels` for a CPU, in float32: it finds each row's matrices by their addresses."""

    calls = 0

    def add_products(
        self,
        answer: Tensor,
        x: Tensor,
        places: Tensor,
        scales: Tensor,
        *,
        ranks: int,
        is_aligned: bool,
        convolution: nn.Conv2d | None,
    ) -> None:
        self.calls += 1
        assert not is_aligned or not (places % 16).any()
        for row in range(len(x)):
            own = row if len(places) > 1 else 0
            for (down, up, rank), scale in zip(places[own].tolist(), scales[own].tolist(), strict=True):
                if rank == 0:
                    continue
                inner = x.shape[-1:] if convolution is None else convolution.weight.shape[1:]
                outer = answer.shape[-1] if convolution is None else len(convolution.weight)
                first, second = at(down, (rank, *inner)), at(up, (outer, rank))
                if convolution is None:
                    answer[row] += scale * (x[row] @ first.T @ second.T)
                else:
                    seen, padding = pad_input(convolution, x[row : row + 1])
                    more = (convolution.stride, padding, convolution.dilation)
                    found = F.conv2d(seen, first, None, *more)
                    answer[row] += scale * F.conv2d(found, second[:, :, None, None])[0]


def at(address: int, shape: Sequence[int]) -> Tensor:
    """The matrix that lies there."""
    numbers = (ctypes.c_float * math.prod(shape)).from_address(address)
    return torch.frombuffer(numbers, dtype=torch.float32).view(*shape)


@pytest.mark.parametrize(
    "prompts", [["the cat"], ["the cat", "the dog BREAK sits", "a"]], ids=["", "lengths"]
)
def test_rows_find_their_loras_in_a_table_where_a_kernel_adds_them(
    prompts: list[str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernels = Kernels()
    family = opened("sd1", tmp_path_factory)
    written(family, tmp_path)
    family = opened("sd1", tmp_path_factory, tmp_path)
    x = latents(family, len(LORAS))
    texts = [prompts[number % len(prompts)] for number in range(len(LORAS))]
    orders = [LORAS, LORAS[::-1], (*LORAS[3:], *LORAS[:3]), ((INK,),) * len(LORAS), ((),) * len(LORAS)]

    def rows(loras: Sequence[Sequence[Lora]]) -> list[Condition]:
        each = zip(loras, texts, strict=True)
        return [condition(family, own, text, by_row=True) for own, text in each]

    wanted = [answers(family, rows(order), x) for order in orders]
    monkeypatch.setattr(products, "_kernels_for", lambda _: kernels)
    found = [answers(family, rows(order), x) for order in orders]
    assert kernels.calls > 0
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_what_all_rows_have_is_merged_once_it_has_been_so_for_some_calls_and_comes_off_without_a_trace(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    family = opened("sd1", tmp_path_factory)
    written(family, tmp_path)
    family = opened("sd1", tmp_path_factory, tmp_path)
    layer: Any = denoiser(family).get_submodule("mid_block.resnets.0.conv1")
    before = layer.weight.clone()
    x = latents(family, 2)
    plain, ink, gold = (condition(family, loras, "cat", by_row=True) for loras in LORAS[:3])
    alone = answers(family, [plain, plain], x)
    for _ in range(MERGED_AFTER):
        by_row = answers(family, [ink, ink], x)
        assert torch.equal(layer.weight, before)
    merged = answers(family, [ink, ink], x)
    assert not torch.equal(layer.weight, before)
    assert (merged - by_row).abs().max() < 1e-4 * merged.abs().max()
    answers(family, [ink, gold], x)
    assert torch.equal(layer.weight, before)
    for _ in range(MERGED_AFTER + 1):  # of images of two sizes, say: no turn is worth a change of weights
        assert torch.equal(answers(family, [plain, plain], x), alone)
        answers(family, [ink, ink], x)
        assert torch.equal(layer.weight, before)


def test_rows_whose_loras_depend_on_the_weights_share_with_their_like_only(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    family = opened("sd1", tmp_path_factory, tmp_path)
    written(family, tmp_path)
    odd = {"mid_block.resnets.0.conv1": "loha", "conv_in": "lora"}
    write_kinds(tmp_path / "odd.safetensors", family.unet, odd, seed=40)
    plain, ink = (condition(family, loras, "cat", by_row=True) for loras in LORAS[:2])
    both = condition(family, (INK, Lora(name="odd")), "cat", by_row=True)
    assert plain.shares == ink.shares != both.shares
    with pytest.raises(ValueError, match="change the denoiser alike"):
        Conditions.stack([ink, both])


def test_a_text_encoder_has_a_lora_as_products_without_its_weights_changed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    family = opened("sd1", tmp_path_factory, tmp_path)
    network = family.texts[0].model
    write_kohya(tmp_path / "words.safetensors", network, TEXT, seed=3)
    weight = network.get_submodule(TEXT[0].module).weight
    before = weight.clone()
    loras = (Lora(name="words", text_weight=0.5),)
    by_row, merged = (family.loras.find(loras, by_row=each).text for each in (True, False))
    plain = embedded(family, "the cat").context
    found = embedded(family, "the cat", loras=by_row).context
    assert torch.equal(weight, before)
    wanted = embedded(family, "the cat", loras=merged).context
    assert not torch.equal(weight, before)
    assert (wanted - plain).abs().max() > 1e-2
    assert (found - wanted).abs().max() < 1e-4
    assert torch.equal(embedded(family, "the cat").context, plain)
