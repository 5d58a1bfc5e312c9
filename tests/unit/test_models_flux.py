"""What is Flux's own: T5's embeddings, CLIP's pooled one, guidance as an input, patches as tokens."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.flux import Flux
from img2img_worker.models.families.patches import pack_patches, positions, unpack_patches
from img2img_worker.models.steps import run_now
from tests import checkpoints
from tests.checkpoints import embedded

PROMPT = "the red cat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.cached(tmp_path_factory, checkpoints.flux_dev)


@pytest.fixture(scope="module")
def family(folder: Path) -> Flux:
    family = open_checkpoint(folder)
    assert isinstance(family, Flux)
    return family


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may spoil."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


def test_a_plain_prompt_is_diffusers_bit_for_bit(family: Flux, folder: Path) -> None:
    pipeline: Any = diffusers.FluxImg2ImgPipeline.from_pretrained(
        folder, local_files_only=True, low_cpu_mem_usage=False
    )
    # the last one is more than T5 may have
    for prompt, clip in ((PROMPT, PROMPT), ("", ""), ("a red dog, " * 200, None)):
        with torch.no_grad():
            wanted, pooled, _ = pipeline.encode_prompt(prompt, None)
        found = embedded(family, prompt)
        assert found.context.shape == (512, 4 * checkpoints.WIDTH)
        assert torch.equal(found.context, wanted[0])
        assert found.pooled is not None
        # a long prompt's first chunk ends at a comma, as A1111 cuts it
        assert clip is None or torch.equal(found.pooled, pooled[0])


def test_schnell_has_half_the_tokens(tmp_path_factory: pytest.TempPathFactory) -> None:
    schnell = open_checkpoint(checkpoints.cached(tmp_path_factory, checkpoints.flux_schnell))
    assert _context(schnell, PROMPT).shape[0] == 256


def test_emphasis_multiplies_t5s_embeddings_and_restores_their_mean(family: Flux) -> None:
    plain, weighted = _context(family, PROMPT), _context(family, "the (red:1.5) cat")
    scales = torch.ones(512, 1)
    scales[1] = 1.5
    wanted = plain * scales
    torch.testing.assert_close(weighted, wanted * (plain.mean() / wanted.mean()), atol=1e-5, rtol=1e-5)
    assert torch.equal(_context(family, "(the:1.0) red cat"), plain)
    assert torch.equal(_context(family, "the red BREAK cat"), plain)


def test_emphasis_does_not_reach_the_pooled_embedding(family: Flux) -> None:
    plain, weighted = embedded(family, PROMPT), embedded(family, "the (red:1.5) cat")
    assert plain.pooled is not None
    assert weighted.pooled is not None
    assert torch.equal(plain.pooled, weighted.pooled)


def test_weights_beyond_all_numbers_are_refused(family: Flux) -> None:
    with pytest.raises(Refused, match=r"prompt is .*embedding infinite"):
        run_now(family.encode_prompts(["(cat:99999999999999999999999999999999999999999)"]))


def test_each_row_of_a_call_has_a_guidance_of_its_own(family: Flux) -> None:
    text = embedded(family, PROMPT)
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1)).expand(3, -1, -1, -1)
    rows = [family.condition(text, Params(distilled_cfg_scale=scale)) for scale in (1.0, None, 9.0)]
    together = family.predict(x, torch.full((3,), 600.0), Conditions.stack(rows))
    for row, answer in zip(rows, together, strict=True):
        alone = family.predict(x[:1], torch.tensor([600.0]), Conditions.stack([row]))
        torch.testing.assert_close(alone[0], answer, atol=1e-5, rtol=1e-5)
    assert (together[0] - together[2]).abs().max() > 1e-3


def test_timesteps_and_guidance_are_not_rounded_in_half_precision(family: Flux, folder: Path) -> None:
    half = open_checkpoint(folder, dtype=torch.bfloat16)
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    # bfloat16 has 736 and 752, 3.5 and 3.515625
    t = torch.tensor([743.9])
    wanted, found = (
        each.predict(
            x,
            t,
            Conditions.stack([each.condition(embedded(each, PROMPT), Params(distilled_cfg_scale=3.508))]),
        )
        for each in (family, half)
    )
    assert (found - wanted).abs().mean() < 0.02 * wanted.std()


def test_tokens_and_places_are_diffusers() -> None:
    x = torch.arange(2 * 16 * 6 * 4, dtype=torch.float32).view(2, 16, 6, 4)
    pipeline: Any = diffusers.FluxImg2ImgPipeline
    tokens = pack_patches(x)
    assert torch.equal(tokens, pipeline._pack_latents(x, 2, 16, 6, 4))
    assert torch.equal(unpack_patches(tokens, 3, 2), x)
    device = torch.device("cpu")
    wanted = pipeline._prepare_latent_image_ids(1, 3, 2, device, torch.float32)
    assert torch.equal(positions(3, 2, device), wanted)


def test_the_size_of_a_picture_shifts_its_levels_as_in_diffusers(family: Flux) -> None:
    for height, width in ((8, 8), (16, 8), (16, 16)):
        patches = height * width // 4
        mu = 0.5 + 0.65 * (patches - 8) / (64 - 8)
        shift = torch.tensor(mu).exp().item()
        assert family.levels((height, width)).timesteps[499] == pytest.approx(1000 * shift / (1 + shift))
        assert family.levels((height, width)) is family.levels((width, height))


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("model_index.json", {"_class_name": "FluxKontextPipeline"}, "FluxPipeline, FluxImg2ImgPipeline"),
        ("model_index.json", {"text_encoder_2": [None, None]}, "it lacks T5"),
        (
            "transformer/config.json",
            {"in_channels": 384},
            "it has another size of proj_out.bias, proj_out.weight, x_emb",
        ),
        (
            "transformer/config.json",
            {"_class_name": "SD3Transformer2DModel"},
            "its class is SD3Transformer2DModel",
        ),
        ("text_encoder_2/config.json", {"num_layers": 3}, "it lacks encoder.block.2"),
        ("scheduler/scheduler_config.json", {"base_image_seq_len": 64}, "model.scheduler is "),
    ],
)
def test_other_kinds_of_flux_are_refused(
    file: str, changes: dict[str, object], message: str, copy: Path
) -> None:
    path = copy / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(Refused) as refused:
        open_checkpoint(copy)
    assert message in str(refused.value)


def test_a_transformer_that_sees_more_than_the_latent_is_refused(copy: Path) -> None:
    transformer: Any = diffusers.FluxTransformer2DModel(
        in_channels=128,
        out_channels=64,
        num_layers=1,
        num_single_layers=1,
        num_attention_heads=1,
        joint_attention_dim=4 * checkpoints.WIDTH,
        pooled_projection_dim=checkpoints.WIDTH,
    )
    transformer.save_pretrained(copy / "transformer")
    with pytest.raises(
        Refused,
        match="its transformer has 1, 128 and 64; use one with patches of 1 and 64 channels in and out",
    ):
        open_checkpoint(copy)


def _context(family: Any, prompt: str) -> Tensor:
    context: Tensor = embedded(family, prompt).context
    return context
