"""OpenAI's masks: what is transparent is to be painted. The farm's: what is white."""

import io

from PIL import Image

from img2img_gateway.dependencies import Services
from img2img_shared.errors import FarmError, Refused, Summary
from img2img_shared.picture_parts import too_many_parts

#: bytes of memory that a pixel takes while its transparency is read
_COST = 6


def opaque_is_black(services: Services, data: bytes, largest: int) -> bytes:
    """A mask of the farm's kind, as PNG. Blocks.

    Args:
        largest: pixels that it may have.

    Raises:
        Refused: it cannot be read, is too large, or has no transparency.
    """
    try:
        if parts := too_many_parts(data):
            raise ValueError(f"it has {parts}")
        with Image.open(io.BytesIO(data)) as mask:
            width, height = mask.size
            if width * height > largest:
                raise Refused(
                    "mask",
                    Summary(f"{width} × {height} pixels"),
                    f"give a picture of at most {largest:,} pixels",
                )
            if not mask.has_transparency_data:
                raise Refused(
                    "mask",
                    Summary(f"a picture of mode {mask.mode}"),
                    "give one with transparency: its transparent part is painted",
                )
            with services.pictures.held_in_thread(_COST * width * height):
                alpha = mask.convert("RGBA").getchannel("A")
                found = io.BytesIO()
                alpha.point(lambda value: 255 - value).save(found, "PNG", compress_level=1)
                return found.getvalue()
    except (FarmError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise nearly anything on damaged data
        raise Refused("mask", data[:8], f"it cannot be read ({error}); give a complete picture") from None
