"""From diffusers' names for the weights of Flux to Black Forest Labs'.

diffusers has a converter, too, but only for transformers of Flux's published width.
"""

import re

from torch import Tensor

_ENDS = {
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "context_embedder": "txt_in",
    "x_embedder": "img_in",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
#: within a block; if several weights share one tensor, with the number of the part
_IN_DOUBLE = {
    "norm1.linear": ("img_mod.lin", None),
    "norm1_context.linear": ("txt_mod.lin", None),
    "attn.to_q": ("img_attn.qkv", 0),
    "attn.to_k": ("img_attn.qkv", 1),
    "attn.to_v": ("img_attn.qkv", 2),
    "attn.add_q_proj": ("txt_attn.qkv", 0),
    "attn.add_k_proj": ("txt_attn.qkv", 1),
    "attn.add_v_proj": ("txt_attn.qkv", 2),
    "attn.norm_q": ("img_attn.norm.query_norm", None),
    "attn.norm_k": ("img_attn.norm.key_norm", None),
    "attn.norm_added_q": ("txt_attn.norm.query_norm", None),
    "attn.norm_added_k": ("txt_attn.norm.key_norm", None),
    "attn.to_out.0": ("img_attn.proj", None),
    "attn.to_add_out": ("txt_attn.proj", None),
    "ff.net.0.proj": ("img_mlp.0", None),
    "ff.net.2": ("img_mlp.2", None),
    "ff_context.net.0.proj": ("txt_mlp.0", None),
    "ff_context.net.2": ("txt_mlp.2", None),
}
_IN_SINGLE = {
    "norm.linear": ("modulation.lin", None),
    "attn.to_q": ("linear1", 0),
    "attn.to_k": ("linear1", 1),
    "attn.to_v": ("linear1", 2),
    "proj_mlp": ("linear1", 3),
    "attn.norm_q": ("norm.query_norm", None),
    "attn.norm_k": ("norm.key_norm", None),
    "proj_out": ("linear2", None),
}


def flux_name(key: str) -> tuple[str, int | None]:
    """The name of the tensor that holds a weight of FluxTransformer2DModel, and the number of its part."""
    name, kind = key.rsplit(".", 1)
    block = re.fullmatch(r"(single_)?transformer_blocks\.(\d+)\.(.+)", name)
    if block is None:
        return f"{_ENDS[name]}.{kind}", None
    inside, part = (_IN_SINGLE if block[1] else _IN_DOUBLE)[block[3]]
    if inside.endswith("_norm"):
        kind = "scale"
    return f"{block[1] or 'double_'}blocks.{block[2]}.{inside}.{kind}", part


def flux_tensor(key: str, tensor: Tensor, *, width: int) -> Tensor:
    """The weight of FluxTransformer2DModel's `key`, from the tensor that `flux_name` names.

    Args:
        width: of the transformer's tokens.
    """
    if key.startswith("norm_out."):  # diffusers has shift and scale in the other order
        return tensor.roll(tensor.shape[0] // 2, 0)
    part = flux_name(key)[1]
    return tensor if part is None else tensor.tensor_split([width, 2 * width, 3 * width])[part]
