"""How the demo checkpoint is trained: going on where it stopped, and noise that carries another picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTokenizer

from img2img_shared.params import Params
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.render import Render
from img2img_worker.models.checkpoints.loading import open_checkpoint
from tools.demo_model import captions, denoiser, export, tokens, training, vae
from tools.demo_model.analysis import Analysis
from tools.demo_model.dataset import scenes_of
from tools.demo_model.scenes import draw


def test_the_paired_noise_is_what_a_sampler_would_meet() -> None:
    torch.manual_seed(0)
    abar = DDIMScheduler(**denoiser.SCHEDULE).alphas_cumprod
    clean, source = torch.randn(4, 4, 2, 2), torch.randn(4, 4, 2, 2)
    timesteps = torch.tensor([300, 400, 500, 950])
    torch.manual_seed(1)
    mixed, told = denoiser.noised(clean, source, timesteps, abar)
    torch.manual_seed(1)
    _, noise = denoiser.noised(clean, clean, timesteps, abar)

    for k, timestep in enumerate(timesteps):
        sigma = ((1 - abar[timestep]) / abar[timestep]).sqrt()
        carried = (told - noise)[k] * sigma  # what is left of (source - clean) at this level
        share = (carried / (source - clean)[k]).mean()
        start = sigma / share
        latent = source[k] + start * noise[k]
        for level in torch.linspace(float(start), float(sigma), 5)[1:]:  # Euler, always answered with `clean`
            latent = clean[k] + (latent - clean[k]) * (level / start)
            start = level
        assert torch.allclose(latent * abar[timestep].sqrt(), mixed[k], atol=1e-4)
        assert sigma <= sigma / share


def test_where_little_noise_is_left_the_other_look_has_no_part_in_it() -> None:
    abar = DDIMScheduler(**denoiser.SCHEDULE).alphas_cumprod
    clean, source = torch.randn(2, 4, 2, 2), torch.randn(2, 4, 2, 2)
    timesteps = torch.tensor([10, 299])
    mixed, noise = denoiser.noised(clean, source, timesteps, abar)
    level = abar[timesteps][:, None, None, None]
    assert torch.allclose(mixed, level.sqrt() * clean + (1 - level).sqrt() * noise, atol=1e-6)
    assert noise.std() < 2


def test_the_encoder_gives_the_principal_components() -> None:
    pictures = np.stack([np.asarray(draw(scene, 64, 64)) for view in range(6) for scene in scenes_of(view)])
    analysis = Analysis.fit(pictures)
    model = AutoencoderKL(**vae.CONFIG)
    analysis.install(model)
    model.half().float()  # as it is shipped
    wanted = analysis.latents(vae.to_tensor(pictures[:4]))
    with torch.no_grad():
        encoded = model.encode(vae.to_tensor(pictures[:4])).latent_dist
    assert ((encoded.mean - wanted).std() / wanted.std()).item() < 0.02
    assert encoded.std.max().item() < 0.01
    deviations = analysis.latents(vae.to_tensor(pictures)).std((0, 2, 3))
    assert torch.allclose(deviations, analysis.scale, rtol=0.05)


def test_a_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (8, 128, 128, 3), dtype=np.uint8)
    np.save(data / "shard-000.npy", pictures)
    state = tmp_path / "vae.pt"
    vae.train(data, state, minutes=0.001, batch=1, peak=1e-3)
    first = training.restore(state)
    assert first is not None
    vae.train(data, state, minutes=first["minutes"] + 0.001, batch=1, peak=1e-3)
    second = training.restore(state)
    assert second is not None
    assert second["step"] > first["step"] > 0
    assert second["updates"] == second["step"]
    again = training.Clock(5, spent=second["minutes"])
    assert again.elapsed >= second["minutes"] > first["minutes"]


def test_the_learning_rate_warms_up_and_falls() -> None:
    rates = [training.learning_rate(1.0, step, step / 1000) for step in range(1001)]
    assert rates[0] < 0.05
    assert max(rates) == pytest.approx(rates[100], rel=0.02)
    assert rates[-1] == pytest.approx(0.04)


def test_what_is_exported_loads_and_renders(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tokens.write_tokenizer(tmp_path, captions.words())
    torch.manual_seed(3)
    export.write(
        folder,
        autoencoder=AutoencoderKL(**vae.CONFIG),
        unet=UNet2DConditionModel(**denoiser.CONFIG),
        text=denoiser.text_model(CLIPTokenizer.from_pretrained(tmp_path)),
    )
    assert export.size(folder) < 25e6
    params = Params(width=64, height=64, steps=2, prompt="a lake at night")
    grey = np.full((64, 64, 3), 128, np.uint8)
    render = Render(
        params=params,
        prompt=params.prompt,
        negative_prompt="",
        seed=1,
        subseed=0,
        pixels=grey,
        latent_size=(8, 8),
    )
    with Engine(open_checkpoint(folder)) as engine:
        assert engine.submit(render).result().shape == (64, 64, 3)
