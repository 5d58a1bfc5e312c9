"""Trees, houses, boats, people: each drawn into a layer from its own seed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tools.demo_model import light as hues
from tools.demo_model.labels import Scene
from tools.demo_model.light import Colour, shade
from tools.demo_model.paint import Layer

WALLS: tuple[Colour, ...] = ((232, 214, 186), (214, 120, 92), (240, 232, 216), (188, 98, 74), (222, 190, 120))
ROOFS: tuple[Colour, ...] = ((156, 62, 48), (108, 70, 66), (84, 88, 104), (170, 88, 50))
COATS: tuple[Colour, ...] = ((200, 46, 50), (40, 84, 160), (236, 180, 50), (90, 60, 110), (40, 120, 100))
LAMP: Colour = (255, 196, 96)


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One thing: its foot at (x, y), `size` its height, `haze` its distance 0..1."""

    kind: str
    x: float
    y: float
    size: float
    haze: float
    seed: int


def draw(thing: Thing, layer: Layer, scene: Scene) -> None:
    """Draw the thing for the scene's season and hour."""
    _DRAW[thing.kind](thing, layer, scene, np.random.default_rng(thing.seed))


def _pine(thing: Thing, layer: Layer, scene: Scene, rng: np.random.Generator) -> None:
    x, y, s, haze = thing.x, thing.y, thing.size, thing.haze
    base = shade(hues.NEEDLES[scene.season], 0.85 + 0.3 * rng.random())
    width = s * (0.22 + 0.06 * rng.random())
    layer.polygon(
        [(x - s * 0.03, y), (x + s * 0.03, y), (x + s * 0.02, y - s * 0.3), (x - s * 0.02, y - s * 0.3)],
        (92, 66, 48),
        haze,
    )
    for i in range(4):
        low, high = y - s * (0.1 + 0.2 * i), y - s * (0.46 + 0.18 * i)
        w = width * (1 - 0.2 * i)
        layer.polygon([(x - w, low), (x, high), (x + w, low)], shade(base, 0.86 + 0.06 * i), haze)
        layer.polygon([(x, low), (x, high), (x + w, low)], shade(base, 0.7 + 0.05 * i), haze)
        if scene.season == "winter":
            cap = (high + low) / 2
            layer.polygon(
                [(x - w * 0.5, cap), (x, high), (x + w * 0.5, cap), (x, cap - s * 0.05)], hues.SNOW, haze
            )


def _tree(thing: Thing, layer: Layer, scene: Scene, rng: np.random.Generator) -> None:
    x, y, s, haze = thing.x, thing.y, thing.size, thing.haze
    bark: Colour = (96, 70, 54)
    leaves = hues.LEAVES[scene.season]
    leaf = leaves[int(rng.random() * len(leaves))]
    lean = (rng.random() - 0.5) * 0.1 * s
    layer.polygon(
        [
            (x - s * 0.05, y),
            (x + s * 0.05, y),
            (x + lean + s * 0.025, y - s * 0.55),
            (x + lean - s * 0.025, y - s * 0.55),
        ],
        bark,
        haze,
    )
    if scene.season == "winter":
        _branches(layer, rng, (x + lean, y - s * 0.4), -np.pi / 2, s * 0.3, s * 0.035, haze, 4)
        return
    puffs = [(rng.normal() * 0.16, rng.normal() * 0.1, 0.17 + 0.1 * rng.random()) for _ in range(7)]
    for dx, dy, r in puffs:
        layer.ellipse(x + lean + dx * s, y - s * 0.66 + dy * s, r * s, r * s * 0.92, shade(leaf, 0.72), haze)
    for dx, dy, r in puffs:
        cx, cy = x + lean + (dx - 0.035) * s, y - s * 0.7 + dy * s
        layer.ellipse(cx, cy, r * s * 0.8, r * s * 0.72, leaf, haze)
    for dx, dy, r in puffs[:4]:
        cx, cy = x + lean + (dx - 0.07) * s, y - s * 0.75 + dy * s
        layer.ellipse(cx, cy, r * s * 0.42, r * s * 0.36, shade(leaf, 1.25), haze)


def _branches(
    layer: Layer,
    rng: np.random.Generator,
    at: tuple[float, float],
    angle: float,
    length: float,
    thick: float,
    haze: float,
    depth: int,
) -> None:
    end = (at[0] + np.cos(angle) * length, at[1] + np.sin(angle) * length)
    layer.line([at, end], (92, 76, 72), thick, haze)
    if depth == 0:
        return
    for turn in (-0.55, 0.0, 0.5):
        bend = turn + rng.normal() * 0.15
        _branches(
            layer, rng, end, angle + bend, length * (0.62 + 0.15 * rng.random()), thick * 0.6, haze, depth - 1
        )


def _house(thing: Thing, layer: Layer, scene: Scene, rng: np.random.Generator) -> None:
    x, y, s, haze = thing.x, thing.y, thing.size, thing.haze
    wall, roof = WALLS[int(rng.integers(len(WALLS)))], ROOFS[int(rng.integers(len(ROOFS)))]
    w, top = s * (0.55 + 0.2 * rng.random()), y - s * 0.55
    layer.polygon([(x - w, y), (x + w, y), (x + w, top), (x - w, top)], wall, haze)
    layer.polygon([(x + w * 0.35, y), (x + w, y), (x + w, top), (x + w * 0.35, top)], shade(wall, 0.8), haze)
    chimney = x + w * 0.45
    layer.polygon(
        [
            (chimney, y - s * 0.7),
            (chimney + s * 0.12, y - s * 0.7),
            (chimney + s * 0.12, y - s * 1.05),
            (chimney, y - s * 1.05),
        ],
        shade(wall, 0.65),
        haze,
    )
    ridge = [(x - w * 1.15, top), (x - w * 0.65, y - s), (x + w * 0.65, y - s), (x + w * 1.15, top)]
    layer.polygon(ridge, hues.SNOW if scene.season == "winter" else roof, haze)
    layer.polygon(
        [
            (x - w * 1.15, top),
            (x + w * 1.15, top),
            (x + w * 1.1, top - s * 0.07),
            (x - w * 1.1, top - s * 0.07),
        ],
        shade(roof, 0.8),
        haze,
    )
    lit = scene.time in ("sunset", "night")
    for k in (-0.62, 0.0, 0.62):
        glass: Colour = LAMP if lit else (92, 116, 140)
        cx, cy, h, v = x + k * w, y - s * 0.3, s * 0.09, s * 0.11
        box = [(cx - h, cy - v), (cx + h, cy - v), (cx + h, cy + v), (cx - h, cy + v)]
        layer.polygon(box, glass, haze, LAMP if lit else None)


def _church(thing: Thing, layer: Layer, scene: Scene, rng: np.random.Generator) -> None:
    x, y, s, haze = thing.x, thing.y, thing.size, thing.haze
    w = s * 0.11
    _house(
        Thing(kind="house", x=x + s * 0.22, y=y, size=s * 0.42, haze=haze, seed=thing.seed), layer, scene, rng
    )
    layer.polygon(
        [(x - w, y), (x + w, y), (x + w, y - s * 0.62), (x - w, y - s * 0.62)], (232, 224, 208), haze
    )
    layer.polygon([(x, y), (x + w, y), (x + w, y - s * 0.62), (x, y - s * 0.62)], (190, 182, 172), haze)
    spire: Colour = hues.SNOW if scene.season == "winter" else (76, 84, 108)
    layer.polygon([(x - w * 1.25, y - s * 0.6), (x, y - s), (x + w * 1.25, y - s * 0.6)], spire, haze)
    lit = scene.time in ("sunset", "night")
    layer.ellipse(
        x, y - s * 0.48, w * 0.45, w * 0.6, LAMP if lit else (90, 104, 124), haze, LAMP if lit else None
    )


def _lighthouse(thing: Thing, layer: Layer, scene: Scene, rng: np.random.Generator) -> None:
    x, y, s, haze = thing.x, thing.y, thing.size, thing.haze
    stripe: Colour = ((196, 48, 44), (44, 74, 128))[int(rng.integers(2))]
    for i in range(5):
        low, high = i / 5 * 0.8, (i + 1) / 5 * 0.8
        a, b = 0.12 - 0.05 * low, 0.12 - 0.05 * high
        colour = stripe if i % 2 == 0 else (244, 240, 232)
        layer.polygon(
            [
                (x - a * s, y - low * s),
                (x + a * s, y - low * s),
                (x + b * s, y - high * s),
                (x - b * s, y - high * s),
            ],
            colour,
            haze,
        )
        layer.polygon(
            [
                (x + a * s * 0.3, y - low * s),
                (x + a * s, y - low * s),
                (x + b * s, y - high * s),
                (x + b * s * 0.3, y - high * s),
            ],
            shade(colour, 0.78),
            haze,
        )
    layer.polygon(
        [
            (x - 0.11 * s, y - 0.8 * s),
            (x + 0.11 * s, y - 0.8 * s),
            (x + 0.11 * s, y - 0.83 * s),
            (x - 0.11 * s, y - 0.83 * s),
        ],
        (60, 60, 70),
        haze,
    )
    lit = scene.time in ("sunset", "night")
    glass: Colour = (255, 228, 150) if lit else (190, 214, 226)
    layer.polygon(
        [
            (x - 0.06 * s, y - 0.83 * s),
            (x + 0.06 * s, y - 0.83 * s),
            (x + 0.06 * s, y - 0.92 * s),
            (x - 0.06 * s, y - 0.92 * s),
        ],
        glass,
        haze,
        glass if lit else None,
    )
    layer.polygon([(x - 0.09 * s, y - 0.92 * s), (x, y - s), (x + 0.09 * s, y - 0.92 * s)], stripe, haze)


def _windmill(thing: Thing, layer: Layer, scene: Scene, rng: np.random.Generator) -> None:
    x, y, s, haze = thing.x, thing.y, thing.size, thing.haze
    layer.polygon(
        [(x - s * 0.2, y), (x + s * 0.2, y), (x + s * 0.12, y - s * 0.6), (x - s * 0.12, y - s * 0.6)],
        (236, 226, 206),
        haze,
    )
    layer.polygon(
        [(x + s * 0.05, y), (x + s * 0.2, y), (x + s * 0.12, y - s * 0.6), (x + s * 0.03, y - s * 0.6)],
        (196, 184, 164),
        haze,
    )
    cap: Colour = hues.SNOW if scene.season == "winter" else (134, 62, 48)
    layer.polygon([(x - s * 0.15, y - s * 0.58), (x, y - s * 0.78), (x + s * 0.15, y - s * 0.58)], cap, haze)
    if scene.time in ("sunset", "night"):
        layer.ellipse(x, y - s * 0.25, s * 0.05, s * 0.06, LAMP, haze, LAMP)
    turn = rng.random() * np.pi / 2
    for k in range(4):
        a = turn + k * np.pi / 2
        dx, dy = np.cos(a) * s * 0.5, np.sin(a) * s * 0.5
        nx, ny = -np.sin(a) * s * 0.07, np.cos(a) * s * 0.07
        hub = (x, y - s * 0.62)
        layer.polygon(
            [
                hub,
                (hub[0] + dx, hub[1] + dy),
                (hub[0] + dx + nx, hub[1] + dy + ny),
                (hub[0] + nx, hub[1] + ny),
            ],
            (246, 240, 226),
            haze,
        )
        layer.line([hub, (hub[0] + dx, hub[1] + dy)], (84, 62, 50), s * 0.025, haze)


def _person(thing: Thing, layer: Layer, _: Scene, rng: np.random.Generator) -> None:
    x, y, s, haze = thing.x, thing.y, thing.size, thing.haze
    coat = COATS[int(rng.integers(len(COATS)))]
    stride = s * (0.06 + 0.06 * rng.random())
    for side in (-1, 1):
        layer.polygon(
            [
                (x + side * stride - s * 0.04, y),
                (x + side * stride + s * 0.04, y),
                (x + s * 0.05, y - s * 0.45),
                (x - s * 0.05, y - s * 0.45),
            ],
            (52, 48, 62),
            haze,
        )
    layer.polygon(
        [
            (x - s * 0.17, y - s * 0.32),
            (x + s * 0.17, y - s * 0.32),
            (x + s * 0.1, y - s * 0.78),
            (x - s * 0.1, y - s * 0.78),
        ],
        coat,
        haze,
    )
    layer.ellipse(x, y - s * 0.88, s * 0.105, s * 0.12, (234, 190, 160), haze)
    layer.ellipse(x, y - s * 0.94, s * 0.11, s * 0.06, shade(coat, 0.6), haze)


def _boat(thing: Thing, layer: Layer, _: Scene, rng: np.random.Generator) -> None:
    x, y, s, haze = thing.x, thing.y, thing.size, thing.haze
    sail: Colour = ((250, 246, 236), (226, 92, 62), (246, 206, 110))[int(rng.integers(3))]
    side = 1 if rng.random() < 0.5 else -1
    layer.line([(x, y - s * 0.15), (x, y - s)], (90, 66, 50), s * 0.03, haze)
    layer.polygon(
        [
            (x + side * s * 0.03, y - s * 0.97),
            (x + side * s * 0.03, y - s * 0.22),
            (x + side * s * 0.42, y - s * 0.22),
        ],
        sail,
        haze,
    )
    layer.polygon(
        [
            (x - side * s * 0.03, y - s * 0.88),
            (x - side * s * 0.03, y - s * 0.22),
            (x - side * s * 0.28, y - s * 0.22),
        ],
        shade(sail, 0.85),
        haze,
    )
    layer.polygon(
        [(x - s * 0.42, y - s * 0.18), (x + s * 0.42, y - s * 0.18), (x + s * 0.3, y), (x - s * 0.3, y)],
        (126, 66, 48),
        haze,
    )
    layer.polygon(
        [
            (x - s * 0.42, y - s * 0.18),
            (x + s * 0.42, y - s * 0.18),
            (x + s * 0.39, y - s * 0.12),
            (x - s * 0.39, y - s * 0.12),
        ],
        (226, 208, 180),
        haze,
    )


def _bird(thing: Thing, layer: Layer, _: Scene, __: np.random.Generator) -> None:
    x, y, s = thing.x, thing.y, thing.size
    wings = [
        (x - s, y - s * 0.3),
        (x - s * 0.45, y - s * 0.5),
        (x, y),
        (x + s * 0.45, y - s * 0.5),
        (x + s, y - s * 0.3),
    ]
    layer.line(wings, (54, 54, 72), s * 0.16, 0.1)


_DRAW: dict[str, Callable[[Thing, Layer, Scene, np.random.Generator], None]] = {
    "pine": _pine,
    "tree": _tree,
    "house": _house,
    "church": _church,
    "lighthouse": _lighthouse,
    "windmill": _windmill,
    "person": _person,
    "boat": _boat,
    "bird": _bird,
}
