"""Bytes as a client sends them: on the disk beyond the first, since it may take its time over the rest."""

from tempfile import SpooledTemporaryFile

#: bytes up to which they stay in memory
IN_MEMORY = 1024 * 1024


class SentFile:
    """What has come so far. The file has no name, and goes with this object."""

    def __init__(self) -> None:
        self.size = 0
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  # closed with this object

    def write(self, data: bytes) -> None:
        """Add to its end."""
        self._file.write(data)
        self.size += len(data)

    def read(self) -> bytes:
        """All of it."""
        self._file.seek(0)
        return self._file.read()

    def __del__(self) -> None:
        self._file.close()
