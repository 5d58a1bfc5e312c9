"""Bytes as clients send them: on the disk beyond the first, since they may take their time over the rest."""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from tempfile import SpooledTemporaryFile, gettempdir
from weakref import WeakSet

from img2img_gateway.gateway_errors import Problem

log = logging.getLogger(__name__)

#: bytes of a file up to which they stay in memory
IN_MEMORY = 16 * 1024
#: seconds until who was refused is to come again
RETRY_AFTER = 5


class UploadSpace:
    """Room for what was sent and is not stored yet, of all requests.

    A tenant may have half of it, so that whoever sends slowly keeps nobody else out.

    Args:
        size: bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        #: by tenant, what is gone and not counted yet
        self._given_back: deque[tuple[str, int]] = deque()

    @contextmanager
    def files(self, tenant: str) -> Iterator[Callable[[], "SentFile"]]:
        """Makes files for one request, none of which is left when it has ended, whoever still holds it."""
        made: WeakSet[SentFile] = WeakSet()

        def new_file() -> SentFile:
            file = SentFile(self, tenant)
            made.add(file)
            return file

        try:
            yield new_file
        finally:
            for file in list(made):
                file.close()

    def take(self, tenant: str, size: int) -> None:
        """So many bytes more are there.

        Raises:
            Problem: 503, there is no room for them.
        """
        with self._lock:
            self._count_removed()
            is_fair = 2 * (self._held[tenant] + size) <= self._size
            is_room = is_fair and self._held.total() + size <= self._size
            if is_room:
                self._held[tenant] += size
        if not is_room:
            raise Problem(
                503,
                "too much is being uploaded at the moment; try again",
                headers={"Retry-After": str(RETRY_AFTER)},
            )

    def give_back(self, tenant: str, size: int) -> None:
        """They are gone. It waits for nobody: a file may be collected in the middle of a `take`."""
        self._given_back.append((tenant, size))

    def _count_removed(self) -> None:
        while self._given_back:
            tenant, size = self._given_back.popleft()
            self._held[tenant] -= size
            if not self._held[tenant]:
                del self._held[tenant]


class SentFile:
    """What has come so far of one. It has no name on the disk, and goes with this object, if not before."""

    def __init__(self, space: UploadSpace, tenant: str) -> None:
        self.size = 0
        self._space = space
        self._tenant = tenant
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  # closed with this object

    def write(self, data: bytes) -> None:
        """Add to its end.

        Raises:
            Problem: 503, there is no room, or the disk has none.
        """
        self._space.take(self._tenant, len(data))
        self.size += len(data)
        with _on_disk():
            self._file.write(data)

    def read(self) -> bytes:
        """All of it.

        Raises:
            Problem: 503, the disk did not take it.
        """
        with _on_disk():
            self._file.seek(0)
            return self._file.read()

    def close(self) -> None:
        """Forget what came."""
        with suppress(OSError):  # a full disk refuses what was still to be written, and nobody wants it now
            self._file.close()
        size, self.size = self.size, 0
        self._space.give_back(self._tenant, size)

    def __del__(self) -> None:
        self.close()


@contextmanager
def _on_disk() -> Iterator[None]:
    """Has whoever sends come again later where the disk fails: it may be full for a moment."""
    try:
        yield
    except OSError as error:
        log.warning("what is sent cannot be kept in %s: %s", gettempdir(), error.strerror)
        raise Problem(
            503,
            f"the gateway cannot keep what is sent: {error.strerror}; try again",
            headers={"Retry-After": str(RETRY_AFTER)},
        ) from error
