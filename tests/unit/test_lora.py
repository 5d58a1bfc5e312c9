"""A LoRA's result is that of a checkpoint whose weights were merged by hand, whatever wrote the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from img2img_shared.params import Params
from img2img_shared.prompt_tags import Lora
from img2img_worker.models.adapters.lora_file import read_lora
from img2img_worker.models.adapters.low_rank import Adapter
from img2img_worker.models.adapters.patch import NO_PATCH
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.sd3 import StableDiffusion3
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from tests import checkpoints
from tests.checkpoints import embedded
from tests.unit.loras import RANK, TEXT, UNET, Target, merge, tensors, write_kinds, write_kohya, write_peft

PROMPT = "the red cat"
Answer = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.cached(tmp_path_factory, checkpoints.sd1)


def opened(path: Path, folder: Path | None = None) -> StableDiffusion:
    family = open_checkpoint(path, lora_folder=folder)
    assert isinstance(family, StableDiffusion)
    return family


def answer(family: Any, *loras: Lora) -> Answer:
    """What the text encoder and then the denoiser say: context, and latents."""
    wanted = family.loras.find(loras)
    text = embedded(family, PROMPT, loras=wanted.text)
    row = family.condition(text, Params(), patch=wanted.denoiser)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, family.latent_channels, 8, 8, generator=generator)
    return text.context, family.predict(x, torch.tensor([500.0]), Conditions.stack([row]))


def assert_close(found: Answer, wanted: Answer, plain: Answer) -> None:
    for ours, theirs, without in zip(found, wanted, plain, strict=True):
        assert (theirs - without).abs().max() > 1e-2
        assert (ours - theirs).abs().max() < 1e-5


def assert_same(found: Answer, wanted: Answer) -> None:
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (1.5, 1.5 / RANK)])
def test_kohyas_files_give_what_merged_weights_give(
    sd1: Path, tmp_path: Path, alpha: float | None, scale: float
) -> None:
    family = opened(sd1, tmp_path)
    unet, text = family.unet, family.texts[0].model
    write_kohya(tmp_path / "unet.safetensors", unet, UNET, seed=10, alpha=alpha)
    write_kohya(tmp_path / "text.safetensors", text, TEXT, seed=20, alpha=alpha)
    weights = load_file(tmp_path / "unet.safetensors") | load_file(tmp_path / "text.safetensors")
    save_file(weights, tmp_path / "ink.safetensors")
    merged = opened(sd1)
    merge(merged.unet, UNET, seed=10, scale=0.8 * scale)
    merge(merged.texts[0].model, TEXT, seed=20, scale=0.5 * scale)
    found = answer(family, Lora(name="ink", text_weight=0.5, unet_weight=0.8))
    assert_close(found, answer(merged), answer(opened(sd1)))


def test_pefts_files_give_what_merged_weights_give(sd1: Path, tmp_path: Path) -> None:
    family = opened(sd1, tmp_path)
    write_peft(tmp_path / "unet.safetensors", family.unet, UNET, seed=10)
    write_peft(tmp_path / "text.safetensors", family.texts[0].model, TEXT, seed=20)
    weights = load_file(tmp_path / "unet.safetensors") | load_file(tmp_path / "text.safetensors")
    save_file(weights, tmp_path / "ink.safetensors")
    merged = opened(sd1)
    merge(merged.unet, UNET, seed=10, scale=0.7)
    merge(merged.texts[0].model, TEXT, seed=20, scale=0.7)
    found = answer(family, Lora(name="ink", text_weight=0.7, unet_weight=0.7))
    assert_close(found, answer(merged), answer(opened(sd1)))


def test_alphas_in_the_metadata_count(sd1: Path, tmp_path: Path) -> None:
    settings = {"unet.r": RANK, "unet.lora_alpha": 6, "unet.alpha_pattern": {"resnets.0.conv1": 1.5}}
    family = opened(sd1, tmp_path)
    write_peft(
        tmp_path / "ink.safetensors",
        family.unet,
        UNET,
        seed=10,
        metadata={"lora_adapter_metadata": json.dumps(settings)},
    )
    merged = opened(sd1)
    for number, target in enumerate(UNET):
        scale = 0.5 if target.module == "mid_block.resnets.0.conv1" else 2.0
        merge(merged.unet, [target], seed=10 + number, scale=scale)
    context, latents = answer(family, Lora(name="ink"))
    assert torch.equal(context, answer(merged)[0])
    assert (latents - answer(merged)[1]).abs().max() < 1e-5


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: name.replace(".attn2.to_k.lora_A", ".attn2.processor.to_k_lora.down").replace(
            ".attn2.to_k.lora_B", ".attn2.processor.to_k_lora.up"
        ),
        lambda name: name.replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up."),
        lambda name: name.replace(".lora_A.", ".lora_linear_layer.down.").replace(
            ".lora_B.", ".lora_linear_layer.up."
        ),
        lambda name: name.replace("text_encoder.text_model.", "text_encoder."),
        lambda name: name.removeprefix("unet."),
    ],
    ids=["processors", "lora", "linear layers", "no text_model", "no network"],
)
def test_older_and_newer_names_mean_the_same_layers(
    sd1: Path, tmp_path: Path, renamed: Callable[[str], str]
) -> None:
    family = opened(sd1, tmp_path)
    write_peft(tmp_path / "unet.safetensors", family.unet, UNET, seed=10)
    write_peft(tmp_path / "text.safetensors", family.texts[0].model, TEXT, seed=20)
    weights = load_file(tmp_path / "unet.safetensors") | load_file(tmp_path / "text.safetensors")
    save_file(weights, tmp_path / "new.safetensors")
    other = {renamed(name): value for name, value in weights.items()}
    assert other.keys() != weights.keys()
    save_file(other, tmp_path / "other.safetensors")
    assert_same(answer(family, Lora(name="other")), answer(family, Lora(name="new")))


def test_several_add_up(sd1: Path, tmp_path: Path) -> None:
    family = opened(sd1, tmp_path)
    write_kohya(tmp_path / "ink.safetensors", family.unet, UNET, seed=10)
    write_kohya(tmp_path / "sub" / "gold.safetensors", family.unet, UNET[:3], seed=30, alpha=1)
    merged = opened(sd1)
    merge(merged.unet, UNET, seed=10, scale=0.6)
    merge(merged.unet, UNET[:3], seed=30, scale=-0.4 / RANK)
    ink, gold = Lora(name="ink", unet_weight=0.6), Lora(name="gold", unet_weight=-0.4)
    for some in ((ink, gold), (gold, ink)):
        assert (answer(family, *some)[1] - answer(merged)[1]).abs().max() < 1e-5


def test_of_one_name_twice_the_last_weights_hold_for_both_as_in_a1111(sd1: Path, tmp_path: Path) -> None:
    family, merged = opened(sd1, tmp_path), opened(sd1)
    write_kohya(tmp_path / "ink.safetensors", family.unet, UNET, seed=10)
    merge(merged.unet, UNET, seed=10, scale=0.6)
    found = answer(family, Lora(name="ink", unet_weight=0.7), Lora(name="ink", unet_weight=0.3))
    assert (found[1] - answer(merged)[1]).abs().max() < 1e-5


#: every kind, on layers of `checkpoints.sd1` of all sorts
MIXED = {
    "conv_in": "full",
    "down_blocks.0.attentions.0.norm": "norm",
    "down_blocks.0.attentions.0.proj_in": "oft",
    "down_blocks.0.attentions.0.transformer_blocks.0.norm2": "norm",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": "loha",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k": "lokr",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_v": "lokr low",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0": "lokr mixed",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": "glora",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v": "coft",
    "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2": "oft diag",
    "down_blocks.0.downsamplers.0.conv": "lora cp",
    "mid_block.resnets.0.conv1": "loha tucker",
    "mid_block.resnets.0.conv2": "lokr tucker",
    "mid_block.resnets.0.time_emb_proj": "boft",
    "mid_block.resnets.1.conv1": "ia3 in",
    "mid_block.resnets.1.conv2": "ia3 out",
    "up_blocks.1.resnets.0.conv1": "lora",
}


def test_every_kind_acts_on_its_layer_and_on_no_other_and_leaves_no_trace(sd1: Path, tmp_path: Path) -> None:
    family, plain = opened(sd1, tmp_path), opened(sd1)
    path = write_kinds(tmp_path / "ink.safetensors", family.unet, MIXED, seed=10)
    read = read_lora(path)
    wanted = {name: weight.clone() for name, weight in plain.unet.state_dict().items()}
    for module, kind in MIXED.items():
        adapter, key = read[f"lora_unet_{module.replace('.', '_')}"], f"{module}.weight"
        wanted[key] += 0.7 * adapter.difference(wanted[key])
        if kind in ("full", "norm"):
            bias = adapter.tensors["diff_b" if kind == "full" else "b_norm"]
            wanted[f"{module}.bias"] += 0.7 * bias
    before = answer(family)
    after = answer(family, Lora(name="ink", unet_weight=0.7))
    for name, weight in family.unet.state_dict().items():
        assert torch.allclose(weight, wanted[name], atol=1e-6), name
    assert (after[1] - before[1]).abs().max() > 1e-2
    assert_same(answer(family), before)
    for name, weight in family.unet.state_dict().items():
        assert torch.equal(weight, plain.unet.state_dict()[name]), name


@pytest.mark.parametrize("kind", ["glora", "ia3 in", "oft", "dora"])
def test_what_depends_on_the_weight_sees_what_those_before_it_made_of_it(
    sd1: Path, tmp_path: Path, kind: str
) -> None:
    family, module = opened(sd1, tmp_path), UNET[1].module
    layer: Any = family.unet.get_submodule(module)
    key, weight = UNET[1].kohya, layer.weight.clone()
    first = tensors("lora", weight.shape, seed=1)
    second = tensors("lora" if kind == "dora" else kind, weight.shape, seed=2)
    if kind == "dora":
        second["dora_scale"] = torch.ones(1, weight.shape[1])
    for name, parts in (("first", first), ("second", second)):
        save_file({f"{key}.{part}": value for part, value in parts.items()}, tmp_path / f"{name}.safetensors")
    adapters = {name: read_lora(tmp_path / f"{name}.safetensors")[key] for name in ("first", "second")}
    found = []
    for names in (("first", "second"), ("second", "first")):
        answer(family, *[Lora(name=name, unet_weight=0.5) for name in names])
        wanted = weight
        for name in names:
            wanted = wanted + 0.5 * adapters[name].difference(wanted)
        torch.testing.assert_close(layer.weight, wanted)
        found.append(layer.weight.clone())
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_dyn_makes_another_set_of_the_first_ranks(sd1: Path, tmp_path: Path) -> None:
    family = opened(sd1, tmp_path)
    write_kohya(tmp_path / "ink.safetensors", family.unet, UNET, seed=10)
    weights = load_file(tmp_path / "ink.safetensors")
    cut = {key: value[:, :1] if "lora_up" in key else value[:1] for key, value in weights.items()}
    save_file({key: value.contiguous() for key, value in cut.items()}, tmp_path / "cut.safetensors")
    found = answer(family, Lora(name="ink", dyn=1))
    assert (found[1] - answer(family, Lora(name="cut"))[1]).abs().max() < 1e-6
    assert (found[1] - answer(family, Lora(name="ink"))[1]).abs().max() > 1e-2
    sets = [family.loras.find([Lora(name="ink", dyn=dyn)]).denoiser for dyn in (None, 1, 2)]
    assert len({*sets}) == 3


def test_nothing_stays_behind_when_loras_change(sd1: Path, tmp_path: Path) -> None:
    family = opened(sd1, tmp_path)
    write_kohya(tmp_path / "ink.safetensors", family.unet, UNET, seed=10)
    write_kohya(tmp_path / "gold.safetensors", family.unet, UNET[2:], seed=30)
    write_kohya(tmp_path / "words.safetensors", family.texts[0].model, TEXT, seed=20)
    names = ("ink", "gold", "words")
    alone = {name: answer(opened(sd1, tmp_path), Lora(name=name)) for name in names}
    plain = answer(opened(sd1))
    for name in (*names, *reversed(names)):
        assert_same(answer(family, Lora(name=name)), alone[name])
        assert_same(answer(family), plain)
    for name in names:
        assert_same(answer(family, Lora(name=name)), alone[name])


def test_a_weight_of_zero_is_no_lora(sd1: Path, tmp_path: Path) -> None:
    family = opened(sd1, tmp_path)
    write_kohya(tmp_path / "ink.safetensors", family.unet, UNET, seed=10)
    found = family.loras.find([Lora(name="ink", text_weight=0.0, unet_weight=0.0)])
    assert found.text == found.denoiser == NO_PATCH
    # nor is one that does not touch that network
    assert family.loras.find([Lora(name="ink")]).text == NO_PATCH


def test_memory_that_runs_out_on_the_way_leaves_no_half_merged_weights(
    sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = opened(sd1, tmp_path)
    write_kohya(tmp_path / "ink.safetensors", family.unet, UNET, seed=10)
    wanted = answer(opened(sd1, tmp_path), Lora(name="ink"))
    calls = 0

    def difference(self: Adapter, weight: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == len(UNET) + 4:  # the first ones are those of a look at the shapes
            raise torch.OutOfMemoryError
        return whole(self, weight)

    whole = Adapter.difference
    monkeypatch.setattr(Adapter, "difference", difference)
    with pytest.raises(torch.OutOfMemoryError):
        answer(family, Lora(name="ink"))
    assert_same(answer(family), answer(opened(sd1)))
    assert_same(answer(family, Lora(name="ink")), wanted)


def test_sdxls_names_of_the_original_layout_and_both_its_text_encoders_are_known(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = checkpoints.cached(tmp_path_factory, checkpoints.sdxl)
    family, merged = opened(path, tmp_path), opened(path)
    unet = tuple(
        Target(module=module, kohya=f"lora_unet_{kohya}", peft="")
        for module, kohya in {
            "conv_in": "input_blocks_0_0",
            "down_blocks.0.resnets.0.conv1": "input_blocks_1_0_in_layers_2",
            "down_blocks.0.downsamplers.0.conv": "input_blocks_2_0_op",
            "down_blocks.1.attentions.0.proj_in": "input_blocks_3_1_proj_in",
            "mid_block.attentions.0.transformer_blocks.1.attn2.to_v": (
                "middle_block_1_transformer_blocks_1_attn2_to_v"
            ),
            "up_blocks.0.attentions.1.transformer_blocks.0.ff.net.2": (
                "output_blocks_1_1_transformer_blocks_0_ff_net_2"
            ),
            "up_blocks.1.resnets.0.time_emb_proj": "output_blocks_2_0_emb_layers_1",
            "add_embedding.linear_1": "label_emb_0_0",
            # diffusers' own names are good as well
            "up_blocks.0.resnets.0.conv_shortcut": "up_blocks_0_resnets_0_conv_shortcut",
        }.items()
    )
    write_kohya(tmp_path / "unet.safetensors", family.unet, unet, seed=10)
    weights = load_file(tmp_path / "unet.safetensors")
    merge(merged.unet, unet, seed=10, scale=0.5)
    for number, seed in ((1, 20), (2, 30)):
        text = [
            Target(
                module=target.module,
                kohya=target.kohya.replace("lora_te_", f"lora_te{number}_"),
                peft=target.peft,
            )
            for target in TEXT
        ]
        model = family.texts[number - 1].model
        write_kohya(tmp_path / "text.safetensors", model, text, seed=seed)
        weights |= load_file(tmp_path / "text.safetensors")
        merge(merged.texts[number - 1].model, text, seed=seed, scale=0.5)
    save_file(weights, tmp_path / "ink.safetensors")
    found = answer(family, Lora(name="ink", text_weight=0.5, unet_weight=0.5))
    assert_close(found, answer(merged), answer(opened(path)))


def test_an_inpainting_checkpoint_takes_the_first_layer_of_a_plain_one(
    sd1: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    family = opened(checkpoints.cached(tmp_path_factory, checkpoints.sd1_inpainting), tmp_path)
    plain = opened(sd1)
    first = [Target(module="conv_in", kohya="lora_unet_conv_in", peft="unet.conv_in")]
    write_kohya(tmp_path / "ink.safetensors", plain.unet, first, seed=10)
    before, added = family.unet.conv_in.weight.clone(), plain.unet.conv_in.weight.clone()
    merge(plain.unet, first, seed=10, scale=1.0)
    family.loras.denoiser.apply(family.loras.find([Lora(name="ink")]).denoiser)
    difference = family.unet.conv_in.weight - before
    torch.testing.assert_close(difference[:, :4], plain.unet.conv_in.weight - added)
    assert not difference[:, 4:].any()


def test_stable_diffusion_3_takes_pefts_files(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = checkpoints.cached(tmp_path_factory, checkpoints.sd3)
    family, merged = (open_checkpoint(path, lora_folder=tmp_path) for _ in range(2))
    assert isinstance(family, StableDiffusion3)
    assert isinstance(merged, StableDiffusion3)
    targets = [
        Target(module=name, kohya="", peft=f"transformer.{name}")
        for name in ("transformer_blocks.0.attn.to_q", "transformer_blocks.1.attn.add_v_proj", "proj_out")
    ]
    write_peft(tmp_path / "ink.safetensors", family.transformer, targets, seed=10)
    merge(merged.transformer, targets, seed=10, scale=0.5)
    latents, wanted = answer(family, Lora(name="ink", unet_weight=0.5))[1], answer(merged)[1]
    assert (wanted - answer(family)[1]).abs().max() > 1e-2
    assert (latents - wanted).abs().max() < 1e-5


def test_half_precision_is_good_to_its_own_rounding(sd1: Path, tmp_path: Path) -> None:
    family, merged = opened(sd1, tmp_path), opened(sd1)
    write_kohya(tmp_path / "ink.safetensors", family.unet, UNET[1:2], seed=10)
    half = open_checkpoint(sd1, dtype=torch.bfloat16, lora_folder=tmp_path)
    assert isinstance(half, StableDiffusion)
    merge(merged.unet, UNET[1:2], seed=10, scale=0.5)
    half.loras.denoiser.apply(half.loras.find([Lora(name="ink", unet_weight=0.5)]).denoiser)
    found, wanted = (each.unet.get_submodule(UNET[1].module).weight for each in (half, merged))
    assert found.dtype == torch.bfloat16
    assert (found.float() - wanted).abs().max() < 2**-7 * wanted.abs().max()
