"""Finds people's poses by OpenPose's networks, at the sizes at which ControlNet's authors run them."""

from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from img2img_worker.models.control.pose_bodies import Peak, bodies
from img2img_worker.models.control.pose_networks import BodyMaps, PartMaps
from img2img_worker.pictures.control.poses import Person, Pixels, Points

Maps = NDArray[np.float32]

#: pixels per cell of the maps; the grey that pads a picture to whole cells
_CELL, _GREY = 8, 128
#: height to which a picture is scaled for its bodies
_ROWS = 184
#: sides to which a hand is scaled; side of the maps that are averaged over these
_HAND_SIDES, _HAND_MAP = (184, 368, 552, 736), 128
#: side to which a face is scaled
_FACE_SIDE = 384
#: standard deviations by which a hand's picture and its maps are smoothed, in pixels
_HAND_BLUR, _HAND_SIGMA = 0.8, 3
#: confidence above which a point of a hand or a face is seen
_SEEN = 0.05
_JOINTS = 21
#: least side of a hand's or a face's square, in pixels
_SMALLEST = 20
#: shoulder, elbow and wrist of the left and the right arm
_ARMS = ((5, 6, 7), (2, 3, 4))
#: how far a hand's middle is beyond the wrist, in lengths of the forearm; side of its square, in lengths of
#: the forearm or the upper arm, whichever gives more
_BEHIND, _PER_FOREARM, _PER_UPPER_ARM = 0.33, 1.5, 1.5 * 0.9
_NOSE, _EYES, _EARS = 0, (14, 15), (16, 17)
#: how far a face reaches from the nose, in distances to eyes and ears
_PER_EYE, _PER_EAR = 3.0, 1.5

#: left and upper edge, and side
_Square = tuple[int, int, int]


class PoseDetector:
    """Finds people by their bodies, and then each one's hands and face, if there are networks for these."""

    def __init__(self, body: BodyMaps, *, hand: PartMaps | None = None, face: PartMaps | None = None) -> None:
        self._body, self._hand, self._face = body, hand, face

    def people(self, picture: Pixels) -> list[Person]:
        """The people in a picture [H, W, 3]; coordinates are fractions of its sides."""
        blue_first = np.ascontiguousarray(picture[:, :, ::-1])
        return [self._person(body, blue_first) for body in bodies(*self._body_maps(blue_first))]

    def _person(self, body: Sequence[Peak | None], picture: Pixels) -> Person:
        height, width = picture.shape[:2]
        left = right = face = None
        if self._hand is not None:
            left, right = (self._hand_in(_hand_square(body, arm, picture), picture) for arm in _ARMS)
        if self._face is not None:
            face = self._face_in(_face_square(body, picture), picture)
        return Person(
            body=[None if peak is None else (peak.x / width, peak.y / height) for peak in body],
            left_hand=left,
            right_hand=right,
            face=face,
        )

    def _body_maps(self, picture: Pixels) -> tuple[Maps, Maps]:
        """Confidences of parts and directions of limbs, at the picture's size."""
        height, width = picture.shape[:2]
        scale = _ROWS / height
        scaled = _resize(picture, int(height * scale), int(width * scale))
        limbs, parts = self._body(self._as_input(_padded(scaled)))
        return (
            self._at_size(parts, scaled.shape[:2], (height, width)),
            self._at_size(limbs, scaled.shape[:2], (height, width)),
        )

    def _hand_in(self, square: _Square | None, picture: Pixels) -> Points | None:
        if square is None:
            return None
        cut = _cut(picture, square)
        smooth = cv2.GaussianBlur(cut, (0, 0), _HAND_BLUR)
        size = (_HAND_MAP, _HAND_MAP)
        mean = np.zeros((*size, _JOINTS))
        for side in _HAND_SIDES:
            scaled = _resize(smooth, side, side)
            found = cast(PartMaps, self._hand)(self._as_input(scaled))
            mean += self._at_size(found[:, :_JOINTS], (side, side), size) / len(_HAND_SIDES)
        places = [_joint(mean[:, :, number]) for number in range(_JOINTS)]
        height, width = cut.shape[:2]
        found_at = [(int(x * width / _HAND_MAP), int(y * height / _HAND_MAP)) for x, y in places]
        return _fractions(found_at, square, picture)

    def _face_in(self, square: _Square | None, picture: Pixels) -> Points | None:
        if square is None:
            return None
        cut = _cut(picture, square)
        height, width = cut.shape[:2]
        found = cast(PartMaps, self._face)(self._as_input(_resize(cut, _FACE_SIDE, _FACE_SIDE)))
        scaled = F.interpolate(found, (height, width), mode="bilinear", align_corners=True)
        maps = scaled[0].cpu().numpy()
        seen = [each for each in maps if each.max() > _SEEN]
        places = [divmod(int(each.argmax()), width) for each in seen]
        return _fractions([(x, y) for y, x in places], square, picture) if places else None

    def _as_input(self, picture: Pixels) -> Tensor:
        values = torch.from_numpy(picture).to(next(self._body.parameters()).device).float()
        return values.permute(2, 0, 1)[None] / 256 - 0.5

    def _at_size(self, maps: Tensor, inner: tuple[int, ...], size: tuple[int, int]) -> Maps:
        """Maps [1, n, cells down, cells across], resized to [*size, n] without the padding beyond `inner`."""
        found = np.empty((*size, maps.shape[1]), np.float32)  # one by one: at this size they are large
        for number, each in enumerate(maps[0].cpu().numpy()):
            whole = _resize(each, each.shape[0] * _CELL, each.shape[1] * _CELL)
            found[:, :, number] = _resize(whole[: inner[0], : inner[1]], *size)
        return found


def _hand_square(body: Sequence[Peak | None], arm: tuple[int, int, int], picture: Pixels) -> _Square | None:
    """A square around the hand of an arm; None: a part of the arm is missing, or the square is too small."""
    shoulder, elbow, wrist = (body[part] for part in arm)
    if shoulder is None or elbow is None or wrist is None:
        return None
    forearm, upper_arm = _distance(elbow, wrist), _distance(shoulder, elbow)
    side = max(_PER_FOREARM * forearm, _PER_UPPER_ARM * upper_arm)
    x = max(wrist.x + _BEHIND * (wrist.x - elbow.x) - side / 2, 0)
    y = max(wrist.y + _BEHIND * (wrist.y - elbow.y) - side / 2, 0)
    height, width = picture.shape[:2]
    return _square(x, y, min(side, width - x, height - y))


def _face_square(body: Sequence[Peak | None], picture: Pixels) -> _Square | None:
    """A square around the face of a body; None: its nose is missing, or the square is too small."""
    nose = body[_NOSE]
    if nose is None:
        return None
    reach = 0.0
    for parts, factor in ((_EYES, _PER_EYE), (_EARS, _PER_EAR)):
        for peak in (body[part] for part in parts):
            if peak is not None:
                reach = max(reach, factor * max(abs(nose.x - peak.x), abs(nose.y - peak.y)))
    x, y = max(nose.x - reach, 0), max(nose.y - reach, 0)
    height, width = picture.shape[:2]
    # as in the extension, only the reach from the nose is checked against the edge; `_cut` limits the rest
    across = width - x if x + reach > width else 2 * reach
    down = height - y if y + reach > height else 2 * reach
    return _square(x, y, min(across, down))


def _square(x: float, y: float, side: float) -> _Square | None:
    return (int(x), int(y), int(side)) if side >= _SMALLEST else None


def _cut(picture: Pixels, square: _Square) -> Pixels:
    x, y, side = square
    return picture[y : y + side, x : x + side]


def _joint(confidence: NDArray[np.float64]) -> tuple[int, int]:
    """The maximum (x, y) of a map's largest connected spot; (0, 0): there is none."""
    from scipy import ndimage  # imported here: it takes a fifth of a second

    spots, count = ndimage.label(
        ndimage.gaussian_filter(confidence, sigma=_HAND_SIGMA) > _SEEN, structure=np.ones((3, 3))
    )
    if not count:
        return 0, 0
    sums = [confidence[spots == number].sum() for number in range(1, count + 1)]
    largest = 1 + int(np.argmax(sums))
    y, x = divmod(int(np.where(spots == largest, confidence, 0).argmax()), confidence.shape[1])
    return x, y


def _fractions(places: Sequence[tuple[int, int]], square: _Square, picture: Pixels) -> Points:
    """Places in a square as fractions of the picture's sides, in single precision; below 0: not seen."""
    height, width = picture.shape[:2]
    left, top, _ = square
    return [(_fraction(x, left, width), _fraction(y, top, height)) for x, y in places]


def _fraction(place: int, edge: int, side: int) -> float:
    return float(np.float32(place + edge if place else -1) / np.float32(side))


def _distance(one: Peak, other: Peak) -> float:
    return float(np.hypot(one.x - other.x, one.y - other.y))


def _padded(picture: Pixels) -> Pixels:
    """The picture, padded to whole cells."""
    down, across = (-side % _CELL for side in picture.shape[:2])
    return np.pad(picture, ((0, down), (0, across), (0, 0)), constant_values=_GREY)


def _resize(values: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    is_larger = height + width >= sum(values.shape[:2])
    interpolation = cv2.INTER_LANCZOS4 if is_larger else cv2.INTER_AREA
    return np.asarray(cv2.resize(values, (width, height), interpolation=interpolation))
