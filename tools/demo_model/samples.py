"""Draws the sample pictures of `make demo`: many sizes, shapes and kinds of files, and some masks."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tools.demo_model.labels import Scene
from tools.demo_model.scenes import draw

#: EXIF's orientation tag, and its value "turn by 90° clockwise to view"
ORIENTATION, CLOCKWISE = 0x0112, 6


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample: its scene, size as seen, file kind and mask."""

    name: str
    scene: Scene
    size: tuple[int, int]
    #: "png", "rgba", "palette", "jpeg" or "turned"
    kind: str
    #: the mask's ellipse (centre x, y, radius x, y) in fractions of width and height; None: no mask
    mask: tuple[float, float, float, float] | None = None


def _scene(place: str, time: str, season: str, weather: str, style: str, layout: int) -> Scene:
    return Scene(place=place, time=time, season=season, weather=weather, style=style, layout=layout)


SAMPLES = (
    Sample(
        name="lake",
        scene=_scene("lake", "day", "summer", "clear", "flat", 3),
        size=(320, 320),
        kind="png",
        mask=(0.2, 0.57, 0.19, 0.2),
    ),
    Sample(
        name="village",
        scene=_scene("village", "dawn", "spring", "clear", "flat", 5),
        size=(448, 320),
        kind="jpeg",
        mask=(0.5, 0.5, 0.3, 0.25),
    ),
    Sample(
        name="coast",
        scene=_scene("coast", "sunset", "summer", "clear", "flat", 11),
        size=(288, 384),
        kind="turned",
    ),
    Sample(
        name="windmill",
        scene=_scene("hills", "day", "autumn", "cloudy", "flat", 4),
        size=(256, 256),
        kind="palette",
    ),
    Sample(
        name="mountains",
        scene=_scene("mountains", "day", "spring", "clear", "flat", 9),
        size=(512, 288),
        kind="jpeg",
        mask=(0.5, 0.3, 0.5, 0.3),
    ),
    Sample(
        name="forest",
        scene=_scene("forest", "day", "summer", "clear", "watercolour", 6),
        size=(301, 227),
        kind="png",
        mask=(0.5, 0.72, 0.24, 0.26),
    ),
    Sample(
        name="lighthouse",
        scene=_scene("coast", "day", "summer", "cloudy", "flat", 12),
        size=(256, 320),
        kind="rgba",
    ),
    Sample(
        name="winter",
        scene=_scene("village", "night", "winter", "snowy", "flat", 21),
        size=(384, 256),
        kind="jpeg",
    ),
    Sample(
        name="sketch", scene=_scene("lake", "day", "autumn", "clear", "ink", 14), size=(253, 317), kind="png"
    ),
    Sample(
        name="tiny", scene=_scene("hills", "dawn", "summer", "clear", "pixel", 17), size=(97, 71), kind="png"
    ),
    Sample(
        name="harbour",
        scene=_scene("coast", "sunset", "spring", "cloudy", "mosaic", 26),
        size=(240, 200),
        kind="jpeg",
    ),
    Sample(
        name="valley",
        scene=_scene("mountains", "dawn", "winter", "clear", "flat", 31),
        size=(240, 333),
        kind="jpeg",
    ),
)


def write(folder: Path) -> list[Path]:
    """Draw all samples into `folder`, their masks into `folder/masks`; old ones are replaced."""
    cv2.setNumThreads(1)
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    written = []
    for sample in SAMPLES:
        written.append(_write_picture(folder, sample))
        if sample.mask is not None:
            written.append(_write_mask(folder / "masks", sample, sample.mask))
    return written


def _write_picture(folder: Path, sample: Sample) -> Path:
    picture = draw(sample.scene, *sample.size, fineness=3)
    if sample.kind in ("jpeg", "turned"):
        path = folder / f"{sample.name}.jpg"
        exif = Image.Exif()
        if sample.kind == "turned":
            exif[ORIENTATION] = CLOCKWISE
            picture = picture.transpose(Image.Transpose.ROTATE_90)
        picture.save(path, quality=90, exif=exif)
        return path
    path = folder / f"{sample.name}.png"
    if sample.kind == "palette":
        picture = picture.quantize(128, dither=Image.Dither.NONE)
    elif sample.kind == "rgba":
        picture.putalpha(_oval(sample.size, (0.5, 0.5, 0.47, 0.47), soft=6))
    picture.save(path, optimize=True)
    return path


def _write_mask(folder: Path, sample: Sample, oval: tuple[float, float, float, float]) -> Path:
    path = folder / f"{sample.name}.png"
    _oval(sample.size, oval, soft=0).save(path, optimize=True)
    return path


def _oval(size: tuple[int, int], oval: tuple[float, float, float, float], soft: float) -> Image.Image:
    width, height = size
    x, y, rx, ry = np.asarray(oval) * np.asarray((width, height, width, height)) * 4
    large = Image.new("L", (width * 4, height * 4))
    ImageDraw.Draw(large).ellipse((x - rx, y - ry, x + rx, y + ry), fill=255)
    small = large.resize(size, Image.Resampling.BOX)
    return small.filter(ImageFilter.GaussianBlur(soft)) if soft else small


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the sample pictures.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("samples"))
    for path in write(parser.parse_args().folder):
        print(path)


if __name__ == "__main__":
    main()
