"""prepare and finish against A1111's order of work, written once more: plain integers in numpy.

Only Lanczos, bicubic and the box blur are Pillow's here too; blur, boxes, bars, premultiplied paste and
compositing are computed from their definitions.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from img2img_shared.params import Params
from img2img_worker.pictures.composite import compose
from img2img_worker.pictures.layout import lay_out
from img2img_worker.pictures.prepare import prepare

Array = NDArray[np.int64]

#: width × height of inputs: odd, wide, tall, smaller and larger than the render, and equal to it
SIZES = [(97, 131), (200, 33), (41, 160), (64, 96), (301, 77), (23, 19)]


def blurred(mask: Array, sigma: float) -> Array:
    """Along the last axis: OpenCV's 8-bit Gaussian, weights of 8 fractional bits by error diffusion."""
    half = int(2.5 * sigma + 0.5)
    if half == 0:
        return mask
    weights = [math.exp(-(i * i) / (2 * sigma * sigma)) for i in range(-half, half + 1)]
    total, carried, side = sum(weights), 0.0, []
    for weight in weights[:half]:
        carried += 256 * weight / total
        side.append(round(carried))
        carried -= side[-1]
    kernel = [*side, 256 - 2 * sum(side), *reversed(side)]
    n = mask.shape[1]
    out = np.zeros_like(mask)
    for offset, weight in zip(range(-half, half + 1), kernel, strict=True):
        # reflected, the edge not repeated
        at = (np.arange(n) + offset) % max(1, 2 * (n - 1))
        out += weight * mask[:, np.minimum(at, 2 * (n - 1) - at)]
    return (out + 128) >> 8


def cut(image: Array, box: tuple[int, int, int, int]) -> Array:
    """The part of an image in a box, black where the box leaves it."""
    x1, y1, x2, y2 = box
    inside = image[y1:y2, x1:x2]
    missing = [(0, y2 - y1 - inside.shape[0]), (0, x2 - x1 - inside.shape[1])]
    return np.pad(inside, missing + [(0, 0)] * (image.ndim - 2))


def lanczos(image: Array, width: int, height: int) -> Array:
    """Across, rounded to 8 bits, and then down."""
    across = Image.fromarray(image.astype(np.uint8)).resize((width, image.shape[0]), Image.Resampling.LANCZOS)
    return np.array(across.resize((width, height), Image.Resampling.LANCZOS)).astype(np.int64)


def extrapolated(edge: Array, next_to_it: Array | None) -> Array:
    """The bicubic filter at the very edge: 9/8 of the outermost row less 1/8 of the next."""
    if next_to_it is None:
        return edge
    bar: Array = np.clip((9 * edge - next_to_it + 4) >> 3, 0, 255)
    return bar


def fitted(image: Array, width: int, height: int) -> Array:
    """Mode 2: wholly visible, bars from the edges."""
    h, w = image.shape[:2]
    aspect, own = width / height, w / h
    columns = max(1, w * height // h) if aspect > own else width
    rows = max(1, h * width // w) if aspect < own else height
    inner = lanczos(image, columns, rows)
    left, above = width // 2 - columns // 2, height // 2 - rows // 2
    before = extrapolated(inner[:, 0], inner[:, 1] if columns > 1 else None)[:, None]
    after = extrapolated(inner[:, -1], inner[:, -2] if columns > 1 else None)[:, None]
    wide = np.concatenate([before.repeat(left, 1), inner, after.repeat(left, 1)], axis=1)
    over_it = extrapolated(inner[0], inner[1] if rows > 1 else None)[None]
    under_it = extrapolated(inner[-1], inner[-2] if rows > 1 else None)[None]
    tall = np.concatenate([over_it.repeat(above, 0), inner, under_it.repeat(above, 0)])
    return cut(wide if left else tall, (0, 0, width, height))


def covering(image: Array, width: int, height: int) -> Array:
    """Mode 1: scaled to cover, cut around the centre."""
    h, w = image.shape[:2]
    size = (width, h * width // w) if width / height > w / h else (w * height // h, height)
    inner = lanczos(image, *size)
    out = np.zeros((height, width, *image.shape[2:]), np.int64)
    x, y = width // 2 - size[0] // 2, height // 2 - size[1] // 2
    cut = inner[-y:, -x:][: height - max(y, 0), : width - max(x, 0)]
    out[: cut.shape[0], : cut.shape[1]] = cut
    return out


def scaled(image: Array, mode: int, width: int, height: int) -> Array:
    return (lanczos, covering, fitted, fitted)[mode](image, width, height)


def div255(value: Array) -> Array:
    value = value + 128
    return ((value >> 8) + value) >> 8


def kept(image: Array, mask: Array) -> Array:
    """Premultiplied RGBa of the unmasked."""
    rgba = np.concatenate([image, np.full((*image.shape[:2], 1), 255)], axis=2)
    return div255(rgba * (255 - mask[..., None]))


def straight(premultiplied: Array) -> Array:
    alpha = premultiplied[..., 3:]
    colour = np.minimum(255, 255 * premultiplied[..., :3] // np.maximum(alpha, 1))
    colour = np.where((alpha == 0) | (alpha == 255), premultiplied[..., :3], colour)
    return np.concatenate([colour, alpha], axis=2)


def over(below: Array, above: Array) -> Array:
    """RGBA `above` over RGBA `below`, in Pillow's fixed point of 7 bits."""
    alpha_above, alpha_below = above[..., 3:], below[..., 3:]
    alpha = alpha_above * 255 + alpha_below * (255 - alpha_above)
    share = alpha_above * 255 * 255 * 128 // np.maximum(alpha, 1)
    mixed = above[..., :3] * share + below[..., :3] * (255 * 128 - share) + (128 << 7)
    colour = (((mixed >> 8) + mixed) >> 8) >> 7
    out = np.concatenate([colour, div255(alpha)], axis=2)
    return np.where(alpha_above == 0, below, out)


def painted(image: Array, mask: Array) -> Array:
    known = kept(image, mask)
    canvas = np.zeros_like(known)
    for radius, repeats in ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1)):
        planes = [
            np.array(Image.fromarray(plane.astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius)))
            for plane in np.moveaxis(known, 2, 0)
        ]
        for _ in range(repeats):
            canvas = over(canvas, straight(np.stack(planes, axis=2).astype(np.int64)))
    return canvas[..., :3]


def only_masked_box(mask: Array, padding: int, width: int, height: int) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    h, w = mask.shape
    x1, x2 = max(0, columns[0] - padding), min(w, columns[-1] + 1 + padding)
    y1, y2 = max(0, rows[0] - padding), min(h, rows[-1] + 1 + padding)
    if (x2 - x1) / (y2 - y1) > width / height:
        grow = int((x2 - x1) / (width / height) - (y2 - y1))
        y1, y2 = y1 - grow // 2, y2 + grow - grow // 2
        if y2 > h:
            y1, y2 = y1 - (y2 - h), h
        if y1 < 0:
            y1, y2 = 0, min(h, y2 - y1)
    else:
        grow = int((y2 - y1) * (width / height) - (x2 - x1))
        x1, x2 = x1 - grow // 2, x2 + grow - grow // 2
        if x2 > w:
            x1, x2 = x1 - (x2 - w), w
        if x1 < 0:
            x1, x2 = 0, min(w, x2 - x1)
    return int(x1), int(y1), int(x2), int(y2)


def reference(
    image: Array, mask: Array | None, params: Params, render: Array
) -> tuple[Array, NDArray[np.float32] | None, Array]:
    """(what is encoded, latent mask, finished picture), with `render` for what the model gave."""
    width, height, mode = params.width, params.height, params.resize_mode
    box = None
    if mask is not None:
        mask = 255 - mask if params.inpainting_mask_invert else mask
        mask = blurred(mask, params.mask_blur_x)
        mask = blurred(mask.T, params.mask_blur_y).T
        if params.inpaint_full_res:
            if mask.any():
                box = only_masked_box(mask, params.inpaint_full_res_padding, width, height)
            else:
                mask = None
    canvas = image if box is not None or mode == 3 else scaled(image, mode, width, height)
    if mask is None:
        return canvas, None, render
    work = canvas
    if box is None:
        work_mask = scaled(mask, mode, width, height)
        opening = np.minimum(255, 2 * work_mask)
    else:
        x1, y1, x2, y2 = box
        work = fitted(cut(image, box), width, height)
        work_mask, opening = fitted(cut(mask, box), width, height), mask
    if opening.shape != canvas.shape[:2]:
        opening = scaled(opening, mode, canvas.shape[1], canvas.shape[0])
    if params.inpainting_fill != 1:
        work = painted(work, lanczos(work_mask, work.shape[1], work.shape[0]))
    as_rgb = Image.fromarray(work_mask.astype(np.uint8)).convert("RGB").resize((width // 8, height // 8))
    latent = np.array(as_rgb, dtype=np.float32)[..., 0] / np.float32(255)
    if params.mask_round:
        latent = np.where(latent > 0.5, np.float32(1), np.float32(0))
    overlay = straight(kept(canvas, opening))
    if box is not None:
        base = np.zeros((*opening.shape, 4), np.int64)
        part = np.pad(covering(render, x2 - x1, y2 - y1), [(0, 0), (0, 0), (0, 1)], constant_values=255)
        base[y1:y2, x1:x2] = part[: base.shape[0] - y1, : base.shape[1] - x1]
    else:
        base = np.pad(render, [(0, 0), (0, 0), (0, 1)], constant_values=255)
        overlay = cut(overlay, (0, 0, width, height))
    return work, latent, over(base, overlay)[..., :3]


def as_image(pixels: Array) -> Image.Image:
    return Image.fromarray(pixels.astype(np.uint8))


def picture(width: int, height: int, seed: int) -> Array:
    """Smooth colours, hard edges and noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    out = np.stack([127 + 120 * np.sin(x / a + y / b) for a, b in ((9, 23), (31, 7), (17, 13))], axis=2)
    out[height // 3 :, : width // 2] = random.integers(0, 256, 3)
    out[: height // 2, width // 2 :] += random.normal(0, 40, (height // 2, width - width // 2, 3))
    pixels: Array = np.clip(out, 0, 255).astype(np.int64)
    return pixels


def blob(width: int, height: int, seed: int) -> Array:
    """A mask of a disc and a soft bar, 0..255."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    centre_x, centre_y = random.uniform(0.1, 0.9, 2) * (width, height)
    out = np.where((x - centre_x) ** 2 + (y - centre_y) ** 2 < (min(width, height) / 4) ** 2, 255, 0)
    out[height // 2 : height // 2 + 3, width // 4 : width // 2] = 90
    return out.astype(np.int64)


def check(image: Array, mask: Array | None, params: Params) -> None:
    render = picture(params.width, params.height, seed=9)
    work, latent, finished = reference(image, mask, params, render)
    pictures = as_image(image), None if mask is None else as_image(mask)
    prepared = prepare(*pictures, params)
    np.testing.assert_array_equal(prepared.pixels, work)
    assert prepared.latent_size == (params.height // 8, params.width // 8)
    if latent is None:
        assert prepared.mask is None
        assert prepared.cond_mask is None
    else:
        assert prepared.mask is not None
        assert prepared.mask.dtype == np.float32
        np.testing.assert_array_equal(prepared.mask, latent)
        assert prepared.cond_mask is not None
        assert prepared.cond_mask.shape == prepared.pixels.shape[:2]
    result = compose(as_image(render), *pictures, params).picture
    assert result.mode == "RGB"
    np.testing.assert_array_equal(np.array(result), finished)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("full_res", [True, False], ids=["only masked", "whole picture"])
def test_every_combination_of_mask_options_equals_the_reference(
    size: tuple[int, int], mode: int, full_res: bool
) -> None:
    image, mask = picture(*size, seed=1), blob(*size, seed=2)
    blurs = itertools.cycle([(4, 4), (0, 0), (2.3, 7)])
    renders = itertools.cycle([(96, 64), (64, 128), (72, 72), (200, 64), (64, 64)])
    for fill, invert, rounded in itertools.product(range(4), (0, 1), (True, False)):
        blur_x, blur_y = next(blurs)
        width, height = next(renders)
        params = Params(
            resize_mode=mode,
            inpaint_full_res=full_res,
            inpaint_full_res_padding=(0, 32, 5, 11)[fill],
            inpainting_fill=fill,
            inpainting_mask_invert=invert,
            mask_round=rounded,
            mask_blur_x=blur_x,
            mask_blur_y=blur_y,
            width=width,
            height=height,
        )
        check(image, mask, params)


@pytest.mark.parametrize("size", [*SIZES, (8, 8), (500, 9), (9, 500)], ids=str)
@pytest.mark.parametrize("mode", range(4))
def test_a_picture_without_a_mask_equals_the_reference(size: tuple[int, int], mode: int) -> None:
    for width, height in ((64, 64), (96, 64), (64, 200)):
        check(picture(*size, seed=3), None, Params(resize_mode=mode, width=width, height=height))


@pytest.mark.parametrize("mode", range(4))
def test_an_all_black_mask_is_plain_img2img_when_only_the_masked_part_is_worked_on(mode: int) -> None:
    image, black = picture(97, 131, seed=4), np.zeros((131, 97), np.int64)
    params = Params(resize_mode=mode, width=96, height=64)
    check(image, black, params)
    prepared = prepare(as_image(image), as_image(black), params)
    plain = prepare(as_image(image), None, params)
    assert prepared.mask is None
    np.testing.assert_array_equal(prepared.pixels, plain.pixels)


@pytest.mark.parametrize("mode", range(3))
def test_an_all_black_mask_over_the_whole_picture_repaints_nothing(mode: int) -> None:
    image, black = picture(97, 131, seed=4), np.zeros((131, 97), np.int64)
    params = Params(resize_mode=mode, width=96, height=64, inpaint_full_res=False, inpainting_fill=1)
    check(image, black, params)
    prepared = prepare(as_image(image), as_image(black), params)
    assert prepared.mask is not None
    assert not prepared.mask.any()
    finished = compose(Image.new("RGB", (96, 64)), as_image(image), as_image(black), params).picture
    np.testing.assert_array_equal(np.array(finished), prepared.pixels)


sizes = st.tuples(st.integers(8, 150), st.integers(8, 150))
renders = st.sampled_from([(64, 64), (72, 136), (160, 64)])


@settings(max_examples=60)
@given(
    size=sizes,
    render=renders,
    mode=st.integers(0, 3),
    full_res=st.booleans(),
    fill=st.integers(0, 3),
    padding=st.integers(0, 200),
    blur=st.sampled_from([0.0, 0.3, 1.0, 4.0, 11.5]),
    hole=st.tuples(*[st.floats(0, 1)] * 4),
    invert=st.integers(0, 1),
)
def test_outside_the_mask_the_picture_equals_the_resized_input(
    size: tuple[int, int],
    render: tuple[int, int],
    mode: int,
    full_res: bool,
    fill: int,
    padding: int,
    blur: float,
    hole: tuple[float, float, float, float],
    invert: int,
) -> None:
    width, height = size
    image, mask = picture(width, height, seed=5), np.zeros((height, width), np.int64)
    x, y, w, h = (int(a * b) for a, b in zip(hole, (width, height, width, height), strict=True))
    mask[y : y + h + 1, x : x + w + 1] = 255
    params = Params(
        width=render[0],
        height=render[1],
        resize_mode=mode,
        inpaint_full_res=full_res,
        inpaint_full_res_padding=padding,
        inpainting_fill=fill,
        mask_blur_x=blur,
        mask_blur_y=blur,
        inpainting_mask_invert=invert,
    )
    pictures = as_image(image), as_image(mask)
    layout = lay_out(*pictures, params)
    result = np.random.default_rng(6).integers(0, 256, (render[1], render[0], 3), dtype=np.uint8)
    finished = np.array(compose(Image.fromarray(result), *pictures, params).picture)
    if layout.opening is None:
        np.testing.assert_array_equal(finished, result)
        return
    # in latent upscale, A1111 lays the whole picture over the result as it is, from the top left corner
    common = tuple(
        slice(0, min(sides)) for sides in zip(finished.shape[:2], layout.canvas.size[::-1], strict=True)
    )
    outside = np.array(layout.opening)[common] == 0
    np.testing.assert_array_equal(finished[common][outside], np.array(layout.canvas)[common][outside])
    if full_res:
        np.testing.assert_array_equal(np.array(layout.canvas), image)
        assert blur or np.array_equal(outside, (mask == 0) != bool(invert))
    elif mode != 3:
        np.testing.assert_array_equal(np.array(layout.canvas), scaled(image, mode, *render))


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("full_res", [True, False], ids=["only masked", "whole picture"])
@pytest.mark.parametrize("mask_size", [(40, 30), (97, 40), (150, 200)], ids=str)
def test_a_mask_of_another_size_than_its_picture_equals_the_reference(
    mask_size: tuple[int, int], full_res: bool, mode: int
) -> None:
    image, mask = picture(97, 131, seed=10), blob(*mask_size, seed=12)
    for fill, invert in itertools.product((0, 1), (0, 1)):
        params = Params(
            width=96,
            height=64,
            resize_mode=mode,
            inpaint_full_res=full_res,
            inpaint_full_res_padding=4,
            inpainting_fill=fill,
            inpainting_mask_invert=invert,
        )
        check(image, mask, params)


@pytest.mark.parametrize("sigma", [0.4, 1, 2.5, 4, 9.7, 33, 64, 256])
def test_mask_blur_is_the_fixed_point_gaussian(sigma: float) -> None:
    params = Params(width=64, height=64, mask_blur_x=sigma, mask_blur_y=sigma)
    for size in ((31, 40), (1, 9), (9, 1), (3, 200)):
        check(picture(*size, seed=7), blob(*size, seed=8), params)
