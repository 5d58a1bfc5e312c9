"""Room for what is being uploaded: no byte of it is lost or counted twice, whenever files are collected."""

import gc
from typing import Any

import pytest

from img2img_gateway.gateway_errors import Problem
from img2img_gateway.sent_file import SentFile, UploadSpace


class Collected:
    """Runs the collector while a file's bytes are counted, as it may at any allocation."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __rsub__(self, held: int) -> int:
        gc.collect()
        return held - self.size


def lost_file(space: UploadSpace, size: int) -> None:
    """One that only the collector frees."""
    file: Any = SentFile(space, "a")
    file.write(bytes(size))
    file.itself = file


def test_files_that_are_collected_while_others_are_counted_give_back_what_they_held() -> None:
    space = UploadSpace(20)
    file = SentFile(space, "a")
    file.write(bytes(3))
    gc.disable()
    try:
        lost_file(space, 7)
        with pytest.raises(Problem):
            space.take("a", 1)
        file.size = Collected(3)  # type: ignore[assignment]
        file.close()
        lost = SentFile(space, "a")
        lost.write(b"")  # counts what is gone
    finally:
        gc.enable()
    space.take("a", 10)
