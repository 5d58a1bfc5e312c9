"""The cost of control networks: half of the images use one of three.

    python -m bench.control [--device cuda] [--size tiny|sd15] [--images 32] [--slots 32]

The same mixed images in flight together, in groups by network, and each alone through diffusers'
StableDiffusionControlNetImg2ImgPipeline or, without control, StableDiffusionImg2ImgPipeline.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from bench.networks import SIZES, save, save_control_net
from bench.options import dtype_for
from bench.renders import mixed
from img2img_shared.control import ControlUnit
from img2img_worker.engine.engine import Engine, Render
from img2img_worker.engine.render import Control
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.family import Family

NETWORKS = ("canny", "depth", "tile")

console = Console()


def controlled(n: int, side: int) -> list[Render]:
    """Mixed images, every second of which uses one of the networks."""
    return [
        render
        if number % 2
        else replace(render, controls=(control(NETWORKS[number // 2 % 3], number, (side, side)),))
        for number, render in enumerate(mixed(n, side))
    ]


def control(model: str, number: int, size: tuple[int, int]) -> Control:
    """A unit with a picture [height, width], a different one for each number."""
    picture = np.random.default_rng(1000 + number).integers(0, 256, (*size, 3), np.uint8)
    return Control(unit=ControlUnit(model=model), picture=picture)


def name_of(render: Render) -> str:
    """The network that a unit uses."""
    return render.controls[0].unit.model if render.controls else ""


class Counted:
    """Counts the calls of the control networks, and their rows."""

    def __init__(self, family: Family) -> None:
        self.calls = self.rows = 0
        for name in NETWORKS:
            network: Any = family.controls.find(name)
            network.network.register_forward_pre_hook(self.count, with_kwargs=True)

    def count(self, _module: object, arguments: tuple[Any, ...], _more: object) -> None:
        """A call of a network, whose rows are the first dimension of its arguments."""
        self.calls += 1
        self.rows += len(arguments[0])


def in_flight(family: Family, groups: Sequence[Sequence[Render]], slots: int) -> int:
    """Render the groups one after the other, each one's images together; the number of the UNet's calls."""
    calls = 0
    for group in groups:
        with Engine(family, slots=slots, deterministic=False) as engine:
            wait([engine.submit(each) for each in group])
            calls += engine.counts.calls
    return calls


def pipelines(checkpoint: Path, networks: dict[str, Any], family: Family, renders: Sequence[Render]) -> int:
    """Render each image alone with diffusers; the number of the UNet's calls."""
    plain: Any = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(
        checkpoint, safety_checker=None, dtype=family.dtype
    ).to(family.device)
    plain.set_progress_bar_config(disable=True)
    by_network = {"": plain}
    for name, network in networks.items():
        by_network[name] = diffusers.StableDiffusionControlNetImg2ImgPipeline(
            **plain.components, controlnet=network
        )
        by_network[name].set_progress_bar_config(disable=True)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    hook = plain.unet.register_forward_pre_hook(count)
    for render in renders:
        shown = {"control_image": Image.fromarray(render.controls[0].picture)} if render.controls else {}
        by_network[name_of(render)](
            prompt=render.prompt,
            negative_prompt=render.negative_prompt,
            image=Image.fromarray(np.asarray(render.pixels)),
            strength=render.params.denoising_strength,
            num_inference_steps=render.params.steps,
            guidance_scale=render.params.cfg_scale,
            output_type="np",
            **shown,
        )
    hook.remove()
    return calls


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=["tiny", "sd15"], default="tiny")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    side = SIZES[options.size]
    with tempfile.TemporaryDirectory() as folder:
        dtype = dtype_for(options.device)
        checkpoint = save(options.size, Path(folder, "checkpoint"), dtype, options.device)
        networks: dict[str, Any] = {
            name: save_control_net(checkpoint, Path(folder, f"{name}.safetensors"), dtype)
            for name in NETWORKS
        }
        family = open_checkpoint(
            checkpoint,
            device=options.device,
            dtype=dtype,
            vae_dtype=dtype,
            control_folders=(Path(folder),),
        )
        counted = Counted(family)
        for network in networks.values():
            network.to(options.device).register_forward_pre_hook(counted.count, with_kwargs=True)
        renders = controlled(options.images, side)
        groups = [[each for each in renders if name_of(each) == name] for name in ("", *NETWORKS)]
        ways: dict[str, Callable[[], int]] = {
            "in flight together": lambda: in_flight(family, [renders], options.slots),
            "in flight, by network": lambda: in_flight(family, groups, options.slots),
            "diffusers, one by one": lambda: pipelines(checkpoint, networks, family, renders),
        }
        seconds: dict[str, list[float]] = {how: [] for how in ways}
        calls: dict[str, tuple[int, int, int]] = {}
        for _ in range(options.rounds):  # in turns, and the best of each: other load affects all
            for how, run in ways.items():
                counted.calls = counted.rows = 0
                start = time.perf_counter()
                unet_calls = run()
                seconds[how].append(time.perf_counter() - start)
                calls[how] = unet_calls, counted.calls, counted.rows
        table = Table(
            "how", "wall s", "UNet calls", "control calls", "their rows", title=f"{len(renders)} images"
        )
        for how in ways:
            table.add_row(how, f"{min(seconds[how]):.1f}", *map(str, calls[how]))
        console.print(table)


if __name__ == "__main__":
    main()
