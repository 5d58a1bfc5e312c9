"""Routes of A1111 that are not supported here, and say why."""

from fastapi import APIRouter

from img2img_gateway.access import Caller
from img2img_gateway.gateway_errors import Problem

router = APIRouter(tags=["AUTOMATIC1111: not here"])

_TRAINING = "a farm does not train; train elsewhere, and put the file where its workers find it"
#: why each is not here
REASONS = {
    "/sdapi/v1/interrogate": "no worker has a network that describes pictures (CLIP, deepdanbooru); "
    "write the prompt, or read the one in a picture's file with png-info",
    "/sdapi/v1/create/embedding": _TRAINING,
    "/sdapi/v1/create/hypernetwork": _TRAINING,
    "/sdapi/v1/train/embedding": _TRAINING,
    "/sdapi/v1/train/hypernetwork": _TRAINING,
    "/controlnet/render_openpose_json": "poses are drawn where they are found, by /controlnet/detect; send "
    'a picture of the pose as the control picture, with module "none"',
}


def _add(path: str, reason: str) -> None:
    async def answer(_: Caller) -> None:
        raise Problem(501, reason)

    router.post(path, status_code=501, include_in_schema=False)(answer)


for _path, _reason in REASONS.items():
    _add(_path, _reason)
