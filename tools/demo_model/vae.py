"""The autoencoder: a computed encoder (see `analysis`), and a decoder that is trained to invert it."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from tools.demo_model import training
from tools.demo_model.analysis import CHANNELS, Analysis
from tools.demo_model.dataset import shard_paths

CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": CHANNELS,
    "block_out_channels": (16, 32, 48, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 128,
    # latents have a deviation of about 1 without scaling
    "scaling_factor": 1.0,
}
#: fraction of the training on windows of 64 pixels, with four times the steps; the rest is on whole pictures
CROPPED = 0.85
#: deviation of the noise on the latents, which makes the decoder tolerate a denoiser's errors
JITTER = 0.04
#: number of pictures from which the components are computed
FITTED = 300


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def crop(pictures: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """The same window of all pictures [B, 3, H, W], at a multiple of the factor 8."""
    top, left = (int(rng.integers((side - size) // 8 + 1)) * 8 for side in pictures.shape[2:])
    return pictures[..., top : top + size, left : left + size]


def reconstruction_loss(made: Tensor, real: Tensor) -> Tensor:
    """L1, a part of L2, and L1 of the gradients across and down, which keeps contours sharp."""
    difference = made - real
    across = (difference[..., 1:] - difference[..., :-1]).abs().mean()
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    return difference.abs().mean() + difference.square().mean() + 0.5 * (across + down)


def psnr(made: Tensor, real: Tensor) -> Tensor:
    """Peak signal to noise ratio of each picture, in decibels; inputs in -1..1."""
    error = ((made.clamp(-1, 1) - real) / 2).square().flatten(1).mean(1)
    return -10 * error.log10()


def train(data: Path, state_path: Path, minutes: float, batch: int, peak: float) -> None:
    """Train for `minutes`, counted over all runs; continue from `state_path` if it exists."""
    torch.manual_seed(1)
    model: Any = AutoencoderKL(**CONFIG)
    state = training.restore(state_path)
    if state is None:
        analysis = Analysis.fit(np.array(np.load(shard_paths(data)[0], mmap_mode="r")[:FITTED]))
        analysis.install(model)
    else:
        analysis = Analysis.from_state(state["analysis"])
        model.load_state_dict(state["model"])
    device = training.device()
    model.to(device)
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)
    parameters = [p for p in model.parameters() if p.requires_grad]
    print(f"{sum(p.numel() for p in parameters) / 1e6:.2f} M parameters to train")
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.99), weight_decay=1e-4)
    average = training.Average({"vae": model}, 0.998)
    step, clock = 0, training.Clock(minutes)
    if state is not None:
        optimizer.load_state_dict(state["optimizer"])
        average.go_on(state["average"], state["updates"])
        step, clock = state["step"], training.Clock(minutes, state["minutes"])
    rng = np.random.default_rng(step)
    saved, running = clock.elapsed, 10.0
    shards: list[NDArray[np.uint8]] = []
    while clock.progress < 1:
        if step % 200 == 0 or not shards:
            shards = [np.load(path, mmap_mode="r") for path in shard_paths(data)]
        shard = shards[int(rng.integers(len(shards)))]
        pictures = to_tensor(shard[rng.choice(len(shard), batch, replace=False)])
        if rng.random() < CROPPED:
            pictures = crop(pictures, 64, rng)
        if rng.random() < 0.5:
            pictures = pictures.flip(3)
        latents, pictures = (each.to(device) for each in (analysis.latents(pictures), pictures))
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate(peak, step, clock.progress)
        with torch.autocast(device.type, torch.bfloat16):
            made = model.decode(latents + JITTER * torch.randn_like(latents)).sample.float()
        loss = reconstruction_loss(made, pictures)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update()
        running += (psnr(made.detach(), pictures).mean().item() - running) * 0.02
        if step % 100 == 0:
            print(f"{clock.elapsed:6.1f} min step {step} psnr {running:.2f}", flush=True)
        step += 1
        if clock.elapsed - saved > 2 or clock.progress >= 1:
            saved = clock.elapsed
            state = {"analysis": analysis.state(), "model": model.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "average": average.weights}
            state |= {"updates": average.updates, "step": step, "minutes": clock.elapsed}
            training.save(state_path, state)


def trained(state_path: Path) -> AutoencoderKL:
    """The modules with the averaged weights of a training."""
    state = training.restore(state_path)
    if state is None:
        raise FileNotFoundError(state_path)
    model = AutoencoderKL(**CONFIG)
    model.load_state_dict({key.removeprefix("vae/"): value for key, value in state["average"].items()})
    return model.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the decoder of the checkpoint `demo`.")
    parser.add_argument("data", type=Path, help="folder of shards")
    parser.add_argument("state", type=Path, help="training state, continued if it exists")
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(options.data, options.state, options.minutes, options.batch, options.rate)


if __name__ == "__main__":
    main()
