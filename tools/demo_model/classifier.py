"""A small network that classifies pictures by hour, season and style, for the report."""

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tools.demo_model.dataset import scenes_of, shard_paths, views_of_shard
from tools.demo_model.labels import SEASONS, STYLES, TIMES, Scene
from tools.demo_model.vae import to_tensor

#: the labels, in the order of the network's outputs
LABELS = {"time": TIMES, "season": SEASONS, "style": STYLES}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """For each picture, the index of the likeliest value of each label, int64 [N]."""

    time: Tensor
    season: Tensor
    style: Tensor


class Classifier(nn.Module):
    """Pictures [B, 3, H, W] in -1..1 to logits [B, 4 + 4 + 6]."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, 128)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 5, stride=2, padding=2), nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(2 * widths[-1], sum(map(len, LABELS.values())))

    def forward(self, pictures: Tensor) -> Tensor:
        """The logits of all labels, concatenated."""
        features = self.features(pictures)
        pooled = torch.cat((features.mean((2, 3)), features.amax((2, 3))), 1)
        return torch.as_tensor(self.head(pooled))

    @torch.no_grad()
    def judge(self, pictures: NDArray[np.uint8]) -> Verdict:
        """The likeliest labels of uint8 pictures [N, H, W, 3]."""
        self.eval()
        parts = self(to_tensor(pictures)).split([len(values) for values in LABELS.values()], 1)
        return Verdict(**{name: part.argmax(1) for name, part in zip(LABELS, parts, strict=True)})


def targets(scenes: list[Scene]) -> Tensor:
    """The labels' indices, int64 [N, 3]."""
    return torch.tensor([[values.index(getattr(s, name)) for name, values in LABELS.items()] for s in scenes])


def train(data: Path, path: Path, epochs: int, most_shards: int) -> None:
    """Train on drawn pictures and write the weights to `path`."""
    torch.manual_seed(4)
    rng = np.random.default_rng(4)
    shards = shard_paths(data)[:most_shards]
    pictures = np.concatenate([np.load(shard) for shard in shards])
    numbers = [int(shard.stem.rpartition("-")[2]) for shard in shards]
    labels = targets([scene for n in numbers for view in views_of_shard(n) for scene in scenes_of(view)])
    model = Classifier()
    steps = epochs * (len(pictures) // 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    sizes = [len(values) for values in LABELS.values()]
    for step in range(steps):
        chosen = rng.choice(len(pictures), 32, replace=False)
        batch = _varied(to_tensor(pictures[chosen]), rng)
        parts = model(batch).split(sizes, 1)
        loss = torch.stack([F.cross_entropy(part, labels[chosen, k]) for k, part in enumerate(parts)]).sum()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step} of {steps} loss {loss.item():.3f}", flush=True)
    torch.save(model.state_dict(), path)


def load(path: Path) -> Classifier:
    """A trained classifier."""
    model = Classifier()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def _varied(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Pictures mirrored, shifted and a little blurred, so that labels do not depend on single pixels."""
    if rng.random() < 0.5:
        pictures = pictures.flip(3)
    if rng.random() < 0.3:
        size = pictures.shape[-1]
        small = F.interpolate(pictures, scale_factor=0.6, mode="area")
        pictures = F.interpolate(small, size=(size, size), mode="bilinear")
    shift = int(rng.integers(-6, 7))
    return pictures.roll((shift, -shift), (2, 3)) + 0.03 * torch.randn_like(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the report's classifier.")
    parser.add_argument("data", type=Path, help="folder of shards")
    parser.add_argument("path", type=Path, help="weights to write")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--shards", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train(options.data, options.path, options.epochs, options.shards)


if __name__ == "__main__":
    main()
