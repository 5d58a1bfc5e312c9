"""Faces cut out of a picture, upright and of one size, and put back where they were.

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
from img2img_worker.models.faces.warp import warped

#: pixels of a face's side
SIDE = 512
#: where eyes, nose and corners of the mouth lie in it
_TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
#: what lies around a picture: blue, green, red
_AROUND = (135, 133, 132)
#: pixels of the shorter side of the picture that faces are looked for in
_LOOKED_AT = 640
#: pixels between the eyes, at least
_EYES_APART = 5
#: pixels from the edges of a face where the picture shows
_EDGE = 10

Pixels = NDArray[np.uint8]
#: a face, [1, 3, 512, 512] in [-1, 1], red, green, blue, as it is restored; or the scores of its parts
OnFace = Callable[[Tensor], Tensor]


def restored(image: Pixels, find: Callable[[Pixels], Faces], restore: OnFace, parse: OnFace) -> Pixels:
    """A picture, uint8 [H, W, 3] in red, green, blue, with its faces restored; without any, as it was."""
    picture = np.ascontiguousarray(image[..., ::-1])
    height, width = picture.shape[:2]
    result: NDArray[np.float64] | Pixels = picture
    for landmarks in _landmarks(picture, find):
        there, _ = cv2.estimateAffinePartial2D(landmarks, _TEMPLATE, method=cv2.LMEDS)
        if there is None:  # points that lie on each other
            continue
        face = _pixels(restore(_tensor(warped(picture, there, SIDE, SIDE, _AROUND))))
        back = cv2.invertAffineTransform(there)
        opacity = warped(_opacity(parse(_tensor(face))), back, width, height)[..., None]
        result = opacity * warped(face, back, width, height) + (1 - opacity) * result
    return np.ascontiguousarray(result.astype(np.uint8)[..., ::-1])


def _landmarks(picture: Pixels, find: Callable[[Pixels], Faces]) -> NDArray[np.float32]:
    """Of each face that is large enough, in the picture's pixels [n, 5, 2]."""
    scale = min(picture.shape[:2]) / _LOOKED_AT
    height, width = (int(side / scale) for side in picture.shape[:2])
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LANCZOS4)
    landmarks = find(np.asarray(resized, dtype=np.uint8)).landmarks * np.float32(scale)
    apart = np.linalg.norm(landmarks[:, 0] - landmarks[:, 1], axis=1)
    return np.asarray(landmarks[apart >= _EYES_APART])


def _opacity(scores: Tensor) -> NDArray[np.float64]:
    """How much of each pixel is the restored face, [512, 512], from the scores of its parts."""
    kinds = scores.argmax(1)[0].cpu().numpy()
    opacity = np.where(np.isin(kinds, OF_FACES), 255.0, 0.0)
    for _ in range(2):
        opacity = cv2.GaussianBlur(opacity, (101, 101), 11)
    inner = np.zeros_like(opacity)
    within = np.s_[_EDGE:-_EDGE, _EDGE:-_EDGE]
    inner[within] = opacity[within]
    return inner / 255.0


def _tensor(face: Pixels) -> Tensor:
    """[1, 3, H, W] in [-1, 1], red, green, blue."""
    values = torch.from_numpy((face[..., ::-1] / 255.0).astype(np.float32).transpose(2, 0, 1))
    return ((values - 0.5) / 0.5)[None]


def _pixels(face: Tensor) -> Pixels:
    values = (face[0].float().cpu().clamp(-1, 1).numpy().transpose(1, 2, 0) + 1) / 2
    return np.ascontiguousarray((values * 255.0).astype(np.uint8)[..., ::-1])
