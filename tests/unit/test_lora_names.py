"""LoRAs of transformers in their original layout change what diffusers' own converters say they should."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from diffusers.loaders import single_file_utils
from safetensors.torch import save_file
from torch import Tensor, nn

from img2img_shared.errors import Refused
from img2img_shared.prompt_tags import Lora
from img2img_worker.models.adapters.lora import Loras
from tests.unit.loras import RANK

#: all transformers' width here
D = 32
Shapes = dict[str, tuple[int, ...]]


def sd3() -> SD3Transformer2DModel:
    """Two blocks, the first with a second attention."""
    return SD3Transformer2DModel(
        sample_size=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=24,
        caption_projection_dim=D,
        pooled_projection_dim=48,
        dual_attention_layers=(0,),
    )


def sd3_shapes() -> Shapes:
    shapes: Shapes = {
        "x_embedder.proj": (D, 16, 2, 2),
        "t_embedder.mlp.0": (D, 256),
        "t_embedder.mlp.2": (D, D),
        "y_embedder.mlp.0": (D, 48),
        "y_embedder.mlp.2": (D, D),
        "context_embedder": (D, 24),
        "final_layer.linear": (64, D),
        "final_layer.adaLN_modulation.1": (2 * D, D),
    }
    for number in range(2):
        block = f"joint_blocks.{number}"
        shapes |= {
            f"{block}.x_block.adaLN_modulation.1": ((9 - 3 * number) * D, D),
            f"{block}.x_block.attn.qkv": (3 * D, D),
            f"{block}.x_block.attn.proj": (D, D),
            f"{block}.x_block.mlp.fc1": (4 * D, D),
            f"{block}.x_block.mlp.fc2": (D, 4 * D),
            f"{block}.context_block.adaLN_modulation.1": ((6 - 4 * number) * D, D),
            f"{block}.context_block.attn.qkv": (3 * D, D),
        }
    return shapes | {
        "joint_blocks.0.x_block.attn2.qkv": (3 * D, D),
        "joint_blocks.0.x_block.attn2.proj": (D, D),
        "joint_blocks.0.context_block.attn.proj": (D, D),
        "joint_blocks.0.context_block.mlp.fc1": (4 * D, D),
        "joint_blocks.0.context_block.mlp.fc2": (D, 4 * D),
    }


def sd3_converted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    convert = single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers
    return convert(tensors | {"pos_embed": torch.zeros(1)})


def flux() -> FluxTransformer2DModel:
    """One block of each kind."""
    return FluxTransformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=48,
        axes_dims_rope=(4, 6, 6),
        guidance_embeds=True,
    )


def flux_shapes() -> Shapes:
    shapes: Shapes = {
        "img_in": (D, 64),
        "txt_in": (D, 24),
        "final_layer.linear": (64, D),
        "final_layer.adaLN_modulation.1": (2 * D, D),
        "single_blocks.0.linear1": (7 * D, D),
        "single_blocks.0.linear2": (D, 5 * D),
        "single_blocks.0.modulation.lin": (3 * D, D),
    }
    for name, size in (("time_in", 256), ("vector_in", 48), ("guidance_in", 256)):
        shapes |= {f"{name}.in_layer": (D, size), f"{name}.out_layer": (D, D)}
    for name in ("img", "txt"):
        shapes |= {
            f"double_blocks.0.{name}_attn.qkv": (3 * D, D),
            f"double_blocks.0.{name}_attn.proj": (D, D),
            f"double_blocks.0.{name}_mlp.0": (4 * D, D),
            f"double_blocks.0.{name}_mlp.2": (D, 4 * D),
            f"double_blocks.0.{name}_mod.lin": (6 * D, D),
        }
    return shapes


def flux_converted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By diffusers' converter, which knows one size of `linear1` only: that is split here."""
    wide = {f"single_blocks.0.linear1.{part}": torch.zeros(7 * 3072, 1) for part in ("weight", "bias")}
    norms = [f"double_blocks.0.{name}_attn.norm" for name in ("img", "txt")] + ["single_blocks.0.norm"]
    scales = {f"{name}.{part}_norm.scale": torch.zeros(1) for name in norms for part in ("query", "key")}
    convert = single_file_utils.convert_flux_transformer_checkpoint_to_diffusers
    converted = {
        name: part for name, part in convert(tensors | wide | scales).items() if ".norm_" not in name
    }
    for part in ("weight", "bias"):
        for place, name in enumerate(("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")):
            rows = tensors[f"single_blocks.0.linear1.{part}"][
                place * D : max(place + 1, 7 * (place == 3)) * D
            ]
            converted[f"single_transformer_blocks.0.{name}.{part}"] = rows
    return converted


FAMILIES = [(sd3, sd3_shapes, sd3_converted), (flux, flux_shapes, flux_converted)]


def draw(shapes: Shapes) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def kohya(name: str) -> str:
    return f"lora_unet_{name.replace('.', '_')}"


def put_on(network: nn.Module, folder: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What changes of a network's weights: its state less what it was."""
    save_file(tensors, folder / "ink.safetensors")
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    loras = Loras(folder, network.requires_grad_(False), [])
    loras.denoiser.apply(loras.find([Lora(name="ink")]).denoiser)
    return {name: weight - before[name] for name, weight in network.state_dict().items()}


@pytest.mark.parametrize(("build", "shapes", "converted"), FAMILIES, ids=["SD 3", "Flux"])
def test_the_original_layouts_layers_are_those_of_diffusers(
    build: Callable[[], Any], shapes: Callable[[], Shapes], converted: Callable[..., Any], tmp_path: Path
) -> None:
    weights = draw(shapes())
    biases = draw({name: shape[:1] for name, shape in shapes().items()})
    named = {f"{name}.weight": tensor for name, tensor in weights.items()}
    wanted = converted(named | {f"{name}.bias": tensor for name, tensor in biases.items()})
    file = {f"{kohya(name)}.diff": tensor for name, tensor in weights.items()}
    file |= {f"{kohya(name)}.diff_b": tensor for name, tensor in biases.items()}
    changed = put_on(build(), tmp_path, file)
    norms = {name for name in changed if ".norm_" in name and name not in wanted}
    for name in changed.keys() - norms - {"pos_embed.pos_embed"}:
        torch.testing.assert_close(changed[name], wanted[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "base_model.model."])
def test_one_lora_of_several_layers_is_shared_out(tmp_path: Path, prefix: str) -> None:
    name = "double_blocks.0.img_attn.qkv"
    up, down = draw({"up": (3 * D, RANK), "down": (RANK, D)}).values()
    if prefix:
        file = {f"{prefix}{name}.lora_B.weight": up, f"{prefix}{name}.lora_A.weight": down}
    else:
        file = {f"{kohya(name)}.lora_up.weight": up, f"{kohya(name)}.lora_down.weight": down}
    changed = put_on(flux(), tmp_path, file)
    found = [changed.pop(f"transformer_blocks.0.attn.to_{letter}.weight") for letter in "qkv"]
    torch.testing.assert_close(torch.cat(found), up @ down, atol=1e-5, rtol=0)
    assert not any(change.any() for change in changed.values())


@pytest.mark.parametrize(
    "prefix", ["transformer.", "base_model.model.", "lora_unet_", "lora_transformer_", "lycoris_"]
)
def test_diffusers_own_names_are_known_with_whatever_is_before_them(tmp_path: Path, prefix: str) -> None:
    name = "single_transformer_blocks.0.attn.to_k"
    difference = draw({"diff": (D, D)})["diff"]
    dotted = prefix.endswith(".")
    file = {f"{prefix}{name if dotted else name.replace('.', '_')}.diff": difference}
    changed = put_on(flux(), tmp_path, file)
    torch.testing.assert_close(changed[f"{name}.weight"], difference, atol=1e-5, rtol=0)


FUSED = "lora_unet_double_blocks_0_img_attn_qkv"


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ({f"{FUSED}.oft_blocks": torch.ones(2, 48, 48)}, "no use for oft_blocks"),
        ({f"{FUSED}.oft_blocks": torch.ones(2, 16, 16)}, "no use for oft_blocks"),
        ({f"{FUSED}.weight": torch.ones(D), f"{FUSED}.on_input": torch.tensor(1)}, "no use for weight"),
        (
            {f"{FUSED}.diff": torch.ones(3 * D, D), f"{FUSED}.dora_scale": torch.ones(1, D)},
            "DoRA of several layers",
        ),
        ({f"{FUSED}.diff": torch.ones(4 * D, D)}, r"a weight of \[32, 32\]"),
        ({f"{FUSED}.diff": torch.ones(3 * D, D + 1)}, r"a weight of \[32, 32\]"),
        ({f"{FUSED}.diff": torch.ones(3 * D, D), f"{FUSED}.diff_b": torch.ones(D)}, "no use for"),
        (
            {
                f"{FUSED}.diff": torch.ones(3 * D, D),
                "transformer.transformer_blocks.0.attn.to_k.diff": torch.ones(D, D),
            },
            "there twice",
        ),
        (
            {"lora_unet_double_blocks_1_img_attn_qkv.diff": torch.ones(3 * D, D)},
            "no lora_unet_double_blocks_1",
        ),
        (
            {"lora_unet_joint_blocks_0_x_block_attn2_qkv.diff": torch.ones(3 * D, D)},
            "no lora_unet_joint_blocks_0",
        ),
        ({"lora_te3_encoder_block_0_layer_0_SelfAttention_q.diff": torch.ones(D, D)}, "no lora_te3_encoder"),
    ],
)
def test_what_fits_no_layer_is_refused_by_name(tmp_path: Path, file: dict[str, Tensor], reason: str) -> None:
    with pytest.raises(Refused, match=rf"'ink'.*{reason}"):
        put_on(flux(), tmp_path, file)
