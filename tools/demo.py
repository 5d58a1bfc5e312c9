"""`make demo`: render the sample pictures on an embedded farm, and show the results on a contact sheet."""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from img2img_producer import Farm, Picture
from img2img_shared.errors import FarmError
from img2img_shared.settings import Settings
from tools.contact_sheet import Section, Tile, write_sheet

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples"
FILLS = ("fill", "original", "latent noise", "latent nothing")
RESIZES = ("just resize", "crop and resize", "resize and fill", "latent upscale")
STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
GRID_STRENGTHS = (0.25, 0.4, 0.55, 0.7)
#: parameters of every job of the demo
BASE: dict[str, Any] = {
    "width": 128, "height": 128, "steps": 16, "cfg_scale": 3.0, "seed": 7, "seed_mode": "same",
    "sampler_name": "DPM++ 2M", "scheduler": "Karras",
}  # fmt: skip
PROMPTS = {
    "lake": "a flat illustration of a lake at sunset in autumn, clear sky",
    "village": "a flat illustration of a village in winter at night, falling snow",
    "coast": "a watercolour of the sea by day in summer",
    "windmill": "a flat illustration of hills with a windmill in spring at dawn",
    "mountains": "pixel art of mountains in autumn at sunset",
    "forest": "a flat illustration of a forest in winter, falling snow, by day",
    "lighthouse": "glowing neon lights, the coast with a lighthouse at night",
    "winter": "a flat illustration of a village in summer, by day, clear sky",
    "sketch": "a watercolour of a lake in spring, by day",
    "tiny": "an ink drawing of hills in summer, by day",
    "harbour": "a flat illustration of the sea with a boat at night in summer",
    "valley": "a watercolour of a mountain valley in autumn, by day",
}
GRID_PROMPTS = (
    "a flat illustration of a lake in winter, by day, falling snow",
    "a watercolour of a lake at sunset in autumn",
    "a mosaic of a lake at dawn in spring",
    "glowing neon lights, a lake at night in summer",
)


class Studio:
    """Submits jobs, and keeps their results as pictures and as files under `out`."""

    def __init__(self, farm: Farm, model: str | None, out: Path) -> None:
        self._farm, self._model, self._out = farm, model, out
        self._jobs: dict[str, tuple[str, int]] = {}
        self._done: dict[str, list[Image.Image]] = {}

    def submit(self, name: str, pictures: Sequence[Picture], **parameters: Any) -> None:
        """Submit a job under this name; its results will be in a folder of that name."""
        job = self._farm.submit(pictures, model=self._model, params={**BASE, **parameters})
        self._jobs[name] = job, len(pictures)

    def collect(self, console: Console) -> int:
        """Wait for all jobs, with a progress bar; the number of pictures that were rendered.

        Raises:
            FarmError: an image failed; says which and why.
        """
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        total = sum(count for _, count in self._jobs.values())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("painting", total=total)
            for name, (job, count) in self._jobs.items():
                found: dict[int, Image.Image] = {}
                for result in self._farm.results(job):
                    path = result.save(self._folder(name), overwrite=True)
                    found[result.index] = _opened(path).convert("RGB")
                    progress.advance(task)
                self._done[name] = [found[index] for index in range(count)]
        return total

    def results(self, name: str) -> list[Image.Image]:
        """A job's pictures, in the order of its inputs."""
        return self._done[name]

    def _folder(self, name: str) -> Path:
        folder = self._out / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def submit_all(studio: Studio) -> None:
    """Submit every job of the sheet."""
    studio.submit("samples", [Picture(image=_sample(n), prompt=p) for n, p in PROMPTS.items()],
                  denoising_strength=0.5, resize_mode=1)  # fmt: skip
    for mode in range(4):
        masked = [
            Picture(image=_sample(name), mask=SAMPLES / "masks" / f"{name}.png", prompt=prompt)
            for name, prompt in _MASKED.items()
        ]
        studio.submit(f"fill-{mode}", masked, denoising_strength=0.8, inpainting_fill=mode,
                      inpaint_full_res_padding=24)  # fmt: skip
        wide = Picture(
            image=_sample("mountains"), prompt="a flat illustration of mountains in spring, by day"
        )
        studio.submit(f"resize-{mode}", [wide], denoising_strength=0.45, resize_mode=mode)
    for strength in STRENGTHS:
        sweep = Picture(image=_sample("village"), prompt=PROMPTS["village"])
        studio.submit(f"strength-{strength}", [sweep], denoising_strength=strength, resize_mode=1)
    for strength in GRID_STRENGTHS:
        grid = [Picture(image=_sample("lake"), prompt=prompt) for prompt in GRID_PROMPTS]
        studio.submit(f"grid-{strength}", grid, denoising_strength=strength, resize_mode=1)


_MASKED = {
    "lake": "a flat illustration of a lake with a boat in summer, by day",
    "mountains": "a flat illustration of mountains in winter, by day, falling snow",
}


def sections(studio: Studio) -> list[Section]:
    """The sheet's contents, from finished jobs."""
    names = list(PROMPTS)
    pairs = [
        (Tile(f"{name} ({shape})", picture), Tile(PROMPTS[name], result))
        for name, result in zip(names, studio.results("samples"), strict=True)
        for picture, shape in [_shown(name)]
    ]
    before_after = [[tile for pair in pairs[k : k + 3] for tile in pair] for k in range(0, len(pairs), 3)]
    fills = [
        [
            Tile(f"{name} ({_shown(name)[1]})", _shown(name)[0]),
            Tile("mask", _opened(SAMPLES / "masks" / f"{name}.png")),
            *(Tile(f"{mode} {FILLS[mode]}", studio.results(f"fill-{mode}")[k]) for mode in range(4)),
        ]
        for k, name in enumerate(_MASKED)
    ]
    resizes = [
        Tile("mountains ({})".format(_shown("mountains")[1]), _shown("mountains")[0]),
        *(Tile(f"{mode} {RESIZES[mode]}", studio.results(f"resize-{mode}")[0]) for mode in range(4)),
    ]
    sweep = [Tile(f"strength {s}", studio.results(f"strength-{s}")[0]) for s in STRENGTHS]
    grid = [
        [
            Tile("lake" if k == 0 else "", _shown("lake")[0] if k == 0 else None),
            *(Tile(f"{s}: {_short(prompt)}", studio.results(f"grid-{s}")[k]) for s in GRID_STRENGTHS),
        ]
        for k, prompt in enumerate(GRID_PROMPTS)
    ]
    return [
        Section(
            title="Before and after",
            text="Twelve inputs of many kinds, denoising strength 0.5, each with a prompt of its own.",
            rows=before_after,
        ),
        Section(
            title="Fill modes",
            text="What the masked part starts from; only the masked part is repainted, at strength 0.8.",
            rows=fills,
        ),
        Section(title="Resize modes", text="A wide picture into a square, strength 0.45.", rows=[resizes]),
        Section(title="Denoising strength", text=f"A village, to be {PROMPTS['village']}.", rows=[sweep]),
        Section(title="Prompt and strength", text="One lake, four prompts, four strengths.", rows=grid),
    ]


def _sample(name: str) -> Path:
    return next(path for path in SAMPLES.glob(f"{name}.*") if path.is_file())


def _shown(name: str) -> tuple[Image.Image, str]:
    """A sample as it is displayed, and its size in words."""
    picture = ImageOps.exif_transpose(_opened(_sample(name)))
    return picture, f"{picture.width} x {picture.height}"


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
    return picture


def _short(prompt: str) -> str:
    return prompt.replace("a flat illustration of ", "").replace("glowing neon lights, ", "neon ")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "demo-output")
    parser.add_argument("--model", help="another checkpoint than the demo's own: folder or file")
    options = parser.parse_args()
    console = Console()
    out: Path = options.out
    farm_folder = out / ".farm"
    begun = time.monotonic()
    shutil.rmtree(farm_folder / "store", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with Farm(settings=Settings(redis_url=None, store_url=None, data_dir=farm_folder)) as farm:
            studio = Studio(farm, options.model, out)
            submit_all(studio)
            count = studio.collect(console)
    except FarmError as error:
        console.print(f"demo: {error}", style="red", markup=False)
        return 1
    took = time.monotonic() - begun
    sheet = out / "contact-sheet.png"
    text = f"{count} pictures painted on this machine in {took:.0f} s, through Redis, a worker and a store."
    write_sheet(sheet, "img2img-farm", text, sections(studio))
    console.print(f"{count} pictures in {took:.0f} s, in {out}", highlight=False)
    console.print(f"[bold]Contact sheet:[/bold] {sheet}", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
