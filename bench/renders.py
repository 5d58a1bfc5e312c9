"""Images for the engine to render: mixed, similar, or with prompts of different lengths."""

import random
from dataclasses import replace

import numpy as np

from img2img_shared.params import Params
from img2img_worker.engine.engine import Render

SAMPLERS = ("Euler", "Euler a", "DPM++ 2M", "DDIM")


def mixed(n: int, side: int) -> list[Render]:
    """Images with only the size in common: strength 0.2 to 1, 20, 30 or 50 steps, four samplers."""
    chance = random.Random(1)
    return [
        _render(
            number,
            Params(
                width=side,
                height=side,
                steps=chance.choice((20, 30, 50)),
                denoising_strength=chance.uniform(0.2, 1),
                sampler_name=chance.choice(SAMPLERS),
            ),
        )
        for number in range(n)
    ]


def alike(n: int, side: int, steps: int, strength: float) -> list[Render]:
    """Images that a static batch can take together."""
    params = Params(width=side, height=side, steps=steps, denoising_strength=strength)
    return [_render(number, params) for number in range(n)]


def _render(number: int, params: Params) -> Render:
    pixels = np.random.default_rng(number).integers(0, 256, (params.height, params.width, 3), dtype=np.uint8)
    return Render(
        params=params,
        prompt="a photo of the cat",
        negative_prompt="a dog",
        seed=number,
        subseed=0,
        pixels=pixels,
        latent_size=(params.height // 8, params.width // 8),
    )


def of_lengths(n: int, side: int) -> list[Render]:
    """Images that only differ in their prompts, of one to three chunks of 75 tokens."""
    renders = alike(n, side, 10, 1.0)
    return [
        replace(each, prompt=" BREAK ".join(["a photo of the cat"] * (1 + number % 3)))
        for number, each in enumerate(renders)
    ]
