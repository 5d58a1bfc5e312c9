"""What is Stable Diffusion 3's own: two CLIPs under one emphasis, T5 or zeros behind them, its VAE."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.sd3 import StableDiffusion3
from tests import checkpoints
from tests.checkpoints import embedded

PROMPT = "the red cat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.cached(tmp_path_factory, checkpoints.sd35)


@pytest.fixture(scope="module")
def family(folder: Path) -> StableDiffusion3:
    family = open_checkpoint(folder)
    assert isinstance(family, StableDiffusion3)
    return family


def test_a_plain_prompt_is_diffusers_bit_for_bit(family: StableDiffusion3, folder: Path) -> None:
    pipeline: Any = diffusers.StableDiffusion3Img2ImgPipeline.from_pretrained(
        folder, local_files_only=True, low_cpu_mem_usage=False
    )
    for prompt in (PROMPT, "", "a dog, " * 8):
        with torch.no_grad():
            wanted, _, pooled, _ = pipeline.encode_prompt(
                prompt, None, None, do_classifier_free_guidance=False, max_sequence_length=77
            )
        found = embedded(family, prompt)
        assert torch.equal(found.context, wanted[0])
        assert found.pooled is not None
        # a projection's last bits hang on where diffusers' loader leaves its weights in memory
        torch.testing.assert_close(found.pooled, pooled[0], atol=1e-6, rtol=1e-6)


def test_emphasis_keeps_the_mean_of_both_clips_together(family: StableDiffusion3) -> None:
    """A1111's `Sd3ClipLG` is one text model, whose mean is taken over both encoders' channels."""
    plain, weighted = _context(family, PROMPT), _context(family, "the (red:1.5) cat")
    width = 3 * checkpoints.WIDTH
    clip = plain[:77, :width]
    scales = torch.ones(77, 1)
    scales[2] = 1.5  # start, "the", "red" of one token each
    wanted = clip * scales
    wanted = wanted * (clip.mean() / wanted.mean())
    torch.testing.assert_close(weighted[:77, :width], wanted, atol=1e-5, rtol=1e-5)
    assert (weighted[:77, width:] == 0).all()


def test_t5_reads_the_words_but_not_their_weights(family: StableDiffusion3) -> None:
    """As in A1111, which reads weights for T5 and leaves them at that."""
    assert torch.equal(_context(family, "(the red cat:1.5)")[77:], _context(family, PROMPT)[77:])
    assert not torch.equal(_context(family, "the red dog")[77:], _context(family, PROMPT)[77:])


def test_t5_gets_as_many_tokens_as_clip(family: StableDiffusion3) -> None:
    long = "the red cat, " * 30
    assert _context(family, long).shape[0] == 2 * 2 * 77


def test_zeros_stand_in_for_a_missing_t5(family: StableDiffusion3, folder: Path, tmp_path: Path) -> None:
    without = Path(shutil.copytree(folder, tmp_path / "model"))
    index = json.loads((without / "model_index.json").read_text())
    index |= {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    (without / "model_index.json").write_text(json.dumps(index))
    found: Any = open_checkpoint(without)
    assert torch.equal(_context(found, PROMPT)[:77], _context(family, PROMPT)[:77])
    assert (_context(found, PROMPT)[77:] == 0).all()


def test_a_t5_without_its_vocabulary_is_refused(folder: Path, tmp_path: Path) -> None:
    without = Path(shutil.copytree(folder, tmp_path / "model"))
    (without / "tokenizer_3" / "tokenizer.json").unlink()
    with pytest.raises(Refused, match=r"T5's tokenizer\.json"):
        open_checkpoint(without)


def test_latents_are_shifted_before_they_are_scaled(family: StableDiffusion3, folder: Path) -> None:
    vae: Any = diffusers.AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False)
    pixels = torch.randint(0, 256, (1, 64, 64, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    with torch.no_grad():
        mean = vae.encode(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mean
    torch.testing.assert_close(family.encode(pixels), (mean - 0.0609) * 1.5305, atol=1e-4, rtol=1e-4)


def test_half_precision_keeps_t5_in_the_precision_that_holds_it(folder: Path) -> None:
    family: Any = open_checkpoint(folder, dtype=torch.float16)
    assert family.t5.model.dtype == torch.bfloat16
    assert family.transformer.dtype == torch.float16
    assert _context(family, PROMPT).dtype == torch.float16


def _context(family: StableDiffusion3, prompt: str) -> Tensor:
    return embedded(family, prompt).context
