"""Puts pictures into the store, where no janitor removes them before a job has named them."""

import hashlib
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from functools import partial

from img2img_shared.errors import Refused, StoreError
from img2img_shared.farm.patience import patiently
from img2img_shared.job import picture_digest, picture_key
from img2img_shared.ledger.submissions import Submissions
from img2img_shared.store import Store

#: a picture to be stored: its encoded bytes, what gives them for as long as they are needed (entered in a
#: thread), or, as "inputs/" and its SHA-256, one that the tenant has uploaded
Source = bytes | Callable[[], AbstractContextManager[bytes]] | str

#: seconds after which a submission is given up: far longer than one takes, with an outage of Redis in it
AGE = 3 * 24 * 3600.0
#: seconds for which a picture may be on its way out of the store
REMOVAL = 120.0
#: seconds after its upload for which a picture is not written again by who only asks for it
FRESH = 3600.0
#: seconds between two looks whether it is gone
_LOOK = 0.1


class Intake:
    """The intake of one farm. Methods raise `Unavailable` when Redis stays away, and `StoreError`.

    Args:
        prove: checks that the store is the farm's; `Submission`s have already done so.
        outage: seconds for which Redis is asked again while it is away.
    """

    def __init__(
        self, store: Store, submissions: Submissions, prove: Callable[[], None], outage: float = 0.0
    ) -> None:
        self._store = store
        self._prove = prove
        self._submissions = submissions
        self._outage = outage

    def put(self, job_id: str, tenant: str, source: Source, field: str) -> str:
        """The store key of a picture that job `job_id` will name, uploaded unless the tenant has it.

        Raises:
            Refused: names `field`; the picture cannot be read, or does not exist.
        """
        if isinstance(source, str):
            key = picture_key(tenant, picture_digest(source))
            self._hold(job_id, tenant, [picture_digest(key)])
            if not self._store.exists(key):
                raise Refused(
                    field, source, "no such upload of yours; upload the picture first (POST /v1/inputs)"
                )
            return key
        if isinstance(source, bytes):
            return self._put(job_id, tenant, source)
        with source() as data:
            return self._put(job_id, tenant, data)

    def put_all(
        self, job_id: str, tenant: str, pictures: Mapping[str, Source], prefix: str
    ) -> dict[str, str]:
        """Like `put`, for several pictures by their roles."""
        return {role: self.put(job_id, tenant, each, prefix + role) for role, each in pictures.items()}

    def upload(self, tenant: str, source: Source, field: str) -> str:
        """Like `put`, for jobs that are submitted later."""
        self._prove()
        upload_id = f"upload-{secrets.token_hex(8)}"
        try:
            return self.put(upload_id, tenant, source, field)
        finally:
            self._submissions.forget([upload_id])

    def refresh(self, tenant: str, digest: str) -> bool:
        """Whether the tenant has a picture with this SHA-256, which counts as uploaded within the hour."""
        key, upload_id = picture_key(tenant, digest), f"upload-{secrets.token_hex(8)}"
        try:
            self._hold(upload_id, tenant, [digest])
            written = self._store.written(key)
            if written is not None and time.time() - written > FRESH:
                self._store.put_picture(tenant, self._store.get_picture(key))
        finally:
            self._submissions.forget([upload_id])
        return written is not None

    def _put(self, job_id: str, tenant: str, data: bytes) -> str:
        self._hold(job_id, tenant, [hashlib.sha256(data).hexdigest()], len(data))
        return self._store.put_picture(tenant, data)

    def _hold(self, job_id: str, tenant: str, digests: Collection[str], size: int = 0) -> None:
        hold = partial(self._submissions.hold, job_id, tenant, digests, 2 * AGE, size)
        end = time.monotonic() + 2 * REMOVAL
        while not patiently(hold, self._outage):
            if time.monotonic() > end:
                text = "a picture is being removed from the store for minutes; try again"
                raise StoreError(text, transient=True, reason=text)
            time.sleep(_LOOK)
