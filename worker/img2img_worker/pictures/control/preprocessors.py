"""The preprocessors of A1111's ControlNet, with and without networks.

Each takes a picture uint8 [H, W, 3], the shorter side that it works at ("processor_res"), two thresholds
whose meaning is its own, and a seed; it returns uint8 [h, w, 3].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from img2img_shared.control_modules import CLIP_SIDE, MODULES, Module
from img2img_shared.errors import Refused, Summary
from img2img_worker.pictures.control.limits import LARGEST
from img2img_worker.pictures.control.poses import Poses
from img2img_worker.pictures.control.thinning import ridges

Pixels = NDArray[np.uint8]

#: runs the networks of a module, by its name, on [H, W, 3] with two thresholds: [H, W], [H, W, 3] or poses
Annotate = Callable[[str, Pixels, tuple[float, float]], Pixels | Poses]
#: the modules with networks: of depth, normals, segmentation, soft edges, lines, poses
NETWORKS = (
    *("depth", "depth_anything", "depth_anything_v2", "normal_bae", "segmentation"),
    *("hed", "hed_safe", "pidinet", "pidinet_safe", "pidinet_sketch"),
    *("lineart", "lineart_coarse", "lineart_anime", "mlsd"),
    *("openpose", "openpose_face", "openpose_faceonly", "openpose_hand", "openpose_full"),
    *("dw_openpose_full", "animal_openpose"),
)
#: the modules that turn the soft edges of another one into scribbles
_SCRIBBLED = {"scribble_hed": "hed", "pidinet_scribble": "pidinet"}
#: standard deviation, in pixels, of the blur that turns edges into scribbles
_SCRIBBLE = 3.0
#: side of a cell, in pixels, of the colour grid, and of the noise that shuffles a picture
_GRID, _SHUFFLE = 64, 256


class Preprocessed(NamedTuple):
    """The result of a preprocessor."""

    pixels: Pixels
    #: what the pixels were drawn from, if they show poses; in pixels of the padded picture
    poses: Poses | None = None


def no_annotator(module: str, _picture: Pixels, _numbers: tuple[float, float]) -> Pixels:
    """An `Annotate` without networks: it refuses."""
    raise Refused("control.module", module, "its network is not available here; use a module without one")


def preprocess(
    module: Module,
    picture: Pixels,
    resolution: float,
    thresholds: tuple[float, float],
    seed: int,
    annotate: Annotate = no_annotator,
) -> Preprocessed:
    """Run `module` on `picture`; the inpaint modules return it unchanged, with its mask.

    Args:
        seed: the seed of modules with randomness.
        annotate: runs its networks.

    Raises:
        Refused: a worker cannot run the module, or not on such a picture.
    """
    try:
        return _run_module(module, picture, resolution, thresholds, seed, annotate)
    except cv2.error as error:  # too few pixels are left after scaling, or OpenCV cannot use a threshold
        if error.code == cv2.Error.StsNoMem:
            raise
        height, width = picture.shape[:2]
        what = (
            f"{module.title} of {width} × {height} pixels, thresholds {thresholds[0]:g} and {thresholds[1]:g}"
        )
        reason = "OpenCV cannot do it; use a larger picture, other thresholds, or another module"
        raise Refused("control.module", Summary(what), reason) from error


def _run_module(
    module: Module,
    picture: Pixels,
    resolution: float,
    thresholds: tuple[float, float],
    seed: int,
    annotate: Annotate,
) -> Preprocessed:
    if module.name in NETWORKS:
        return _run_networks(module.name, picture, resolution, thresholds, annotate)
    if module.name in _SCRIBBLED:
        edges = _run_networks(_SCRIBBLED[module.name], picture, resolution, thresholds, annotate)
        return Preprocessed(_scribble(edges.pixels[:, :, 0]))
    if module.name not in _PREPROCESSORS:
        raise Refused("control.module", module.title, _reason(module))
    return Preprocessed(_PREPROCESSORS[module.name](picture, resolution, thresholds, seed))


def _run_networks(
    module: str, picture: Pixels, resolution: float, numbers: tuple[float, float], annotate: Annotate
) -> Preprocessed:
    found: list[Poses] = []

    def draw(scaled: Pixels) -> Pixels:
        annotation = annotate(module, scaled, numbers)
        if isinstance(annotation, Poses):
            found.append(annotation)
            return annotation.drawn()
        return annotation if annotation.ndim == 3 else _grey_to_rgb(annotation)

    return Preprocessed(_run_padded(picture, resolution, draw), *found)


def at_resolution(picture: Pixels, resolution: float) -> Pixels:
    """`picture` scaled so that its shorter side is `resolution`.

    Raises:
        Refused: the aspect is so extreme that more than `LARGEST` pixels would be needed.
    """
    factor = resolution / min(picture.shape[:2])
    height, width = (round(side * factor) for side in picture.shape[:2])
    _check_size(picture, width, height)
    interpolation = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, (width, height), interpolation=interpolation), np.uint8)


def _run_padded(picture: Pixels, resolution: float, work: Callable[[Pixels], Pixels]) -> Pixels:
    """Run `work` at `resolution`, padded to multiples of 64 as in A1111, since that changes the edges."""
    scaled = at_resolution(picture, resolution)
    height, width = scaled.shape[:2]
    padded = np.pad(scaled, ((0, -height % 64), (0, -width % 64), (0, 0)), mode="edge")
    return np.ascontiguousarray(work(padded)[:height, :width])


def _unchanged(picture: Pixels, _resolution: float, _numbers: tuple[float, float], _seed: int) -> Pixels:
    return picture


def _for_clip(picture: Pixels, _resolution: float, _numbers: tuple[float, float], _seed: int) -> Pixels:
    size = (CLIP_SIDE, CLIP_SIDE)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _canny(picture: Pixels, resolution: float, numbers: tuple[float, float], _seed: int) -> Pixels:
    low, high = (int(number) for number in numbers)
    return _run_padded(picture, resolution, lambda scaled: _grey_to_rgb(cv2.Canny(scaled, low, high)))


def _invert(picture: Pixels, _resolution: float, _numbers: tuple[float, float], _seed: int) -> Pixels:
    return 255 - picture


def _threshold(picture: Pixels, resolution: float, numbers: tuple[float, float], _seed: int) -> Pixels:
    return _run_padded(picture, resolution, lambda scaled: _white_where(scaled.min(axis=2) > numbers[0]))


def _blur(picture: Pixels, resolution: float, numbers: tuple[float, float], _seed: int) -> Pixels:
    return np.asarray(cv2.GaussianBlur(at_resolution(picture, resolution), (0, 0), numbers[0]), np.uint8)


def _xdog(picture: Pixels, resolution: float, numbers: tuple[float, float], _seed: int) -> Pixels:
    def edges(scaled: Pixels) -> Pixels:
        values = scaled.astype(np.float32)
        fine, coarse = (cv2.GaussianBlur(values, (0, 0), sigma) for sigma in (0.5, 5.0))
        difference = (255 - np.min(coarse - fine, axis=2)).clip(0, 255).astype(np.uint8)
        # doubling wraps around in 8 bits, as it does in the extension
        return _white_where(2 * (255 - difference) > numbers[0])

    return _run_padded(picture, resolution, edges)


def _tile(picture: Pixels, _resolution: float, numbers: tuple[float, float], _seed: int) -> Pixels:
    rate = numbers[0]
    if rate < 1.1:
        return picture
    height, width = (int(side / rate) for side in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _colour_grid(picture: Pixels, resolution: float, _numbers: tuple[float, float], _seed: int) -> Pixels:
    height, width = picture.shape[:2]
    side = int(resolution)
    size = (round(width / height * side), side) if height < width else (side, round(height / width * side))
    _check_size(picture, *size)
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    cells = (size[0] // _GRID, size[1] // _GRID)
    small = cv2.resize(scaled, cells, interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _luminance(picture: Pixels, _resolution: float, numbers: tuple[float, float], _seed: int) -> Pixels:
    return _gamma(cv2.cvtColor(picture, cv2.COLOR_BGR2LAB)[:, :, 0], numbers[0])


def _intensity(picture: Pixels, _resolution: float, numbers: tuple[float, float], _seed: int) -> Pixels:
    return _gamma(cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)[:, :, 2], numbers[0])


def _shuffle(picture: Pixels, resolution: float, _numbers: tuple[float, float], seed: int) -> Pixels:
    scaled = at_resolution(picture, resolution)
    height, width = scaled.shape[:2]
    random = np.random.RandomState(seed)
    across = (_noise_disk(random, height, width) * float(width - 1)).astype(np.float32)
    down = (_noise_disk(random, height, width) * float(height - 1)).astype(np.float32)
    return np.asarray(cv2.remap(scaled, across, down, cv2.INTER_LINEAR), np.uint8)


def _lineart(picture: Pixels, resolution: float, _numbers: tuple[float, float], _seed: int) -> Pixels:
    def lines(scaled: Pixels) -> Pixels:
        values = scaled.astype(np.float32)
        darker = np.min(cv2.GaussianBlur(values, (0, 0), 6.0) - values, axis=2).clip(0, 255)
        darker /= max(16, np.median(darker[darker > 8]))
        return _grey_to_rgb((darker * 127).clip(0, 255).astype(np.uint8))

    return _run_padded(picture, resolution, lines)


def _scribble(edges: Pixels) -> Pixels:
    """Soft edges [H, W] as strokes of a broad pen, [H, W, 3]."""
    smooth = np.asarray(cv2.GaussianBlur(edges.astype(np.float32), (0, 0), _SCRIBBLE), np.float32)
    thin = np.where(ridges(smooth) > 127, np.uint8(255), np.uint8(0))
    return _white_where(np.asarray(cv2.GaussianBlur(thin, (0, 0), _SCRIBBLE)) > 4)


def _noise_disk(random: np.random.RandomState, height: int, width: int) -> NDArray[np.float64]:
    """Smooth noise [H, W] from 0 to 1."""
    cell = _SHUFFLE
    coarse = random.uniform(0, 1, (height // cell + 2, width // cell + 2, 1))
    size = (width + 2 * cell, height + 2 * cell)
    noise = np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))
    noise = noise[cell : cell + height, cell : cell + width]
    noise -= noise.min()
    return np.asarray(noise / noise.max())


def _check_size(picture: Pixels, width: int, height: int) -> None:
    if width * height > LARGEST:
        own = f"{picture.shape[1]} × {picture.shape[0]} pixels, to be scaled to {width} × {height}"
        reason = f"use a squarer picture, or a lower processor_res (at most {LARGEST:,} pixels)"
        raise Refused("control", Summary(own), reason)


def _gamma(values: NDArray[Any], exponent: float) -> Pixels:
    shares = (values.astype(np.float32) / 255.0) ** exponent
    return _grey_to_rgb((shares * 255.0).clip(0, 255).astype(np.uint8))


def _white_where(found: NDArray[np.bool_]) -> Pixels:
    return _grey_to_rgb(np.where(found, np.uint8(255), np.uint8(0)))


def _grey_to_rgb(values: NDArray[np.generic]) -> Pixels:
    return np.asarray(np.repeat(values[:, :, None], 3, axis=2), np.uint8)


def _reason(module: Module) -> str:
    """Why a module cannot be run here."""
    if not module.needs_network:
        return "modules without a control network are not supported here; choose another"
    if module.recognises_faces:
        reason = "it recognises faces, which needs insightface, and that is not supported here"
        return f"{reason}; use ip-adapter-auto with an IP-Adapter that works with CLIP"
    here = ", ".join(MODULES[name].title for name in _PREPROCESSORS)
    return f"it needs weights of its own, which are not supported here; use one of {here}"


_PREPROCESSORS: dict[str, Callable[[Pixels, float, tuple[float, float], int], Pixels]] = {
    "none": _unchanged,
    "canny": _canny,
    "invert": _invert,
    "threshold": _threshold,
    "blur_gaussian": _blur,
    "scribble_xdog": _xdog,
    "tile_resample": _tile,
    "tile_colorfix": _unchanged,
    "tile_colorfix+sharp": _unchanged,
    "color": _colour_grid,
    "recolor_luminance": _luminance,
    "recolor_intensity": _intensity,
    "shuffle": _shuffle,
    "lineart_standard": _lineart,
    "ip-adapter-auto": _for_clip,
    "ip-adapter_clip_sd15": _for_clip,
    "ip-adapter_clip_sdxl": _for_clip,
    "ip-adapter_clip_sdxl_plus_vith": _for_clip,
    "reference_only": _unchanged,
    "reference_adain": _unchanged,
    "reference_adain+attn": _unchanged,
    "inpaint": _unchanged,
    "inpaint_only": _unchanged,
}
