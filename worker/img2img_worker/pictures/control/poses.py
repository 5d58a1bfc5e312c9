"""Poses of people and animals, as OpenPose's JSON and as ControlNet's pictures.

Source: sd-webui-controlnet, on whose drawings its networks were trained.
"""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
#: x and y, as fractions of a picture's sides or in pixels
Point = tuple[float, float]
#: None: a part that is not seen
Points = Sequence[Point | None]

#: limbs of a body, by the numbers of their parts
BODY_LIMBS = (
    (1, 2),
    (1, 5),
    (2, 3),
    (3, 4),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (1, 11),
    (11, 12),
    (12, 13),
    (1, 0),
    (0, 14),
    (14, 16),
    (0, 15),
    (15, 17),
)
#: bones of a hand, from the wrist along each finger
_BONES = tuple(bone for finger in range(1, 21, 4) for bone in pairwise((0, *range(finger, finger + 4))))
#: limbs of an animal (AP-10K), with their colours
_ANIMAL_LIMBS = (
    ((0, 1), (255, 255, 255)),
    ((1, 2), (100, 255, 100)),
    ((0, 2), (150, 255, 255)),
    ((2, 3), (100, 50, 255)),
    ((3, 8), (50, 150, 200)),
    ((8, 9), (0, 255, 255)),
    ((9, 10), (0, 150, 0)),
    ((3, 5), (0, 0, 255)),
    ((5, 6), (0, 0, 150)),
    ((6, 7), (255, 50, 255)),
    ((3, 4), (255, 0, 255)),
    ((4, 14), (255, 0, 0)),
    ((14, 15), (150, 0, 0)),
    ((15, 16), (255, 255, 100)),
    ((4, 11), (0, 150, 0)),
    ((11, 12), (255, 255, 0)),
    ((12, 13), (150, 150, 150)),
)
#: number of hues for a body's parts
_HUES = 18
#: radii and widths, in pixels
_JOINT, _STICK, _BONE, _DOT, _ANIMAL = 4, 4, 2, 3, 5
#: brightness of limbs relative to joints
_SHADE = 0.6


@dataclass(frozen=True, kw_only=True)
class Person:
    """The parts of one person, each list in OpenPose's order; None: not looked for, or not found."""

    #: 18 parts
    body: Points
    #: 21 joints
    left_hand: Points | None = None
    right_hand: Points | None = None
    #: 70 points or more, or only those that were found
    face: Points | None = None


@dataclass(frozen=True, kw_only=True)
class Poses:
    """All poses that were found in a picture."""

    width: int
    height: int
    people: Sequence[Person] = ()
    #: 17 parts of each, in pixels
    animals: Sequence[Points] = ()
    shows_bodies: bool = True

    def drawn(self) -> Pixels:
        """A drawing [H, W, 3] of the poses, on black."""
        canvas = np.zeros((self.height, self.width, 3), np.uint8)
        for person in self.people:
            if self.shows_bodies:
                _draw_body(canvas, self._in_pixels(person.body))
            for hand in (person.left_hand, person.right_hand):
                _draw_hand(canvas, self._in_pixels(hand))
            _draw_face(canvas, self._in_pixels(person.face))
        for animal in self.animals:
            _draw_animal(canvas, animal)
        return canvas

    def as_openpose(self) -> dict[str, Any]:
        """OpenPose's JSON, with the picture's sides as A1111's extension adds them."""
        return {
            "people": [
                {
                    "pose_keypoints_2d": _numbers(person.body),
                    "face_keypoints_2d": _numbers(person.face),
                    "hand_left_keypoints_2d": _numbers(person.left_hand),
                    "hand_right_keypoints_2d": _numbers(person.right_hand),
                }
                for person in self.people
            ],
            "animals": [_numbers(animal) for animal in self.animals],
            "canvas_height": self.height,
            "canvas_width": self.width,
        }

    def _in_pixels(self, points: Points | None) -> Points:
        """Points in pixels; if no number is above 1, they are fractions of the sides."""
        points = points or ()
        are_fractions = all(max(abs(x), abs(y)) <= 1 for x, y in filter(None, points))
        across, down = (self.width, self.height) if are_fractions else (1, 1)
        return [None if point is None else (point[0] * across, point[1] * down) for point in points]


def _numbers(points: Points | None) -> list[float] | None:
    """x, y and visibility of each point."""
    if not points:
        return None
    seen = [(0.0, 0.0, 0.0) if point is None else (float(point[0]), float(point[1]), 1.0) for point in points]
    return [number for numbers in seen for number in numbers]


def _draw_body(canvas: Pixels, points: Points) -> None:
    if not points:
        return
    for number, (first, second) in enumerate(BODY_LIMBS):
        start, end = points[first], points[second]
        if start is None or end is None:
            continue
        across, down = start[0] - end[0], start[1] - end[1]
        middle = int((start[0] + end[0]) / 2), int((start[1] + end[1]) / 2)
        axes = int(math.hypot(across, down) / 2), _STICK
        angle = int(math.degrees(math.atan2(down, across)))
        outline = cv2.ellipse2Poly(middle, axes, angle, 0, 360, 1)
        cv2.fillConvexPoly(canvas, np.array(outline), _hue(number, _HUES, _SHADE))
    for number, point in enumerate(points):
        if point is not None:
            cv2.circle(canvas, _pixel(point), _JOINT, _hue(number, _HUES), -1)


def _draw_hand(canvas: Pixels, points: Points) -> None:
    if not points:
        return
    for number, (first, second) in enumerate(_BONES):
        start, end = points[first], points[second]
        if start is not None and end is not None and _is_inside(start) and _is_inside(end):
            cv2.line(canvas, _pixel(start), _pixel(end), _hue(number, len(_BONES)), _BONE)
    _draw_dots(canvas, points, _JOINT, (0, 0, 255))


def _draw_face(canvas: Pixels, points: Points) -> None:
    _draw_dots(canvas, points, _DOT, (255, 255, 255))


def _draw_dots(canvas: Pixels, points: Points, radius: int, colour: tuple[float, ...]) -> None:
    for point in points:
        if point is not None and _is_inside(point):
            cv2.circle(canvas, _pixel(point), radius, colour, -1)


def _draw_animal(canvas: Pixels, points: Points) -> None:
    for (first, second), colour in _ANIMAL_LIMBS:
        start, end = points[first], points[second]
        if start is not None and end is not None:
            cv2.line(canvas, _pixel(start), _pixel(end), colour, _ANIMAL)


def _is_inside(point: Point) -> bool:
    """Whether a point of a hand or face was seen; the others are at the left or upper edge."""
    return min(_pixel(point)) > 0


def _pixel(point: Point) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _hue(number: int, count: int, shade: float = 1.0) -> tuple[float, ...]:
    return tuple(255 * shade * channel for channel in colorsys.hsv_to_rgb(number / count, 1, 1))
