"""Enlarges pictures with A1111's upscalers, repeatedly until they are large enough."""

from collections.abc import Callable

from PIL import Image

from img2img_shared.errors import Refused

#: runs a picture through the network of that name, once
RunNetwork = Callable[[str, Image.Image], Image.Image]

_FILTERS = {"Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}
#: most passes of an upscaler
_PASSES = 3


def no_networks(name: str, _: Image.Image) -> Image.Image:
    """A `RunNetwork` without networks: it refuses."""
    raise Refused("upscaler", name, "use None, Lanczos or Nearest")


def upscaled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """The width and height of `upscale` for a picture of `size`."""
    width, height = (int(side * factor // 8 * 8) for side in size)
    return width, height


def upscale(image: Image.Image, factor: float, upscaler: str, run: RunNetwork) -> Image.Image:
    """`image` `factor` times as large, with sides that are multiples of 8; by a network, RGB.

    A result that is too small goes through the upscaler again; one that is too large is scaled down by
    Lanczos. (A1111: ``Upscaler.upscale``.)
    """
    width, height = upscaled_size(image.size, factor)
    for number in range(_PASSES):
        if image.width >= width and image.height >= height and (number or factor != 1):
            break
        before = image.size
        if upscaler in _FILTERS:
            size = int(image.width * factor), int(image.height * factor)
            image = in_two_passes(image, size, _FILTERS[upscaler])
        else:
            image = run(upscaler, image)
        if image.size == before:
            break
    if width and height:
        image = in_two_passes(image, (width, height), Image.Resampling.LANCZOS)
    return image


def in_two_passes(image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    """The picture resampled across, and then down.

    Later releases of Pillow than A1111's choose the order by its cost, and each pass rounds to 8 bits.
    """
    if image.size == size:
        return image
    if image.mode == "RGBA" and resampling != Image.Resampling.NEAREST:
        # premultiplied, as Pillow does it
        return in_two_passes(image.convert("RGBa"), size, resampling).convert("RGBA")
    return image.resize((size[0], image.height), resampling).resize(size, resampling)
