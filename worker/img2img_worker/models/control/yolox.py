"""Bounding boxes of people and things by YOLOX (Ge et al. 2021), as sd-webui-controlnet reads them."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Values = NDArray[np.floating]

#: side of the network's input, and the grey that pads a picture to a square
_SIDE, _GREY = 640, 114
#: pixels per cell of each of its grids
_STRIDES = (8, 16, 32)
#: score above which a box takes part in non-maximum suppression, overlap (IoU) above which the lower one is
#: dropped, and score above which a box is returned
_COMPETES, _SAME, _COUNTS = 0.1, 0.45, 0.3


def boxes_of(network: Any, picture: Pixels, classes: Sequence[int]) -> Values | None:
    """Boxes [n, 4] of some classes (left, top, right, bottom); None: there is no box of any class at all.

    Args:
        network: as OpenCV reads it.
        picture: [H, W, 3].
    """
    ratio = min(_SIDE / side for side in picture.shape[:2])
    height, width = (int(side * ratio) for side in picture.shape[:2])
    given = np.full((_SIDE, _SIDE, 3), _GREY, np.uint8)
    given[:height, :width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    network.setInput(given.transpose(2, 0, 1)[None].astype(np.float32))
    (answer,) = network.forward(network.getUnconnectedOutLayersNames())[:1]
    boxes, scores = _read(answer[0])
    boxes /= ratio
    found = [
        (number, boxes[kept], scores[kept, number])
        for number in range(scores.shape[1])
        if len(kept := _best(boxes, scores[:, number]))
    ]
    if not found:
        return None
    wanted = [each[score > _COUNTS] for number, each, score in found if number in classes]
    return np.concatenate([np.zeros((0, 4)), *wanted])


def _read(answer: Values) -> tuple[Values, Values]:
    """Boxes [n, 4] and scores [n, classes] from the network's output, one for each cell."""
    grids, strides = [], []
    for stride in _STRIDES:
        count = _SIDE // stride
        across, down = np.meshgrid(np.arange(count), np.arange(count))
        grids.append(np.stack([across, down], axis=2).reshape(-1, 2))
        strides.append(np.full((count * count, 1), stride))
    grid, stride_of = np.concatenate(grids), np.concatenate(strides)
    centres = ((answer[:, :2] + grid) * stride_of).astype(answer.dtype)
    halves = (np.exp(answer[:, 2:4]) * stride_of).astype(answer.dtype) / 2.0
    return np.concatenate([centres - halves, centres + halves], axis=1), answer[:, 4:5] * answer[:, 5:]


def _best(boxes: Values, scores: Values) -> NDArray[np.intp]:
    """Non-maximum suppression: the numbers of the boxes that remain, best first."""
    left, top, right, bottom = boxes.T
    areas = (right - left + 1) * (bottom - top + 1)
    competing = np.flatnonzero(scores > _COMPETES)
    order, kept = competing[scores[competing].argsort()[::-1]], []
    while order.size:
        best, others = order[0], order[1:]
        kept.append(best)
        across = np.minimum(right[best], right[others]) - np.maximum(left[best], left[others]) + 1
        down = np.minimum(bottom[best], bottom[others]) - np.maximum(top[best], top[others]) + 1
        common = np.maximum(0.0, across) * np.maximum(0.0, down)
        order = others[common / (areas[best] + areas[others] - common) <= _SAME]
    return np.array(kept, np.intp)
