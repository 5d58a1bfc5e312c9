"""What was answered to a call that changes something, for whoever asks again since no answer came."""

import json
from typing import Any

from img2img_shared.ledger.connect import FarmRedis

#: seconds for which it is kept, as in keys.lua
KEPT = 600


class Answer:
    """The one to a call with an idempotency key: ``{prefix}:answer:VERB:SUBJECT:KEY``.

    Methods raise `Unavailable`.
    """

    def __init__(self, redis: FarmRedis, verb: str, subject: str, once: str) -> None:
        self._call = redis.call
        self._key = redis.key("answer", verb, subject, once)

    def given(self) -> Any:
        """What was answered before; None: nothing yet."""
        data = self._call("GET", self._key)
        return None if data is None else json.loads(data)

    def give(self, document: Any) -> None:
        """From now on, this is the answer."""
        self._call("SET", self._key, json.dumps(document), "EX", KEPT)
