"""The answers to calls with an idempotency key, kept for a caller that lost one and repeats the call."""

import json
from typing import Any

from img2img_shared.ledger.connect import FarmRedis

#: seconds for which it is kept, as in keys.lua
KEPT = 600


class Answer:
    """The answer to one call with an idempotency key: ``{prefix}:answer:VERB:SUBJECT:KEY``.

    Methods raise `Unavailable`.
    """

    def __init__(self, redis: FarmRedis, verb: str, subject: str, once: str) -> None:
        self._call = redis.call
        self._key = redis.key("answer", verb, subject, once)

    def given(self) -> Any:
        """The earlier answer, or None."""
        data = self._call("GET", self._key)
        return None if data is None else json.loads(data)

    def give(self, document: Any) -> None:
        """Keep this as the answer."""
        self._call("SET", self._key, json.dumps(document), "EX", KEPT)
