"""Poses by DWPose (Yang et al. 2023) and RTMPose (Jiang et al. 2023): each body in a box that YOLOX finds.

Constants are those of sd-webui-controlnet, which runs the same files with OpenCV, too.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from img2img_worker.models.control.yolox import boxes_of
from img2img_worker.pictures.control.poses import Person, Pixels, Point, Points, Poses

Values = NDArray[np.floating]
#: (width, height) of the networks' inputs
_PERSON, _ANIMAL = (288, 384), (256, 256)
#: numbers of COCO's classes: persons; birds to giraffes
_PEOPLE, _ANIMALS = (0,), tuple(range(14, 24))
#: by which a box is widened
_MARGIN = 1.25
#: of ImageNet's colours, by which the input is normalized
_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: positions in the networks' output per pixel of their input
_PER_PIXEL = 2.0
#: least score of a point that is seen
_SEEN = 0.3
#: COCO's parts of a body in OpenPose's order; the neck, which is second there, is between COCO's shoulders
_ORDER = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
_SHOULDERS = (5, 6)
#: the face and the hands among the 133 points
_FACE, _LEFT, _RIGHT = slice(23, 91), slice(91, 112), slice(112, 133)
_EYES = (14, 15)


def find_people(networks: Sequence[Any], picture: Pixels, _numbers: tuple[float, float]) -> Poses:
    """All people in a picture [H, W, 3] with hands and faces; coordinates are pixels.

    Args:
        networks: YOLOX, and a pose network of 133 points.
    """
    detector, network = networks
    height, width = picture.shape[:2]
    boxes = boxes_of(detector, picture, _PEOPLE)
    if boxes is None:  # no box of any class; boxes but no person: the whole picture is searched for one
        return Poses(width=width, height=height)
    boxes = boxes if len(boxes) else np.array([[0, 0, width, height]])
    people = [_person(*_points(network, picture, box, _PERSON)) for box in boxes]
    return Poses(width=width, height=height, people=people)


def find_animals(networks: Sequence[Any], picture: Pixels, _numbers: tuple[float, float]) -> Poses:
    """All animals in a picture [H, W, 3]; coordinates are pixels.

    Args:
        networks: YOLOX, and a pose network of AP-10K's 17 points.
    """
    detector, network = networks
    height, width = picture.shape[:2]
    boxes = boxes_of(detector, picture, _ANIMALS)
    found = [_points(network, picture, box, _ANIMAL)[0] for box in (() if boxes is None else boxes)]
    animals = [[(float(x), float(y)) for x, y in points] for points in found]
    return Poses(width=width, height=height, animals=animals)


def _points(network: Any, picture: Pixels, box: Values, size: tuple[int, int]) -> tuple[Values, Values]:
    """The points [n, 2] of the body in a box, in pixels of the picture, and their scores [n]."""
    centre = (box[:2] + box[2:]) * 0.5
    across, down = (box[2:] - box[:2]) * _MARGIN
    aspect = size[0] / size[1]
    scale = np.array((across, across / aspect) if across > down * aspect else (down * aspect, down))
    # three points fix the transform: the middle, half the width above it, and as far to the left of that
    corners = centre + np.array([(0, 0), (0, -0.5 * scale[0]), (-0.5 * scale[0], -0.5 * scale[0])])
    middle = np.array(size) * 0.5
    targets = middle + np.array([(0, 0), (0, -middle[0]), (-middle[0], -middle[0])])
    matrix = cv2.getAffineTransform(corners.astype(np.float32), targets.astype(np.float32))
    cut = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR)
    network.setInput(((cut - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None])
    columns, rows = (answer[0] for answer in network.forward(network.getUnconnectedOutLayersNames()))
    scores = np.minimum(columns.max(axis=1), rows.max(axis=1))
    places = np.stack([columns.argmax(axis=1), rows.argmax(axis=1)], axis=1).astype(np.float32)
    places[scores <= 0] = -1
    return places / _PER_PIXEL / size * scale + centre - scale / 2, scores


def _person(places: Values, scores: Values) -> Person:
    seen = [
        (float(x), float(y)) if score >= _SEEN else None for (x, y), score in zip(places, scores, strict=True)
    ]
    neck = _neck(places, scores)
    body = [neck if part is None else seen[part] for part in _ORDER]
    face = _any(seen[_FACE])
    return Person(
        body=body,
        left_hand=_any(seen[_LEFT]),
        right_hand=_any(seen[_RIGHT]),
        # OpenPose's faces have the 68 points and the middles of the eyes
        face=None if face is None else [*face, *(body[eye] for eye in _EYES)],
    )


def _neck(places: Values, scores: Values) -> Point | None:
    left, right = _SHOULDERS
    if not min(scores[left], scores[right]) > _SEEN:
        return None
    x, y = np.mean(places[[left, right]], axis=0)
    return float(x), float(y)


def _any(points: Points) -> Points | None:
    return points if any(point is not None for point in points) else None
