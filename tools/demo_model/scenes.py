"""Draws a scene: sky, ground, water and weather, then the style over everything."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tools.demo_model import light as hues
from tools.demo_model import styles
from tools.demo_model.labels import Scene
from tools.demo_model.light import LIGHTS, Light, as_float, shade
from tools.demo_model.paint import Array, Layer, mix, noise
from tools.demo_model.places import Layout, Ridge, lay_out
from tools.demo_model.things import draw as draw_thing

_COVER = {"clear": 0.75, "cloudy": -0.55, "foggy": -0.1, "rainy": -1.1, "snowy": -0.9}
_GREY = {"clear": 0.0, "cloudy": 0.22, "foggy": 0.3, "rainy": 0.42, "snowy": 0.3}
_THICK = {"clear": 0.8, "cloudy": 1.0, "foggy": 1.7, "rainy": 1.4, "snowy": 1.3}


def draw(scene: Scene, width: int, height: int, fineness: int = 2) -> Image.Image:
    """The scene as an RGB picture, drawn `fineness` times as large and averaged down."""
    w, h = width * fineness, height * fineness
    pixels = _paint(scene, w, h)
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    small = styles.afterwards(scene, small)
    return Image.fromarray((np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8))


def _paint(scene: Scene, w: int, h: int) -> Array:
    light = LIGHTS[scene.time]
    layout = lay_out(scene.place, scene.layout, w / h)
    rng = np.random.default_rng((scene.layout, 2))
    haze = _greyed(as_float(light.haze), scene, light)
    thickness = _THICK[scene.weather]
    grain = noise(rng, h, w, 24) * (0.02 if scene.style in ("flat", "pixel") else 0.045)

    picture = _sky(scene, light, layout, rng, w, h)
    back = Layer(w, h)
    for ridge in layout.back:
        _draw_ridge(back, ridge, scene, layout.water)
    for thing in layout.behind:
        draw_thing(thing, back, scene)
    picture = back.over(picture, light, haze, thickness, grain)
    if layout.water is not None:
        picture = _water(picture, scene, light, layout.water, layout.sun[0], rng)
    if scene.weather == "foggy":
        picture = _fog(picture, haze, rng, layout.water or 0.62)
    front = Layer(w, h)
    for ridge in layout.front:
        _draw_ridge(front, ridge, scene, None)
    if layout.path is not None:
        _path(front, layout.path, scene)
    _speckle(front, layout, scene, rng)
    for thing in layout.before:
        draw_thing(thing, front, scene)
    picture = front.over(picture, light, haze, thickness, grain)
    if scene.weather == "foggy":
        picture = mix(picture, haze, 0.16)
    if scene.weather in ("rainy", "snowy"):
        picture = _falling(picture, scene, light, rng)
    return styles.apply(scene, np.clip(picture, 0, 1), rng)


def _greyed(colour: Array, scene: Scene, light: Light) -> Array:
    grey = as_float((150, 156, 164)) * np.asarray(light.tint, np.float32)
    return mix(colour, grey, _GREY[scene.weather] * 1.2)


def _sky(scene: Scene, light: Light, layout: Layout, rng: np.random.Generator, w: int, h: int) -> Array:
    ys = np.linspace(0, 1, h, dtype=np.float32)[:, None]
    xs = np.linspace(0, w / h, w, dtype=np.float32)[None]
    stops = np.stack([_greyed(as_float(c), scene, light) for c in light.sky])
    column = np.stack([np.interp(ys[:, 0], (0.0, 0.3, 0.6), stops[:, c]) for c in range(3)], 1)
    sky = np.repeat(column[:, None].astype(np.float32), w, 1)
    sun_x, sun_y = layout.sun
    if scene.time in ("dawn", "sunset"):
        sun_y += 0.16
    distance = np.sqrt((xs - sun_x) ** 2 + (ys - sun_y) ** 2)
    veil = {"clear": 1.0, "cloudy": 0.55, "foggy": 0.5, "rainy": 0.15, "snowy": 0.15}[scene.weather]
    halo = np.exp(-((distance / 0.2) ** 1.2)) * (0.6 if scene.time != "night" else 0.45) * veil
    sky = mix(sky, light.halo, halo[..., None])
    if scene.time == "night":
        sky = _stars(sky, rng, veil)
    else:
        rng.random((60, 4))
    edge = 1.5 / h
    disc = np.clip((0.052 - distance) / edge, 0, 1)
    if scene.time == "night":
        bite = np.sqrt((xs - sun_x - 0.03) ** 2 + (ys - sun_y + 0.014) ** 2)
        disc *= np.clip((bite - 0.044) / edge, 0, 1)
    core = {
        "dawn": (255, 236, 196),
        "day": (255, 250, 214),
        "sunset": (255, 214, 120),
        "night": (248, 246, 226),
    }
    sky = mix(sky, core[scene.time], (disc * min(1.0, veil * 1.4))[..., None])

    bank = noise(rng, h, w, 3.2, 2.6)
    cover = np.clip((bank - _COVER[scene.weather] - 1.6 * (ys - 0.25)) * 0.9, 0, 1)
    lit = cv2.GaussianBlur(bank, (0, 0), h / 60)
    lit = np.clip(0.5 + (lit - np.roll(lit, -h // 40, 0)) * 1.6, 0, 1)[..., None]
    cloud = mix(
        _greyed(as_float(light.cloud_shade), scene, light), _greyed(as_float(light.cloud), scene, light), lit
    )
    return mix(sky, cloud, (cover * 0.85)[..., None])


def _stars(sky: Array, rng: np.random.Generator, veil: float) -> Array:
    h, w = sky.shape[:2]
    field = np.zeros((h, w), np.float32)
    for x, y, bright, large in rng.random((60, 4)):
        radius = max(1, round(h / 256 * (1 + large)))
        cv2.circle(field, (int(x * w), int(y**1.4 * 0.6 * h)), radius, float(0.35 + 0.65 * bright), -1)
    return np.asarray(sky + field[..., None] * veil * np.asarray((0.8, 0.8, 0.7), np.float32), np.float32)


def _crest(ridge: Ridge, xs: NDArray[np.float64]) -> NDArray[np.float64]:
    rng = np.random.default_rng(ridge.seed)
    phases, sizes = rng.random(5) * 2 * np.pi, rng.random(5)
    total = sum(
        np.sin(xs * ridge.waves * (1.8**k) * 2 * np.pi + phases[k])
        * 2.0 ** -(k * 1.3)
        * 0.5
        * (0.5 + sizes[k])
        for k in range(4)
    )
    return np.asarray(ridge.y - ridge.swing * total)


def _draw_ridge(layer: Layer, ridge: Ridge, scene: Scene, foot: float | None) -> None:
    bottom = 1.02 if foot is None else foot
    if ridge.kind == "mountain":
        _mountains(layer, ridge, scene, min(bottom, ridge.y + 0.3))
        return
    xs = np.linspace(-0.02, layer.aspect + 0.02, 90)
    ys = _crest(ridge, xs)
    index = {"far": 0, "middle": 1, "near": 2}.get(ridge.kind, 0)
    colour = hues.GRASS[scene.season][index]
    if ridge.kind == "sand":
        colour = (226, 230, 238) if scene.season == "winter" else (236, 212, 160)
    for k in range(4):
        drop = 0.045 * k * (1 + 0.4 * k)
        low = np.minimum(ys + drop, bottom)
        points = [*zip(xs, low, strict=True), (layer.aspect + 0.02, bottom), (-0.02, bottom)]
        layer.polygon(points, shade(colour, 1.06 - 0.075 * k), ridge.haze * (1 - 0.12 * k))


def _mountains(layer: Layer, ridge: Ridge, scene: Scene, foot: float) -> None:
    """Peaks, the far ones first, each with a lit and a dark flank and snow down to the season's line."""
    rng = np.random.default_rng(ridge.seed)
    line = {"spring": 0.4, "summer": 0.24, "autumn": 0.32, "winter": 0.75}[scene.season]
    count = max(3, round(ridge.waves * 3 * layer.aspect))
    rough = rng.random((count, 5))
    for k in np.argsort(rough[:, 0])[::-1]:
        x = float((k + 0.2 + 0.6 * rough[k, 1]) / count * layer.aspect)
        top = ridge.y - ridge.swing * (0.75 - 1.1 * rough[k, 0])
        high = foot - top
        left, right = high * (0.75 + 0.4 * rough[k, 2]), high * (0.75 + 0.4 * rough[k, 3])
        keel = x + high * 0.25 * (rough[k, 4] - 0.3)
        haze = ridge.haze * (0.85 + 0.3 * (1 - rough[k, 0]))
        layer.polygon([(x - left, foot), (x, top), (x + right, foot)], shade(hues.ROCK, 1.12), haze)
        bend = [(x, top), (x + 0.02, top + high * 0.25), (x - 0.01, top + high * 0.45), (keel, foot)]
        layer.polygon([*bend, (x + right, foot)], shade(hues.ROCK, 0.8), haze)
        for side, width, white in ((-1, left, hues.SNOW), (1, right, shade(hues.SNOW, 0.84))):
            teeth = [
                (0.0, line * 0.9),
                (0.25, line * 0.75),
                (0.5, line * 1.05),
                (0.75, line * 0.8),
                (1.0, line),
            ]
            edge = [(x + side * width * f * down, top + high * down) for f, down in teeth]
            layer.polygon([(x, top), *edge], white, haze)


def _water(
    picture: Array, scene: Scene, light: Light, shore: float, sun_x: float, rng: np.random.Generator
) -> Array:
    h, w = picture.shape[:2]
    top = int(shore * h)
    depth = h - top
    rows = np.arange(depth, dtype=np.float32)
    far = rows / depth
    swell = noise(rng, depth, w, 26 * depth / h + 2, 5.0)
    mirror_y = np.clip(top - 1 - rows[:, None] * 1.05 + swell * (1 + 4 * far[:, None]) * h / 300, 0, h - 1)
    mirror_x = np.clip(
        np.arange(w, dtype=np.float32)[None] + swell * (1 + 5 * far[:, None]) * h / 400, 0, w - 1
    )
    mirrored = cv2.remap(picture, mirror_x.astype(np.float32), mirror_y.astype(np.float32), cv2.INTER_LINEAR)
    deep = as_float((46, 108, 150) if scene.season != "winter" else (150, 184, 208)) * np.asarray(
        light.tint, np.float32
    )
    deep = _greyed(deep, scene, light)
    amount = (0.28 + 0.34 * far)[:, None, None]
    if scene.weather in ("rainy", "foggy", "snowy"):
        amount = amount + 0.15
    water = mix(np.asarray(mirrored, np.float32), deep, amount)
    water *= (1 + 0.07 * swell)[..., None]
    glint = np.exp(-((((np.arange(w) / h)[None] - sun_x) / (0.05 + 0.12 * far[:, None])) ** 2))
    glint = glint * np.clip(swell - 0.15, 0, 1) * (0.9 if scene.weather == "clear" else 0.3)
    water = mix(water, light.halo, np.clip(glint, 0, 0.85).astype(np.float32)[..., None])
    result = picture.copy()
    result[top:] = water
    return result


def _fog(picture: Array, haze: Array, rng: np.random.Generator, height: float) -> Array:
    h, w = picture.shape[:2]
    ys = np.linspace(0, 1, h, dtype=np.float32)[:, None]
    bank = np.clip(1 + 0.35 * noise(rng, h, w, 4, 4.0), 0.3, 1.6)
    amount = np.clip(0.78 * np.exp(-(((ys - height) / 0.3) ** 2)) * bank, 0, 0.9)
    return mix(picture, haze, amount[..., None])


def _path(layer: Layer, end: tuple[float, float], scene: Scene) -> None:
    x, y = end
    steps = np.linspace(0, 1, 24)
    start = layer.aspect * 0.5 + (layer.aspect * 0.5 - x) * 0.6
    centre = start + (x - start) * steps + 0.09 * np.sin(steps * np.pi * 2) * (1 - steps)
    level = 1.02 + (y - 1.02) * steps**0.8
    half = 0.13 * (1 - steps) ** 1.4 + 0.012
    left = list(zip(centre - half, level, strict=True))
    right = list(zip(centre + half, level, strict=True))
    layer.polygon(left + right[::-1], shade(hues.PATH[scene.season], 0.9))
    inner = (
        list(zip(centre - half * 0.7, level, strict=True))
        + list(zip(centre + half * 0.8, level, strict=True))[::-1]
    )
    layer.polygon(inner, hues.PATH[scene.season])


def _speckle(layer: Layer, layout: Layout, scene: Scene, rng: np.random.Generator) -> None:
    """Flowers, leaves or bumps of snow in the foreground."""
    count = round(46 * layer.aspect)
    places = rng.random((count, 4))
    ridge = layout.front[0]
    if ridge.kind == "sand" or scene.style in ("ink", "glow"):
        return
    colours = hues.PETALS[scene.season]
    crest = _crest(ridge, places[:, 0] * layer.aspect)
    for (px, py, size, pick), top in zip(places, crest, strict=True):
        y = top + 0.03 + (0.98 - top) * py
        r = 0.003 + 0.007 * py * (0.5 + size)
        layer.ellipse(px * layer.aspect, y, r * 1.2, r, colours[int(pick * len(colours))])


def _falling(picture: Array, scene: Scene, light: Light, rng: np.random.Generator) -> Array:
    h, w = picture.shape[:2]
    sheet = Image.new("L", (w, h))
    pen = ImageDraw.Draw(sheet)
    if scene.weather == "rainy":
        for x, y, long, bright in rng.random((round(110 * w / h), 4)):
            length = h * (0.04 + 0.05 * long)
            px, py = x * w * 1.1, y * h * 1.1 - 0.05 * h
            pen.line(
                [(px, py), (px - length * 0.28, py + length)],
                fill=int(90 + 110 * bright),
                width=max(1, h // 150),
            )
        amount, colour = 0.62, as_float((214, 226, 238))
    else:
        for x, y, size, bright in rng.random((round(150 * w / h), 4)):
            r = h * (0.003 + 0.007 * size**2)
            pen.ellipse([x * w - r, y * h - r, x * w + r, y * h + r], fill=int(150 + 105 * bright))
        amount, colour = 0.92, as_float((255, 255, 255))
    tint = 0.45 + 0.55 * np.asarray(light.tint, np.float32)
    cover = np.asarray(sheet, np.float32)[..., None] * (amount / 255)
    return mix(picture, colour * tint, cover)
