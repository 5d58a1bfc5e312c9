"""Parameters that are numbers on the wire, as in A1111, and names in the code."""

from enum import IntEnum


class ResizeMode(IntEnum):
    """How a picture is fitted to the render's size."""

    JUST_RESIZE = 0  # stretched
    CROP_AND_RESIZE = 1  # covers, the rest is cut off
    RESIZE_AND_FILL = 2  # fits, its edges are stretched into the bars
    LATENT_UPSCALE = 3  # encoded at its own size, its latent is stretched


class InpaintingFill(IntEnum):
    """What masked pixels start from."""

    FILL = 0  # the colours around them
    ORIGINAL = 1
    LATENT_NOISE = 2
    LATENT_NOTHING = 3
