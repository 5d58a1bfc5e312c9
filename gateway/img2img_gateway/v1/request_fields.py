"""Fields of many of our own API's requests: ids, indices, idempotency keys."""

from typing import Annotated

from fastapi import Header, Path, Query

JobId = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9_-]{8,64}$",
        description="The id that submitting it answered.",
        examples=["0a32dddf8136d8fc"],
    ),
]
Start = Annotated[int, Query(ge=0, le=100_000_000)]
Index = Annotated[int, Path(ge=0, le=100_000_000)]
#: the idempotency key of a submission
SubmissionKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="A repeat of the request with the same key answers the first one's job. Repeat it after "
        "a 503: whether the job was submitted is not known then. Another request with the key is a 409.",
    ),
]
#: the idempotency key of a call that changes something
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="A repeat of the call with the same key within ten minutes has no further effect and "
        "gets the first one's answer. Repeat it after a 503, or if no answer came.",
    ),
]

#: bytes: a body that is streamed is limited picture by picture, since it is never in memory as a whole
UNLIMITED = 2**62
