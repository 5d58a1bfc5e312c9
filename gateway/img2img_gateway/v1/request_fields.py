"""What many requests of our own API have: ids, indices, idempotency keys."""

from typing import Annotated

from fastapi import Header, Path, Query

JobId = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9_-]{8,64}$", description="As submitting gave it.", examples=["0a32dddf8136d8fc"]
    ),
]
Start = Annotated[int, Query(ge=0, le=100_000_000)]
Index = Annotated[int, Path(ge=0, le=100_000_000)]
#: of a submission
SubmissionKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="A repeat of a request with the same key gives the first job. Ask again with it "
        "after a 503: whether the job was written is not known then. Another request with it is a 409.",
    ),
]
#: of what changes something
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="A repeat of a call with the same key, within ten minutes, has no further effect and is "
        "answered as the first was. Ask again with it after a 503, or where no answer came.",
    ),
]

#: bytes: a form is limited by picture and by their number, since it never lies in memory
UNLIMITED = 2**62
