"""Train the denoiser and the text encoder together, in the latent space of the trained autoencoder.

Besides plain noise prediction (Ho et al., 2020) a share of the samples starts from another look of the same
view, as img2img does when the prompt asks for another hour or season: there the noise carries a part of the
other picture, as much as an exact sampler that began at some higher noise level would have left in it.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tools.demo_model import training
from tools.demo_model.analysis import CHANNELS
from tools.demo_model.latents import Latents
from tools.demo_model.tokens import MAX_LENGTH

WIDTH = 128
CONFIG = {
    "sample_size": 16,
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "block_out_channels": (64, 128, 160),
    "layers_per_block": 1,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}
#: Stable Diffusion's own noise levels
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}
#: how often a caption is empty, for guidance
DROPPED = 0.1
#: how often the noise contains another look of the same view, and from which timestep on
PAIRED, FROM = 0.5, 300
#: the timesteps to which that look may have been noised
EARLIEST, LATEST = 400, 850


def text_model(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A fresh text encoder for the tokenizer's vocabulary."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Batches:
    """Random batches: the wanted look, its caption, and a look of the same view to come from."""

    def __init__(self, data: Latents, empty: Tensor, seed: int) -> None:
        self._data, self._empty = data, empty
        self._random = torch.Generator().manual_seed(seed)

    def draw(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents [B, C, 16, 16], token ids [B, 77], latents to come from [B, C, 16, 16]."""
        views, looks, phrasings = self._data.tokens.shape[:3]
        view = self._pick(views, size)
        look, phrasing = self._pick(looks, size), self._pick(phrasings, size)
        dropped = self._chance(DROPPED, size)
        other = torch.where(
            self._chance(PAIRED, size) & ~dropped, (look + 1 + self._pick(looks - 1, size)) % looks, look
        )
        ids = torch.where(dropped[:, None], self._empty, self._data.tokens[view, look, phrasing])
        return self._data.latents[view, look], ids, self._data.latents[view, other]

    def _pick(self, count: int, size: int) -> Tensor:
        return torch.randint(count, (size,), generator=self._random)

    def _chance(self, probability: float, size: int) -> Tensor:
        return torch.rand(size, generator=self._random) < probability


def noised(clean: Tensor, source: Tensor, timesteps: Tensor, abar: Tensor) -> tuple[Tensor, Tensor]:
    """The noisy latent at each timestep, and the noise to predict from it.

    With σ = sqrt((1 - abar) / abar), an Euler run from `source` at σ_s which is always answered with `clean`
    has come, at σ, to clean + σ · (noise + (source - clean) / σ_s): so the second term counts as noise. Where
    little noise is left there is no such term: weak strengths are to keep what there is.
    """
    source = torch.where((timesteps < FROM)[:, None, None, None], clean, source)
    first = timesteps.clamp(min=EARLIEST)
    start = first + (torch.rand(len(timesteps)) * (timesteps.clamp(min=LATEST) - first)).long()
    sigma_start = ((1 - abar) / abar).sqrt()[start][:, None, None, None]
    noise = torch.randn_like(clean) + (source - clean) / sigma_start
    level = abar[timesteps][:, None, None, None]
    return level.sqrt() * clean + (1 - level).sqrt() * noise, noise


def loss_weight(abar: Tensor, gamma: float = 20.0) -> Tensor:
    """Weights of the noise's errors: 1 + σ² as for velocities, and min-SNR (Hang et al., 2023) at low noise.

    What a caption tells, hour and season, is decided at high noise, where the noise's own error is tiny;
    above σ = 3 the weight grows no further.
    """
    variance = (1 - abar) / abar
    return (1 + variance.clamp(max=9.0)) * (gamma * variance).clamp(max=1.0)


def train(data_path: Path, state_path: Path, minutes: float, batch: int, peak: float) -> None:
    """Train for `minutes`, counted over all runs; continue from `state_path` if it exists."""
    torch.manual_seed(2)
    data = Latents.load(data_path)
    tokenizer = CLIPTokenizer.from_pretrained(data_path.parent / "tokenizer")
    empty = tokenizer("", padding="max_length", max_length=MAX_LENGTH, return_tensors="pt").input_ids[0]
    modules: dict[str, Any] = {"unet": UNet2DConditionModel(**CONFIG), "text": text_model(tokenizer)}
    device = training.device()
    if device.type == "cpu":
        modules["unet"].set_attn_processor(AttnProcessor())  # faster than the fused kernels at this size
    for name, module in modules.items():
        module.to(device)
        print(f"{name}: {sum(p.numel() for p in module.parameters()) / 1e6:.2f} M parameters")
    parameters = [p for module in modules.values() for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.98), weight_decay=1e-3, foreach=True)
    average = training.Average(modules, 0.998)
    step, clock = 0, training.Clock(minutes)
    if state := training.restore(state_path):
        for name, module in modules.items():
            module.load_state_dict(state[name])
        optimizer.load_state_dict(state["optimizer"])
        average.go_on(state["average"], state["updates"])
        step, clock = state["step"], training.Clock(minutes, state["minutes"])
        torch.manual_seed(2 + step)
    abar = DDIMScheduler(**SCHEDULE).alphas_cumprod
    weights = loss_weight(abar)
    batches = Batches(data, empty, seed=step)
    saved, running = clock.elapsed, 1.0
    while clock.progress < 1:
        clean, ids, source = batches.draw(batch)
        timesteps = torch.randint(len(abar), (batch,))
        drawn = noised(clean, source, timesteps, abar)
        weight = weights[timesteps].to(device)
        latents, noise, ids, timesteps = (each.to(device) for each in (*drawn, ids, timesteps))
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate(peak, step, clock.progress)
        with torch.autocast(device.type, torch.bfloat16):
            states = modules["text"](ids).last_hidden_state
            answer = modules["unet"](latents, timesteps, states).sample
        errors = F.mse_loss(answer.float(), noise, reduction="none").mean((1, 2, 3))
        loss = (errors * weight).mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update()
        running += (loss.item() - running) * 0.01
        if step % 100 == 0:
            print(f"{clock.elapsed:6.1f} min step {step} loss {running:.4f}", flush=True)
        step += 1
        if clock.elapsed - saved > 2 or clock.progress >= 1:
            saved = clock.elapsed
            state = {name: module.state_dict() for name, module in modules.items()}
            state |= {"optimizer": optimizer.state_dict(), "average": average.weights}
            state |= {"updates": average.updates, "step": step, "minutes": clock.elapsed}
            training.save(state_path, state)


def trained(state_path: Path, tokenizer: CLIPTokenizer) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """The modules with the averaged weights of a training."""
    state = training.restore(state_path)
    if state is None:
        raise FileNotFoundError(state_path)
    modules: dict[str, Any] = {"unet": UNet2DConditionModel(**CONFIG), "text": text_model(tokenizer)}
    for name, module in modules.items():
        prefix = name + "/"
        module.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state["average"].items() if k.startswith(prefix)}
        )
        module.eval().requires_grad_(False)
    return modules["unet"], modules["text"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the denoiser of the checkpoint `demo`.")
    parser.add_argument("data", type=Path, help="latents and captions")
    parser.add_argument("state", type=Path, help="training state, continued if it exists")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(options.data, options.state, options.minutes, options.batch, options.rate)


if __name__ == "__main__":
    main()
