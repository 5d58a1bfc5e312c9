"""Measures the shipped checkpoint: the engine renders views that were never trained on."""

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from img2img_shared.params import Params
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.render import Render
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.pictures.composite import compose
from img2img_worker.pictures.prepare import prepare
from tools.demo_model import classifier, vae
from tools.demo_model.captions import full_caption
from tools.demo_model.dataset import FIRST_UNSEEN, SIZE, scenes_of
from tools.demo_model.export import SHIPPED
from tools.demo_model.labels import Scene
from tools.demo_model.scenes import draw

Pictures = NDArray[np.uint8]
STRENGTHS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
FILLS = ("fill", "original", "latent noise", "latent nothing")
BASE: dict[str, Any] = {
    "width": SIZE,
    "height": SIZE,
    "steps": 20,
    "sampler_name": "DPM++ 2M",
    "scheduler": "Karras",
}


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A picture to start from and the scene that its prompt asks for."""

    start: Scene
    wanted: Scene


class Painter:
    """Renders pictures as a worker does, without a farm around it."""

    def __init__(self, engine: Engine, guidance: float) -> None:
        self._engine, self._guidance = engine, guidance

    def paint(
        self, pictures: Pictures, prompts: Sequence[str], mask: Image.Image | None = None, **parameters: Any
    ) -> Pictures:
        """Each picture with its prompt; uint8 [N, H, W, 3] both ways."""
        params = Params(**{**BASE, "cfg_scale": self._guidance, **parameters})
        originals = [Image.fromarray(picture) for picture in pictures]
        waiting: list[Future[Any]] = []
        for seed, (original, prompt) in enumerate(zip(originals, prompts, strict=True)):
            prepared = prepare(original, mask, params)
            render = Render(
                params=params, prompt=prompt, negative_prompt="", seed=seed, subseed=0,
                pixels=prepared.pixels, latent_size=prepared.latent_size, mask=prepared.mask,
                cond_mask=prepared.cond_mask,
            )  # fmt: skip
            waiting.append(self._engine.submit(render))
        results = [Image.fromarray(future.result()) for future in waiting]
        composed = [compose(*each, mask, params) for each in zip(results, originals, strict=True)]
        return np.stack([np.asarray(each.picture) for each in composed])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the checkpoint `demo`.")
    parser.add_argument("judge", type=Path, help="weights of the classifier")
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--guidance", type=float, default=4.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    judge = classifier.load(options.judge)
    wishes = [
        Wish(start=a, wanted=b) for a, b in (scenes_of(FIRST_UNSEEN + k, 2) for k in range(options.pictures))
    ]
    starts = np.stack([np.asarray(draw(wish.start, SIZE, SIZE)) for wish in wishes])
    targets = np.stack([np.asarray(draw(wish.wanted, SIZE, SIZE)) for wish in wishes])
    print(f"{options.model}: {len(wishes)} unseen views, guidance {options.guidance}")
    _reconstruction(options.model, starts)
    with _painter(options.model, options.guidance) as painter:
        prompts = [full_caption(wish.wanted) for wish in wishes]
        _agreement(painter, judge, wishes, starts, targets, prompts)
        few = slice(0, max(8, len(wishes) // 5))
        own = [full_caption(wish.start) for wish in wishes]
        _sweep(painter, starts[few], prompts[few])
        _masked(painter, starts[few], own[few])


def _reconstruction(model: Path, pictures: Pictures) -> None:
    autoencoder = AutoencoderKL.from_pretrained(
        model / "vae", torch_dtype=torch.float32, low_cpu_mem_usage=False
    )
    with torch.no_grad():
        real = vae.to_tensor(pictures)
        made = torch.cat(
            [
                autoencoder.decode(autoencoder.encode(part).latent_dist.mean).sample
                for part in torch.split(real, 8)
            ]
        )
    print(f"autoencoder, PSNR                        {vae.psnr(made, real).mean():6.2f} dB")


def _agreement(
    painter: Painter, judge: classifier.Classifier, wishes: list[Wish], starts: Pictures, targets: Pictures,
    prompts: list[str],
) -> None:  # fmt: skip
    wanted = classifier.targets([wish.wanted for wish in wishes])
    had = classifier.targets([wish.start for wish in wishes])
    made = painter.paint(starts, prompts, denoising_strength=0.6)
    drawn, painted = judge.judge(targets), judge.judge(made)
    print("agreement with the prompt at 0.6        all   where it differs from the start   (drawn pictures)")
    for k, name in enumerate(classifier.LABELS):
        right = getattr(painted, name) == wanted[:, k]
        differs = wanted[:, k] != had[:, k]
        limit = (getattr(drawn, name) == wanted[:, k]).float().mean()
        changed = right[differs].float().mean()
        print(f"  {name:40} {right.float().mean():6.0%} {changed:20.0%} {limit:30.0%}")


def _sweep(painter: Painter, starts: Pictures, prompts: list[str]) -> None:
    distances = [_distance(painter.paint(starts, prompts, denoising_strength=s), starts) for s in STRENGTHS]
    grows = all(a < b for a, b in pairwise(distances))
    print(
        "distance from the start (of 255) by strength: "
        + ("grows at every step" if grows else "does NOT grow at every step")
    )
    print("  " + "  ".join(f"{s}: {d:.1f}" for s, d in zip(STRENGTHS, distances, strict=True)))


def _masked(painter: Painter, starts: Pictures, prompts: list[str]) -> None:
    mask = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(mask).ellipse((40, 44, 96, 104), fill=255)
    inside = np.asarray(mask) > 127
    print("masked region, strength 0.8      distance from the start   seam (step across / steps near by)")
    for mode, name in enumerate(FILLS):
        made = painter.paint(
            starts, prompts, mask, denoising_strength=0.8, inpainting_fill=mode, inpaint_full_res=False
        )
        far = np.abs(made.astype(float) - starts)[:, inside].mean()
        print(f"  {name:30} {far:20.1f} {_seam(made, inside):20.2f}")


def _seam(pictures: Pictures, inside: NDArray[np.bool_]) -> float:
    """Mean difference of neighbours across the border, divided by that of neighbours near it."""
    steps = np.abs(np.diff(pictures.astype(float), axis=2)).mean(3)
    border = inside[:, 1:] != inside[:, :-1]
    near = np.zeros_like(border)
    for shift in range(-10, 11):
        near |= np.roll(border, shift, 1)
    return float(steps[:, border].mean() / steps[:, near & ~border].mean())


def _distance(made: Pictures, real: Pictures) -> float:
    return float(np.abs(made.astype(float) - real).mean())


@contextmanager
def _painter(model: Path, guidance: float) -> Iterator[Painter]:
    with Engine(open_checkpoint(model)) as engine:
        yield Painter(engine, guidance)


if __name__ == "__main__":
    main()
