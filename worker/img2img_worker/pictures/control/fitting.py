"""Scales a control picture to the render's size; lines stay thin, and maps of few colours get no new ones.

Source: sd-webui-controlnet's ``detectmap_proc``.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from img2img_shared.control import ControlResizeMode
from img2img_shared.errors import Refused, Summary
from img2img_worker.pictures.control.limits import LARGEST
from img2img_worker.pictures.control.thinning import ridges, thin

#: [H, W, 3], or [H, W, 4] with a mask; uint8, or float32 with fractions of the same
Picture = NDArray[Any]

#: a picture of fewer colours is a segmentation map, which is scaled without interpolation
_FEW_COLOURS = 200


def fit_picture(picture: Picture, mode: ControlResizeMode, width: int, height: int) -> Picture:
    """`picture` at `width` × `height`.

    Raises:
        Refused: the aspect is so extreme that more than `LARGEST` pixels would be needed in between.
    """
    if mode == "Just Resize":
        return _scale(picture, width, height)
    own_height, own_width = picture.shape[:2]
    fills = mode == "Resize and Fill"
    factor = (min if fills else max)(height / own_height, width / own_width)
    size = round(own_width * factor), round(own_height * factor)
    if size[0] * size[1] > LARGEST:
        given = f"{own_width} × {own_height} pixels, to be scaled to {width} × {height}"
        reason = f"use a picture of a more similar shape (at most {LARGEST:,} pixels once scaled)"
        raise Refused("control", Summary(given), reason)
    scaled = _scale(picture, max(1, size[0]), max(1, size[1]))
    new_height, new_width = scaled.shape[:2]
    if fills:
        top, left = max(0, (height - new_height) // 2), max(0, (width - new_width) // 2)
        canvas = np.tile(_border_colour(picture), (height, width, 1))
        canvas[top : top + new_height, left : left + new_width] = scaled
        return canvas
    top, left = max(0, (new_height - height) // 2), max(0, (new_width - width) // 2)
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])


def _border_colour(picture: Picture) -> Picture:
    """The median colour of the border, for bars; if there is a mask, it covers the bars."""
    edges = [picture[0], picture[-1], picture[:, 0], picture[:, -1]]
    colour = np.median(np.concatenate(edges), axis=0).astype(picture.dtype)
    if len(colour) == 4:
        colour[3] = 255
    return np.asarray(colour)


def _scale(picture: Picture, width: int, height: int) -> Picture:
    colours = picture[:, :, :3]
    mask = picture[:, :, 3] if picture.shape[2] == 4 else None
    if (height, width) != picture.shape[:2]:
        interpolation = _interpolation(colours, width * height)
        is_larger = width * height > picture.shape[0] * picture.shape[1]
        is_binary = _count_colours(colours) == 2 and colours.min() < 16 and colours.max() > 240
        scaled = np.asarray(cv2.resize(colours, (width, height), interpolation=interpolation))
        if mask is not None:
            mask = np.asarray(cv2.resize(mask, (width, height), interpolation=interpolation))
        colours = _drawing(colours, scaled, is_larger=is_larger) if is_binary else scaled
    if mask is None:
        return np.ascontiguousarray(colours)
    sharp = np.where(mask > 127, np.uint8(255), np.uint8(0))
    return np.concatenate([colours, sharp[:, :, None]], axis=2)


def _interpolation(colours: Picture, pixels: int) -> int:
    if 2 < _count_colours(colours) < _FEW_COLOURS:
        return cv2.INTER_NEAREST
    return cv2.INTER_AREA if pixels < colours.shape[0] * colours.shape[1] else cv2.INTER_CUBIC


def _drawing(before: Picture, scaled: Picture, *, is_larger: bool) -> Picture:
    """A black-and-white picture after scaling, made black and white again; thin lines are thinned again."""
    kernel = np.ones((3, 3), np.uint8)
    opened = cv2.dilate(cv2.erode(before, kernel), kernel)
    is_thin = 2 * int((opened < before).sum()) > int((before > 127).sum())
    grey = scaled.astype(np.float32).mean(axis=2).clip(0, 255).astype(np.uint8)
    if is_thin:
        grey = ridges(grey)
    _, lines = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    found = np.asarray(lines, np.uint8)
    if is_thin:
        found = thin(found, prune=is_larger)
    return np.repeat(found[:, :, None], 3, axis=2)


def _count_colours(colours: Picture) -> int:
    """The number of different colours."""
    values = colours.reshape(-1, 3)
    if values.dtype == np.uint8:
        packed = values.astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
        return len(np.unique(packed))
    return len(np.unique(values, axis=0))
