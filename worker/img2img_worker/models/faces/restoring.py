"""Cuts the faces out of a picture, upright and of one size, and puts them back restored.

Source: facexlib's ``FaceRestoreHelper``, as A1111 uses it.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from img2img_worker.models.faces.parsenet import OF_FACES
from img2img_worker.models.faces.retinaface import Faces
from img2img_worker.models.faces.warp import warp

#: width and height of a cut face in pixels
SIDE = 512
#: x, y of left eye, right eye, nose and corners of the mouth in a cut face
_TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
#: the colour beyond the picture's edges: blue, green, red
_AROUND = (135, 133, 132)
#: pixels of the shorter side of the picture in which faces are detected
_DETECTION_SIDE = 640
#: least pixels between the eyes of a face that is restored
_EYES_APART = 5
#: pixels at the edges of a cut face that are not put back
_EDGE = 10

Pixels = NDArray[np.uint8]
#: takes a face, RGB [1, 3, 512, 512] in [-1, 1]; gives it restored, or the scores of its parts
OnFace = Callable[[Tensor], Tensor]


def restore_faces(image: Pixels, find: Callable[[Pixels], Faces], restore: OnFace, parse: OnFace) -> Pixels:
    """Restore the faces of a picture, RGB uint8 [H, W, 3]; one without faces stays as it was.

    Args:
        find: takes a picture in blue, green, red, and finds its faces.
        restore: restores one face.
        parse: scores the parts of one face, [1, 19, 512, 512].
    """
    picture = np.ascontiguousarray(image[..., ::-1])
    height, width = picture.shape[:2]
    result: NDArray[np.float64] | Pixels = picture
    for landmarks in _landmarks(picture, find):
        upright, _ = cv2.estimateAffinePartial2D(landmarks, _TEMPLATE, method=cv2.LMEDS)
        if upright is None:  # landmarks that lie on each other
            continue
        face = _pixels(restore(_tensor(warp(picture, upright, SIDE, SIDE, _AROUND))))
        back = cv2.invertAffineTransform(upright)
        opacity = warp(_opacity(parse(_tensor(face))), back, width, height)[..., None]
        result = opacity * warp(face, back, width, height) + (1 - opacity) * result
    return np.ascontiguousarray(result.astype(np.uint8)[..., ::-1])


def _landmarks(picture: Pixels, find: Callable[[Pixels], Faces]) -> NDArray[np.float32]:
    """x, y of the landmarks of each face that is large enough, in the picture's pixels [n, 5, 2]."""
    scale = min(picture.shape[:2]) / _DETECTION_SIDE
    height, width = (int(side / scale) for side in picture.shape[:2])
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LANCZOS4)
    landmarks = find(np.asarray(resized, dtype=np.uint8)).landmarks * np.float32(scale)
    apart = np.linalg.norm(landmarks[:, 0] - landmarks[:, 1], axis=1)
    return np.asarray(landmarks[apart >= _EYES_APART])


def _opacity(scores: Tensor) -> NDArray[np.float64]:
    """The restored face's opacity [512, 512] in [0, 1], from the scores of its parts [1, 19, 512, 512]."""
    kinds = scores.argmax(1)[0].cpu().numpy()
    opacity = np.where(np.isin(kinds, OF_FACES), 255.0, 0.0)
    for _ in range(2):
        opacity = cv2.GaussianBlur(opacity, (101, 101), 11)
    inner = np.zeros_like(opacity)
    within = np.s_[_EDGE:-_EDGE, _EDGE:-_EDGE]
    inner[within] = opacity[within]
    return inner / 255.0


def _tensor(face: Pixels) -> Tensor:
    """BGR uint8 [H, W, 3] as RGB [1, 3, H, W] in [-1, 1]."""
    values = torch.from_numpy((face[..., ::-1] / 255.0).astype(np.float32).transpose(2, 0, 1))
    return ((values - 0.5) / 0.5)[None]


def _pixels(face: Tensor) -> Pixels:
    """The reverse of `_tensor`."""
    values = (face[0].float().cpu().clamp(-1, 1).numpy().transpose(1, 2, 0) + 1) / 2
    return np.ascontiguousarray((values * 255.0).astype(np.uint8)[..., ::-1])
