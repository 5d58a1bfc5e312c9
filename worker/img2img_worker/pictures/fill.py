"""Fills the masked part of a picture before it is encoded."""

from PIL import Image, ImageFilter, ImageOps

#: (radius of a blur in pixels, number of times that it is composited), widest first
_LAYERS = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))


def fill(image: Image.Image, mask: Image.Image) -> Image.Image:
    """`image` (RGB) with its masked pixels painted from the colours around them.

    The unmasked pixels, premultiplied, are blurred with falling radius and composited; where a narrow blur is
    transparent, the wider one below shows. `mask` is L, of the same size. (A1111's
    `masking.fill`, fill modes 0, 2 and 3.)
    """
    known = Image.new("RGBa", image.size)
    known.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    painted = Image.new("RGBA", image.size)
    for radius, times in _LAYERS:
        layer = known.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            painted.alpha_composite(layer)
    return painted.convert("RGB")
