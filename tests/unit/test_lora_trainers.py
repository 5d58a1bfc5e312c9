"""What each trainer writes is read: the layers that its names mean, and nothing else, change."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_shared.prompt_tags import Lora
from img2img_worker.models.adapters.lora_keys import kohya_name
from img2img_worker.models.checkpoints.loading import open_checkpoint
from tests import checkpoints

#: of `checkpoints.sdxl` and of `checkpoints.flux_dev`, by diffusers' and transformers' names
UNET = "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
CLIP = "encoder.layers.1.mlp.fc1"
FLUX = "transformer_blocks.0.attn.to_out.0"
SINGLE = "single_transformer_blocks.1.proj_mlp"
T5 = "encoder.block.0.layer.0.SelfAttention.q"

KOHYA, PEFT = ("lora_down.weight", "lora_up.weight"), ("lora_A.weight", "lora_B.weight")


def flat(name: str) -> str:
    return name.replace(".", "_")


#: trainer: the checkpoint, what its file calls a layer, how its factors end, which network and layer is meant
WRITTEN: dict[str, tuple[str, str, tuple[str, str], str, str]] = {
    "sd-scripts, XL": (
        "sdxl",
        "lora_unet_output_blocks_0_1_transformer_blocks_0_attn2_to_q",
        KOHYA,
        "denoiser",
        UNET,
    ),
    "sd-scripts, XL's first text encoder": (
        "sdxl",
        "lora_te1_text_model_encoder_layers_1_mlp_fc1",
        KOHYA,
        "0",
        CLIP,
    ),
    "sd-scripts, XL's second": ("sdxl", "lora_te2_text_model_encoder_layers_1_mlp_fc1", KOHYA, "1", CLIP),
    "sd-scripts, Flux": ("flux_dev", "lora_unet_double_blocks_0_img_attn_proj", KOHYA, "denoiser", FLUX),
    "sd-scripts, Flux's T5": ("flux_dev", f"lora_te3_{flat(T5)}", KOHYA, "1", T5),
    "LyCORIS in sd-scripts, T5": ("flux_dev", f"lora_te2_{flat(T5)}", KOHYA, "1", T5),
    "LyCORIS alone, XL": ("sdxl", f"lycoris_{flat(UNET)}", KOHYA, "denoiser", UNET),
    "LyCORIS alone, Flux": ("flux_dev", f"lycoris_{flat(SINGLE)}", KOHYA, "denoiser", SINGLE),
    "OneTrainer, XL": ("sdxl", f"lora_unet_{flat(UNET)}", KOHYA, "denoiser", UNET),
    "OneTrainer, Flux": ("flux_dev", f"lora_transformer_{flat(FLUX)}", KOHYA, "denoiser", FLUX),
    "OneTrainer, T5": ("flux_dev", f"lora_te2_{flat(T5)}", KOHYA, "1", T5),
    "OneTrainer's OMI, XL": (
        "sdxl",
        "unet.output_blocks.0.1.transformer_blocks.0.attn2.to_q",
        KOHYA,
        "denoiser",
        UNET,
    ),
    "OneTrainer's OMI, CLIP-G": ("sdxl", f"clip_g.text_model.{CLIP}", KOHYA, "1", CLIP),
    "OneTrainer's OMI, Flux": (
        "flux_dev",
        "transformer.single_blocks.1.linear1.3",
        KOHYA,
        "denoiser",
        SINGLE,
    ),
    "OneTrainer's OMI, T5": ("flux_dev", f"t5.{T5}", KOHYA, "1", T5),
    "SimpleTuner, XL": ("sdxl", f"unet.{UNET}", PEFT, "denoiser", UNET),
    "SimpleTuner, CLIP-G": ("sdxl", f"text_encoder_2.text_model.{CLIP}", PEFT, "1", CLIP),
    "SimpleTuner, Flux": ("flux_dev", f"transformer.{SINGLE}", PEFT, "denoiser", SINGLE),
    "diffusers, Flux's T5": ("flux_dev", f"text_encoder_2.{T5}", PEFT, "1", T5),
    "ai-toolkit, Flux": (
        "flux_dev",
        "diffusion_model.double_blocks.0.img_attn.proj",
        PEFT,
        "denoiser",
        FLUX,
    ),
    "PEFT": ("sdxl", f"base_model.model.{UNET}", PEFT, "denoiser", UNET),
    "PEFT within diffusers": ("sdxl", f"unet.base_model.model.{UNET}", PEFT, "denoiser", UNET),
    "PEFT with its adapter's name": (
        "sdxl",
        f"base_model.model.{UNET}",
        ("lora_A.default.weight", "lora_B.default.weight"),
        "denoiser",
        UNET,
    ),
    "ComfyUI": (
        "sdxl",
        f"text_encoders.clip_g.transformer.text_model.{CLIP}",
        KOHYA,
        "1",
        CLIP,
    ),
    "XLabs": (
        "flux_dev",
        "double_blocks.0.processor.proj_lora1",
        ("down.weight", "up.weight"),
        "denoiser",
        FLUX,
    ),
}


def opened(name: str, factory: pytest.TempPathFactory, loras: Path) -> Any:
    return open_checkpoint(checkpoints.cached(factory, getattr(checkpoints, name)), lora_folder=loras)


def networks(family: Any) -> dict[str, Any]:
    texts = (*family.texts,) if hasattr(family, "texts") else (family.clip, family.t5)
    denoiser = family.unet if hasattr(family, "unet") else family.transformer
    return {"denoiser": denoiser, **{str(index): text.model for index, text in enumerate(texts)}}


def module_of(network: Any, layer: str) -> Any:
    return next(module for name, module in network.named_modules() if name == layer)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape))) / 8


@pytest.mark.parametrize(("model", "name", "ends", "network", "layer"), WRITTEN.values(), ids=WRITTEN)
def test_a_trainers_names_mean_the_layers_that_it_trained(
    model: str,
    name: str,
    ends: tuple[str, str],
    network: str,
    layer: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    family = opened(model, tmp_path_factory, tmp_path)
    target = module_of(networks(family)[network], layer)
    before, (rows, columns) = target.weight.clone(), target.weight.shape
    down, up = draw(2, columns), draw(rows, 2)
    save_file({f"{name}.{ends[0]}": down, f"{name}.{ends[1]}": up}, tmp_path / "ink.safetensors")
    found = family.loras.find([Lora(name="ink")])
    assert len(found.denoiser.layers()) + len(found.text.layers()) == 1
    family.loras.denoiser.apply(found.denoiser)
    family.loras.texts.apply(found.text)
    torch.testing.assert_close(target.weight - before, up @ down, atol=1e-5, rtol=0)


def test_xlabs_query_key_and_value_are_one_lora(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    family = opened("flux_dev", tmp_path_factory, tmp_path)
    block = family.transformer.transformer_blocks[0].attn
    parts = [block.add_q_proj, block.add_k_proj, block.add_v_proj]
    before = [part.weight.clone() for part in parts]
    down, up = draw(2, 128), draw(384, 2)
    name = "double_blocks.0.processor.qkv_lora2"
    save_file({f"{name}.down.weight": down, f"{name}.up.weight": up}, tmp_path / "ink.safetensors")
    family.loras.denoiser.apply(family.loras.find([Lora(name="ink")]).denoiser)
    change = torch.cat([part.weight - old for part, old in zip(parts, before, strict=True)])
    torch.testing.assert_close(change, up @ down, atol=1e-5, rtol=0)


def test_ofts_own_prefix_is_the_unets() -> None:
    assert kohya_name("oft_unet_mid_block_resnets_0_conv1") == "lora_unet_mid_block_resnets_0_conv1"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["lora_te4_x"], "this checkpoint has no lora_te4_x"),
        (
            ["text_encoders.umt5.transformer.x", "text_encoders.umt5.transformer.y"],
            "this checkpoint has no text_encoders.umt5.transformer.x, nor 1 more of its 2 layers",
        ),
        (
            [f"unet.{UNET}", f"lora_unet_{flat(UNET)}"],
            f"lora_unet_{flat(UNET)} and unet.{UNET} are one layer",
        ),
    ],
)
def test_a_refusal_has_the_files_own_names(
    names: list[str], message: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    family = opened("sdxl", tmp_path_factory, tmp_path)
    save_file({f"{name}.diff": draw(64, 64) for name in names}, tmp_path / "ink.safetensors")
    with pytest.raises(Refused) as refused:
        family.loras.find([Lora(name="ink")])
    assert message in str(refused.value)


def test_loras_are_found_through_links_to_folders_and_in_any_case(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    away, folder = tmp_path / "other-drive", tmp_path / "Lora"
    (away / "deeper").mkdir(parents=True)
    folder.mkdir()
    family = opened("sdxl", tmp_path_factory, folder)
    save_file({f"unet.{UNET}.diff": draw(64, 64)}, away / "deeper" / "far.SAFETENSORS")
    (folder / "link").symlink_to(away)
    (away / "back").symlink_to(folder)
    assert list(family.loras.names) == ["far"]
    assert family.loras.find([Lora(name="far")]).denoiser.layers()
