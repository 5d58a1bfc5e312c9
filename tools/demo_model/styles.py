"""The styles flat, watercolour, ink, mosaic, pixel and glow, as filters of the lit scene."""

import cv2
import numpy as np

from tools.demo_model.labels import Scene
from tools.demo_model.light import as_float
from tools.demo_model.paint import Array, mix, noise

_PAPER = as_float((250, 244, 230))


def apply(scene: Scene, picture: Array, rng: np.random.Generator) -> Array:
    """The style at the size of the drawing; `picture` and the result are [H, W, 3] in 0..1."""
    match scene.style:
        case "watercolour":
            return _watercolour(picture, rng)
        case "ink":
            return _ink(picture, rng)
        case "mosaic":
            return _mosaic(picture, rng)
        case "glow":
            return _glow(picture, rng)
    return picture


def afterwards(scene: Scene, picture: Array) -> Array:
    """The part of a style that works at the final size; only the pixel style has one."""
    return _pixel(picture) if scene.style == "pixel" else picture


def _grey(picture: Array) -> Array:
    return np.asarray(picture @ np.asarray((0.3, 0.59, 0.11), np.float32), np.float32)


def _edges(picture: Array, radius: float) -> Array:
    """Strength of contours, about 0..1."""
    soft = cv2.GaussianBlur(picture, (0, 0), radius)
    dx = cv2.Sobel(soft, cv2.CV_32F, 1, 0, ksize=3)
    dy = cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=3)
    return np.asarray(np.sqrt(dx * dx + dy * dy).max(2), np.float32)


def _watercolour(picture: Array, rng: np.random.Generator) -> Array:
    h, w = picture.shape[:2]
    wobble = noise(rng, h, w, 14) * (h / 260)
    ys, xs = np.mgrid[0:h, 0:w].astype(np.float32)
    picture = cv2.remap(
        picture, xs + wobble, ys + np.roll(wobble, h // 3, 0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    soft = cv2.GaussianBlur(
        cv2.medianBlur((np.clip(picture, 0, 1) * 255).astype(np.uint8), 3), (0, 0), h / 300
    )
    wash = soft.astype(np.float32) / 255
    rim = np.clip(_edges(wash, h / 200) * 0.32, 0, 0.3)[..., None]
    wash = wash * (1 - rim)
    pigment = np.clip(0.16 + 0.07 * noise(rng, h, w, 5), 0.03, 0.4)[..., None]
    wash = mix(wash, _PAPER, pigment)
    wash *= (1 + 0.02 * noise(rng, h, w, 70))[..., None]
    border = np.minimum(np.minimum(xs, w - 1 - xs), np.minimum(ys, h - 1 - ys)) / h
    inside = np.clip((border - 0.03 + 0.012 * noise(rng, h, w, 12)) / 0.018, 0, 1)[..., None]
    return mix(np.broadcast_to(_PAPER, wash.shape).astype(np.float32), wash, inside)


def _ink(picture: Array, rng: np.random.Generator) -> Array:
    h, w = picture.shape[:2]
    grey = cv2.GaussianBlur(_grey(picture), (0, 0), h / 120)
    tinted = mix(mix(picture, cv2.GaussianBlur(picture, (0, 0), h / 60), 0.6), _PAPER, 0.3)
    ys, xs = np.mgrid[0:h, 0:w].astype(np.float32)
    sway = noise(rng, h, w, 5) * h / 200
    period = h / 36
    dark = np.clip((0.62 - grey) * 2.2, 0, 1)
    first = np.sin((xs + ys + sway) * (2 * np.pi / period))
    hatch = np.clip((first - 1 + dark * 1.5) * 3, 0, 1) * 0.5
    lines = np.clip(_edges(picture, h / 330) * 2.0 - 0.3, 0, 1)
    ink = np.clip(np.maximum(hatch, lines), 0, 1)[..., None]
    return mix(tinted, (30, 26, 40), ink * 0.88)


def _mosaic(picture: Array, rng: np.random.Generator) -> Array:
    h, w = picture.shape[:2]
    size = h / 16
    rows, columns = int(np.ceil(h / size)) + 2, int(np.ceil(w / size)) + 2
    jitter = 0.5 + (rng.random((rows, columns, 2), dtype=np.float32) - 0.5) * 0.55
    ys, xs = np.mgrid[0:h, 0:w].astype(np.float32)
    gy, gx = (ys / size).astype(int) + 1, (xs / size).astype(int) + 1
    first = np.full((h, w), 1e9, np.float32)
    second = first.copy()
    nearest = np.zeros((h, w), np.int32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            r, c = np.clip(gy + dy, 0, rows - 1), np.clip(gx + dx, 0, columns - 1)
            py, px = (r - 1 + jitter[r, c, 0]) * size, (c - 1 + jitter[r, c, 1]) * size
            distance = np.sqrt((ys - py) ** 2 + (xs - px) ** 2)
            closer = distance < first
            second = np.where(closer, first, np.minimum(second, distance))
            nearest = np.where(closer, r * columns + c, nearest)
            first = np.where(closer, distance, first)
    count = np.bincount(nearest.ravel(), minlength=rows * columns).clip(1)
    means = [np.bincount(nearest.ravel(), picture[..., k].ravel(), rows * columns) / count for k in range(3)]
    tiles = np.stack(means, 1).astype(np.float32)
    tiles *= 1 + 0.09 * rng.standard_normal((rows * columns, 1), dtype=np.float32)
    tiles = np.clip((tiles - 0.5) * 1.12 + 0.5, 0, 1)
    body = tiles[nearest]
    gap = second - first
    grout = np.clip(1 - (gap - size * 0.07) / (size * 0.09), 0, 1)[..., None]
    shine = np.clip(1 - gap / (size * 0.8), 0, 1)[..., None]
    return mix(body * (1.05 - 0.14 * shine), (70, 64, 66), grout * 0.8)


def _glow(picture: Array, rng: np.random.Generator) -> Array:
    h, w = picture.shape[:2]
    grey = _grey(picture)[..., None]
    vivid = np.clip(grey + (picture - grey) * 1.9, 0, 1)
    dark = vivid * 0.26 + np.asarray((0.015, 0.01, 0.05), np.float32)
    bright = vivid / np.maximum(vivid.max(2, keepdims=True), 0.2)
    edge = np.clip(_edges(picture, h / 170) * 1.5 - 0.1, 0, 1)[..., None]
    neon = bright * edge
    for x, y, size in rng.random((14, 3)):
        at = (int(x * w), int((0.55 + 0.42 * y) * h))
        tone = bright[min(at[1], h - 1), min(at[0], w - 1)]
        cv2.circle(
            neon, at, max(1, round(h * (0.006 + 0.006 * size))), tuple(float(c) for c in tone * 0.5 + 0.5), -1
        )
    bloom = cv2.GaussianBlur(neon, (0, 0), h / 22) * 1.3 + cv2.GaussianBlur(neon, (0, 0), h / 70) * 0.8
    return np.asarray(np.clip(dark + neon * 0.85 + bloom, 0, 1), np.float32)


def _pixel(picture: Array) -> Array:
    h, w = picture.shape[:2]
    block = max(2, round(h / 32))
    rows, columns = -(-h // block), -(-w // block)
    small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
    small = np.round(np.clip((small - 0.5) * 1.1 + 0.5, 0, 1) * 10) / 10
    grown = np.repeat(np.repeat(small, block, 0), block, 1)
    return np.asarray(np.clip(grown[:h, :w], 0, 1), np.float32)
