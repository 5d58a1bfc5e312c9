"""Tiny checkpoints with seeded weights, in the layout that diffusers saves: real networks, small sizes.

They keep the sizes that readers of the single-file layout rely on: 32 groups in every norm, heads of 64
dimensions in text encoders and in SD 3's transformer, of 128 in Flux's, and a VAE with latent cells of 8 × 8
pixels.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from img2img_worker.models.families.family import Family
from img2img_worker.models.prompts.clip_text import ClipText, ClipTextConfig
from img2img_worker.models.prompts.text_encoder import Encoded
from img2img_worker.models.prompts.tokenizer import (
    END,
    VOCABULARY,
    ClipTokenizer,
    published_merges,
    vocabulary_of,
)
from img2img_worker.models.steps import run_now

#: merges of a small vocabulary, so that some words are one token and others several
MERGES = [
    ("t", "h"),
    ("th", "e</w>"),
    ("c", "a"),
    ("ca", "t</w>"),
    ("d", "o"),
    ("do", "g</w>"),
    ("i", "n</w>"),
    ("o", "f</w>"),
    ("p", "h"),
    ("r", "e"),
    ("re", "d</w>"),
]
TOKENS = 2 * 256 + len(MERGES) + 2
WIDTH = 64

Network = TypeVar("Network", bound=nn.Module)


def embedded(family: Family, prompt: str, **more: Any) -> Encoded:
    """One prompt's embeddings."""
    (text,) = run_now(family.encode_prompts([prompt], **more))
    return text


def cached(factory: pytest.TempPathFactory, build: Callable[[Path], Path]) -> Path:
    """The checkpoint of `build`, built once per test session: ``cached(tmp_path_factory, sd1)``."""
    folder = factory.getbasetemp() / "checkpoints" / build.__name__
    return folder if folder.exists() else build(folder)


def sd1(folder: Path, *, seed: int = 1) -> Path:
    """Stable Diffusion 1.x, some 1.3 million weights; returns `folder`, as all of these do."""
    return _save(folder, kind="StableDiffusionPipeline", denoiser=_unet(seed), seed=seed)


def sd1_published(folder: Path, *, seed: int = 101) -> Path:
    """1.x with the levels and the tokenizer of published ones, so that A1111 can load it, too."""
    unet = _unet(
        seed,
        block_out_channels=(32, 32, 32, 64),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )
    text = clip(seed + 2, layers=4, vocabulary=VOCABULARY)
    _save(folder, kind="StableDiffusionPipeline", denoiser=unet, seed=seed, texts=(text,))
    pipeline_tokenizer(published_merges()).save_pretrained(folder / "tokenizer")
    return folder


def sd1_inpainting(folder: Path, *, seed: int = 11) -> Path:
    """1.x for inpainting: its 9 input channels include the mask and the masked picture."""
    return _save(
        folder, kind="StableDiffusionInpaintPipeline", denoiser=_unet(seed, in_channels=9), seed=seed
    )


def edit(folder: Path, *, seed: int = 21) -> Path:
    """instruct-pix2pix: 1.x whose 8 input channels include the picture."""
    unet = _unet(seed, in_channels=8)
    return _save(folder, kind="StableDiffusionInstructPix2PixPipeline", denoiser=unet, seed=seed)


def sd2(folder: Path, *, seed: int = 31) -> Path:
    """Stable Diffusion 2.x that predicts the velocity: heads of 64, linear projections, OpenCLIP."""
    unet = _unet(seed, block_out_channels=(64, 64), attention_head_dim=(1, 1), use_linear_projection=True)
    texts = (clip(seed + 2, hidden_act="gelu"),)
    return _save(
        folder,
        kind="StableDiffusionPipeline",
        denoiser=unet,
        seed=seed,
        texts=texts,
        scheduler=_scheduler("v_prediction"),
    )


def sdxl(folder: Path, *, seed: int = 41) -> Path:
    """SDXL: two text encoders, a pooled embedding and sizes."""
    return _save_xl(folder, "StableDiffusionXLPipeline", seed, in_channels=4)


def sdxl_inpainting(folder: Path, *, seed: int = 51) -> Path:
    """SDXL for inpainting: its 9 input channels include the mask and the masked picture."""
    return _save_xl(folder, "StableDiffusionXLInpaintPipeline", seed, in_channels=9)


def sdxl_refiner(folder: Path, *, seed: int = 111) -> Path:
    """SDXL's refiner: the second text encoder only, and an aesthetic score in place of the last sizes."""
    texts = (clip(seed + 3, hidden_act="gelu", projects=True),)
    unet = _xl_unet(seed, 4, cross_attention_dim=WIDTH, projection_class_embeddings_input_dim=WIDTH + 5 * 32)
    kind = "StableDiffusionXLImg2ImgPipeline"
    return _save(folder, kind=kind, denoiser=unet, seed=seed, texts=texts, scaling_factor=0.13025)


def sd3(folder: Path, *, seed: int = 61) -> Path:
    """Stable Diffusion 3: a transformer, two projecting text encoders, no T5, a VAE of 16 channels."""
    return _save_3(folder, seed, FlowMatchEulerDiscreteScheduler(shift=3.0))


def sd35(folder: Path, *, seed: int = 71) -> Path:
    """SD 3.5 medium: with T5, norms and second attentions in its blocks, and a dynamic shift."""
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_image_seq_len=8, max_image_seq_len=64
    )
    more = {"qk_norm": "rms_norm", "dual_attention_layers": (0,)}
    return _save_3(folder, seed, scheduler, t5=t5(seed + 4), **more)


def flux_dev(folder: Path, *, seed: int = 81) -> Path:
    """Flux.1 dev: the guidance scale is an input, the shift depends on the size."""
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_image_seq_len=8, max_image_seq_len=64
    )
    return _save_flux(folder, seed, scheduler, guidance_embeds=True)


def flux_schnell(folder: Path, *, seed: int = 91) -> Path:
    """Flux.1 schnell: no guidance scale as an input, no shift."""
    return _save_flux(folder, seed, FlowMatchEulerDiscreteScheduler(), guidance_embeds=False)


def _save_3(
    folder: Path, seed: int, scheduler: Any, *, t5: T5EncoderModel | None = None, **more: Any
) -> Path:
    torch.manual_seed(seed)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=64,
        num_attention_heads=1,
        joint_attention_dim=4 * WIDTH,
        caption_projection_dim=64,
        pooled_projection_dim=3 * WIDTH,
        pos_embed_max_size=16,
        **more,
    )
    texts = (clip(seed + 2, projects=True), clip(seed + 3, hidden_act="gelu", projects=True, heads=2))
    return _save(
        folder,
        kind="StableDiffusion3Pipeline",
        seed=seed,
        denoiser=_strengthen(
            transformer, {"proj_out.weight": 3.0, "context_embedder.weight": 10, "add_v_proj.weight": 5}
        ),
        texts=texts,
        t5=t5,
        scheduler=scheduler,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        **_FLOW_VAE,
    )


def _save_flux(folder: Path, seed: int, scheduler: Any, *, guidance_embeds: bool) -> Path:
    torch.manual_seed(seed)
    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=128,
        num_attention_heads=1,
        joint_attention_dim=4 * WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=guidance_embeds,
    )
    gains = {"proj_out.weight": 3.0, "context_embedder.weight": 10, "add_v_proj.weight": 5}
    return _save(
        folder,
        kind="FluxPipeline",
        seed=seed,
        denoiser=_strengthen(transformer, gains | {"guidance_embedder.linear_2.weight": 10}),
        t5=t5(seed + 4),
        scheduler=scheduler,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        **_FLOW_VAE,
    )


_FLOW_VAE: dict[str, Any] = {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}


def vae(seed: int, **changes: Any) -> AutoencoderKL:
    """Factor 8, 32 channels throughout."""
    torch.manual_seed(seed)
    network = AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        sample_size=64,
        **({"latent_channels": 4, "scaling_factor": 0.18215} | changes),
    )
    return _strengthen(network, {"encoder.conv_out.weight": 24, "decoder.conv_out.weight": 1.3})


def clip(
    seed: int,
    *,
    hidden_act: str = "quick_gelu",
    projects: bool = False,
    heads: int = 1,
    layers: int = 3,
    vocabulary: int = TOKENS,
) -> CLIPTextModel:
    """A text encoder, by default over `MERGES`, with or without projection of its pooled state."""
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH * heads,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=77,
        hidden_act=hidden_act,
        projection_dim=WIDTH * heads,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return CLIPTextModelWithProjection(config) if projects else CLIPTextModel(config)


def clip_text(model: CLIPTextModel | CLIPTextModelWithProjection) -> ClipText:
    """The worker's own network with the same weights."""
    projects = isinstance(model, CLIPTextModelWithProjection)
    network = ClipText(ClipTextConfig.of(model.config.to_dict()), projects=projects)
    weights = {key.removeprefix("text_model."): value for key, value in model.state_dict().items()}
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def clip_tokenizer_of(merges: Sequence[tuple[str, str]] = MERGES, *, pad: str = END) -> ClipTokenizer:
    """CLIP's tokenizer with this vocabulary."""
    return ClipTokenizer(vocabulary_of(merges), merges, pad=pad)


def pipeline_tokenizer(merges: Sequence[tuple[str, str]], *, pad: str = END) -> CLIPTokenizer:
    """transformers' tokenizer, as diffusers' pipelines take it and a checkpoint's folder contains it."""
    return CLIPTokenizer(vocab=vocabulary_of(merges), merges=list(merges), pad_token=pad, model_max_length=77)


def t5(seed: int) -> T5EncoderModel:
    """T5's encoder, version 1.1, of two layers over `t5_tokenizer`."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(t5_tokenizer()),
        d_model=4 * WIDTH,
        d_kv=64,
        d_ff=WIDTH,
        num_heads=2,
        num_layers=2,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config)


def t5_tokenizer() -> Any:
    """T5's tokenizer with some words and all letters."""
    words = ("▁the", "▁red", "▁cat", "▁dog", "▁a")
    letters = "abcdefghijklmnopqrstuvwxyz▁,.:()"
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(word, -1.0) for word in words] + [(letter, -9.0) for letter in letters]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0)


def _unet(seed: int, **changes: Any) -> UNet2DConditionModel:
    """Two levels, the finer one with attention over the prompt."""
    torch.manual_seed(seed)
    config: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 8,
        "sample_size": 8,
    }
    return _strengthen(
        UNet2DConditionModel(**(config | changes)), {"conv_out.weight": 4, "attn2.to_out.0.weight": 4}
    )


def _save_xl(folder: Path, kind: str, seed: int, *, in_channels: int) -> Path:
    more = {"cross_attention_dim": 3 * WIDTH, "projection_class_embeddings_input_dim": 2 * WIDTH + 6 * 32}
    unet = _xl_unet(seed, in_channels, **more)
    texts = (clip(seed + 2), clip(seed + 3, hidden_act="gelu", projects=True, heads=2))
    return _save(folder, kind=kind, denoiser=unet, seed=seed, texts=texts, scaling_factor=0.13025)


def _xl_unet(seed: int, in_channels: int, **more: Any) -> UNet2DConditionModel:
    return _unet(
        seed,
        in_channels=in_channels,
        block_out_channels=(64, 64),
        attention_head_dim=(1, 1),
        use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        **more,
    )


def _strengthen(network: Network, gains: dict[str, float]) -> Network:
    """Strengthen the weights: a freshly initialized network gives nearly flat grey for anything."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            for ending, gain in gains.items():
                if name.endswith(ending):
                    weight.mul_(gain)
    return network.eval()


def _scheduler(prediction: str = "epsilon") -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def _save(
    folder: Path,
    *,
    kind: str,
    seed: int,
    denoiser: UNet2DConditionModel | SD3Transformer2DModel | FluxTransformer2DModel,
    texts: Sequence[CLIPTextModel] = (),
    t5: T5EncoderModel | None = None,
    scheduler: Any = None,
    **latents: Any,
) -> Path:
    part = "unet" if isinstance(denoiser, UNet2DConditionModel) else "transformer"
    scheduler = scheduler or _scheduler()
    denoiser.save_pretrained(folder / part)
    vae(seed + 1, **latents).save_pretrained(folder / "vae")
    scheduler.save_pretrained(folder / "scheduler")
    index: dict[str, Any] = {
        "_class_name": kind,
        "_diffusers_version": "0.35.0",
        "scheduler": ["diffusers", type(scheduler).__name__],
        part: ["diffusers", type(denoiser).__name__],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    texts = texts or (clip(seed + 2),)
    is_refiner = kind.startswith("StableDiffusionXL") and len(texts) == 1
    for number, text in zip(("_2",) if is_refiner else ("", "_2"), texts, strict=False):
        text.save_pretrained(folder / f"text_encoder{number}")
        pad = "!" if text.config.hidden_act == "gelu" else END
        pipeline_tokenizer(MERGES, pad=pad).save_pretrained(folder / f"tokenizer{number}")
        index[f"text_encoder{number}"] = ["transformers", type(text).__name__]
        index[f"tokenizer{number}"] = ["transformers", "CLIPTokenizer"]
    if is_refiner:
        index |= {"text_encoder": [None, None], "tokenizer": [None, None], "requires_aesthetics_score": True}
    if t5 is not None:
        number = f"_{len(texts) + 1}"
        t5.save_pretrained(folder / f"text_encoder{number}")
        t5_tokenizer().save_pretrained(folder / f"tokenizer{number}")
        index[f"text_encoder{number}"] = ["transformers", "T5EncoderModel"]
        index[f"tokenizer{number}"] = ["transformers", "T5TokenizerFast"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
