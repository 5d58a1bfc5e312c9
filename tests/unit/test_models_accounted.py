"""Whatever a checkpoint holds is used, known to have no effect, or named in a refusal."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.sampling.plan import compile_plan
from img2img_worker.sampling.plan_key import PlanKey
from tests import checkpoints
from tests.original import write_original
from tests.original_flow import write_original_flow

UNET = "model.diffusion_model."

Weights = dict[str, Tensor]
Write = Callable[[str], Path]


@pytest.fixture
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A checkpoint's folder, by the name of what makes it, that a test may change."""

    def copied(name: str) -> Path:
        made = checkpoints.cached(tmp_path_factory, getattr(checkpoints, name))
        return Path(shutil.copytree(made, tmp_path / name))

    return copied


@pytest.fixture
def written(folder: Write, tmp_path: Path) -> Write:
    """A checkpoint as one file."""

    def write(name: str) -> Path:
        original = write_original_flow if name.startswith(("sd3", "flux")) else write_original
        return original(folder(name), tmp_path / f"{name}.safetensors")

    return write


def change(path: Path, changed: Callable[[Weights], Weights]) -> None:
    save_file({key: value.contiguous() for key, value in changed(load_file(path)).items()}, path)


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def in_8_bits(weights: Weights, spelling: str, scale_of: Callable[[Tensor], Tensor]) -> Weights:
    """As ComfyUI writes them: matrices of the denoiser divided by their scales."""
    found: Weights = {f"{UNET}scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
    for key, value in weights.items():
        found[key] = value
        if key.startswith(UNET) and key.endswith(".weight") and value.ndim == 2:
            scale = scale_of(value)
            found[key] = (value / scale).to(torch.float8_e4m3fn)
            layer = key.removesuffix("weight")
            found |= {layer + spelling: scale, layer + "input_scale": torch.ones(())}
    return found


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("sd1", "scale_weight"),
        ("sd1", "weight_scale"),
        ("sdxl", "weight_scale"),
        ("sd3", "scale_weight"),
        ("flux_dev", "scale_weight"),
    ],
)
def test_weights_of_8_bits_are_multiplied_by_their_scales(name: str, spelling: str, written: Write) -> None:
    path = written(name)
    right = _denoiser(path)
    by_row = spelling == "weight_scale"
    change(
        path,
        lambda weights: in_8_bits(
            weights,
            spelling,
            lambda value: value.abs().amax(1, keepdim=True) / 448 if by_row else value.abs().max() / 448,
        ),
    )
    for ours, theirs in zip(right, _denoiser(path), strict=True):
        assert (ours - theirs).abs().max() <= ours.abs().max() / 16  # three bits of mantissa


def test_scales_that_fit_no_weight_and_formats_that_are_not_known_are_refused(written: Write) -> None:
    path = written("sd1")
    change(path, lambda weights: in_8_bits(weights, "scale_weight", lambda _: torch.ones(3, 1)[:1]))
    change(path, lambda weights: weights | {_first_scale(weights): torch.ones(3)})
    with pytest.raises(Refused, match=r"no finite scale for a weight or for each of its rows"):
        open_checkpoint(path)
    how = torch.tensor(list(json.dumps({"format": "nvfp4"}).encode()), dtype=torch.uint8)
    change(path, lambda weights: weights | {f"{UNET}out.2.comfy_quant": how})
    with pytest.raises(Refused, match=r"out.2.comfy_quant is nvfp4"):
        open_checkpoint(path)
    change(path, lambda weights: weights | {f"{UNET}out.2.weight.absmax": torch.ones(3)})
    with pytest.raises(Refused, match=r"absmax.* has weights of 4 bits; use a file with 8 bits or more"):
        open_checkpoint(path)


def test_whole_numbers_without_a_scale_are_refused(written: Write) -> None:
    path = written("sd1")
    key = f"{UNET}time_embed.0.weight"
    change(path, lambda weights: weights | {key: (weights[key] * 127).to(torch.int8)})
    with pytest.raises(Refused, match=r"time_embed.0.weight holds whole numbers \(int8\), and nothing says"):
        open_checkpoint(path)


LEFT_OVER: dict[str, tuple[str, str]] = {
    "a ControlNet": ("sd1", "control_model.input_blocks.0.0.weight"),
    "another text encoder": ("sd1", "text_encoders.t5xxl.transformer.shared.weight"),
    "deeper blocks on the way up": ("sdxl", f"{UNET}output_blocks.0.1.transformer_blocks.7.norm1.weight"),
    "a scale without its weight": ("sdxl", f"{UNET}middle_block.9.scale_weight"),
    "a wider VAE": ("sd2", "first_stage_model.encoder.down.0.block.0.conv9.weight"),
    "a longer transformer": ("sd3", f"{UNET}joint_blocks.0.x_block.attn9.qkv.weight"),
    "something in Flux": ("flux_schnell", f"{UNET}distilled_guidance_layer.in_proj.weight"),
}


@pytest.mark.parametrize(("name", "key"), LEFT_OVER.values(), ids=LEFT_OVER)
def test_a_tensor_that_nobody_takes_is_named(name: str, key: str, written: Write) -> None:
    path = written(name)
    change(path, lambda weights: weights | {key: torch.ones(2)})
    with pytest.raises(Refused) as refused:
        open_checkpoint(path)
    assert f"nothing here uses {key} in it" in str(refused.value)


@pytest.mark.parametrize(
    "key",
    [
        "model_ema.diffusion_modelinput_blocks00weight",
        "model_ema.num_updates",
        "first_stage_model.loss.discriminator.main.0.weight",
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
        "cond_stage_model.transformer.text_projection.weight",
        "cond_stage_model.logit_scale",
        "sqrt_one_minus_alphas_cumprod",
        "posterior_mean_coef1",
        "global_step",
        "optimizer.state.0.exp_avg",
    ],
)
def test_what_is_known_to_have_no_effect_is_passed_over(key: str, written: Write) -> None:
    path = written("sd1")
    change(path, lambda weights: weights | {key: torch.ones(2)})
    assert open_checkpoint(path).name == "SD 1.x"


def test_cosxls_noise_levels_are_a_continuum(written: Write) -> None:
    path = written("sdxl")
    marks = {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.002)}
    change(path, lambda weights: weights | marks)
    family: Any = open_checkpoint(path)
    levels = family.noise_levels
    assert family.prediction == "v"
    assert (levels.sigma_min, levels.sigma_max) == pytest.approx((0.002, 120.0))
    assert levels.sigma_to_t(1.0) == pytest.approx(0, abs=1e-6)
    assert levels.t_to_sigma(0.25) == pytest.approx(torch.e, rel=1e-5)
    key: dict[str, Any] = {"scheduler": "Karras", "steps": 4, "denoising_strength": 0.5}
    assert compile_plan(PlanKey(sampler_name="Euler", **key), levels).timesteps[0] > 0
    with pytest.raises(Refused, match="without timesteps"):
        compile_plan(PlanKey(sampler_name="DDIM", **key), levels)


def test_playgrounds_preconditioning_and_statistics_are_karras_and_its_own(
    written: Write, folder: Write, tmp_path: Path
) -> None:
    """denoised = c_skip x + c_out F(c_in x, ln(sigma) / 4) of latents with a deviation of 1/2."""
    path = written("sdxl")
    mean, deviation = torch.tensor([-1.7, 1.9, -1.4, 2.5]), torch.tensor([8.5, 5.9, 6.5, 5.2])
    marks = {"edm_mean": mean.reshape(1, 4, 1, 1), "edm_std": deviation.reshape(1, 4, 1, 1)}
    change(path, lambda weights: weights | marks)
    family: Any = open_checkpoint(path)
    assert family.noise_levels.sigma_max * 0.5 == pytest.approx(80)
    sigma, latent = 3.0, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    x = 0.5 * latent * 6
    variance = sigma**2 + 0.25
    seen, t = x / variance**0.5, torch.tensor([float(torch.tensor(sigma).log() / 4)])
    assert family.noise_levels.sigma_to_t(sigma / 0.5) == pytest.approx(float(t), abs=1e-6)
    context = {"text_embeds": torch.ones(1, 2 * checkpoints.WIDTH), "time_ids": torch.full((1, 6), 64.0)}
    answer = family.unet(seen, t, torch.ones(1, 77, 3 * checkpoints.WIDTH), added_cond_kwargs=context).sample
    denoised = x * 0.25 / variance + answer * sigma * 0.5 / variance**0.5
    # what the engine does with a velocity, in units of that deviation
    ours, level = x / 0.5, sigma / 0.5
    velocity = -answer
    expected = ours / (level**2 + 1) - velocity * level / (level**2 + 1) ** 0.5
    assert torch.allclose(expected, denoised / 0.5, atol=1e-5)
    assert (family.prediction, family.answer_sign) == ("v", -1)
    wanted = (ours * 0.5) * deviation.reshape(1, 4, 1, 1) / 0.5 + mean.reshape(1, 4, 1, 1)
    assert torch.allclose(family.vae.scaled(wanted), ours, atol=1e-5)
    assert torch.equal(family.decode(ours[:, :, :2, :2]).pixels, _decoded(family, wanted[:, :, :2, :2]))

    same = tmp_path / "sdxl"
    edit_json(
        same / "vae" / "config.json",
        scaling_factor=0.5,
        latents_mean=mean.tolist(),
        latents_std=deviation.tolist(),
    )
    (same / "scheduler" / "scheduler_config.json").write_text(
        json.dumps({"_class_name": "EDMDPMSolverMultistepScheduler", "sigma_data": 0.5, "rho": 7.0})
    )
    from_folder: Any = open_checkpoint(same)
    assert (from_folder.noise_levels.sigmas == family.noise_levels.sigmas).all()
    assert torch.equal(from_folder.decode(ours).pixels, family.decode(ours).pixels)


FOLDERS: dict[str, tuple[str, dict[str, object], str]] = {
    "LCM's": ("unet/config.json", {"time_cond_proj_dim": 256}, "unet.time_cond_proj_dim is 256: "),
    "classes": ("unet/config.json", {"num_class_embeds": 7}, "unet.num_class_embeds is 7: "),
    "picture prompts": ("unet/config.json", {"addition_embed_type": "image"}, "'image'"),
    "a key of another version": (
        "unet/config.json",
        {"attend_twice": True},
        "model.unet.attend_twice is True: ",
    ),
    "a VAE's": ("vae/config.json", {"patch_size": 2}, "model.vae.patch_size is 2: "),
    "a quantized text encoder": ("text_encoder/config.json", {"quantization_config": {"bits": 4}}, "quant"),
    "a flow": (
        "scheduler/scheduler_config.json",
        {"_class_name": "FlowMatchEulerDiscreteScheduler"},
        "use that of a diffusion model",
    ),
    "shifted by SNR": (
        "scheduler/scheduler_config.json",
        {"snr_shift_scale": 3},
        "snr_shift_scale",
    ),
    "another part": (
        "model_index.json",
        {"prior": ["diffusers", "PriorTransformer"]},
        "nothing here uses prior in it",
    ),
}


@pytest.mark.parametrize(("file", "changes", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_key_that_is_not_heeded_is_named(
    file: str, changes: dict[str, object], message: str, folder: Write
) -> None:
    path = folder("sd1")
    edit_json(path / file, **changes)
    with pytest.raises(Refused) as refused:
        open_checkpoint(path)
    assert message in str(refused.value)


def _denoiser(path: Path) -> list[Tensor]:
    family: Any = open_checkpoint(path)
    network = family.unet if hasattr(family, "unet") else family.transformer
    return list(network.parameters())


def _first_scale(weights: Weights) -> str:
    return next(key for key in weights if key.endswith("scale_weight"))


def _decoded(family: Any, means: Tensor) -> Tensor:
    pixels: Tensor = (family.vae.network.decode(means).sample / 2 + 0.5).clamp(0, 1) * 255
    return pixels.to(torch.uint8).permute(0, 2, 3, 1)
