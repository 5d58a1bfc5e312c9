"""The pictures of a call, as OpenAI's clients read them."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.gateway_errors import Problem
from img2img_gateway.openai.images_request import ImagesRequest
from img2img_shared.errors import FarmError, is_refusal
from img2img_shared.job import ImageState, Job, result_key
from img2img_shared.ledger import IMAGES

#: seconds for which an address works
ADDRESS = 3600
#: has OpenAI's clients not render it twice more, as they would after any status of a server's
_NO_RETRY = {"x-should-retry": "false"}


class ImagesAnswer:
    """Of one job that has ended; holds one picture at a time. Its methods block.

    Args:
        base: the gateway's address as the caller has it, without a slash at its end.
    """

    def __init__(self, farm: AsyncFarm, job: Job, request: ImagesRequest, base: str) -> None:
        self._farm = farm
        self._job = job
        self._request = request
        self._base = base
        self._created = int(time.time())
        self._done: list[int] = []

    def read(self) -> None:
        """Look at what there is.

        Raises:
            Problem: an image failed, with its reason; 422, if it is the request's fault.
        """
        for start in range(0, self._job.n, IMAGES):
            for image in self._farm.ledger.images(self._job.id, self._job.tenant, start, IMAGES):
                if image.state is ImageState.FAILED:
                    status = 422 if is_refusal(image.reason or "") else 500
                    raise Problem(status, f"image {image.index} failed: {image.reason}", headers=_NO_RETRY)
                if image.state is ImageState.DONE:
                    self._done.append(image.index)

    def parts(self) -> Iterator[bytes]:
        """The answer's JSON, bit by bit."""
        facts = json.dumps(self._facts())
        yield facts[:-1].encode() + b', "data": ['
        comma = b""
        for index in self._done:
            yield comma + json.dumps(self._picture(index)).encode()
            comma = b", "
        yield b"]}"

    def events(self, kind: str) -> Iterator[dict[str, Any]]:
        """What a stream tells in the end, a picture each."""
        for index in self._done:
            yield {"type": kind, **self._facts(), "created_at": self._created, **self._picture(index)}

    def remove(self) -> None:
        """Forget the pictures; the job stays in the ledger for its time."""
        for index in range(self._job.n):
            with suppress(FarmError):
                self._farm.store.delete(self._key(index))

    def _facts(self) -> dict[str, Any]:
        asked = self._request
        names = ("size", "quality", "background", "output_format")
        return {"created": self._created, **{name: getattr(asked, name) for name in names}}

    def _picture(self, index: int) -> dict[str, str]:
        if self._request.response_format == "url":
            own = f"{self._base}/v1/jobs/{self._job.id}/images/{index}/picture"
            return {"url": self._farm.store.sign(self._key(index), ADDRESS) or own}
        return {"b64_json": base64.b64encode(self._farm.store.get(self._key(index))).decode()}

    def _key(self, index: int) -> str:
        return result_key(self._job.id, index, self._job.params.output_format)
