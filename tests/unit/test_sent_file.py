"""Room for what is being uploaded: no byte of it is lost or counted twice, whenever files are collected."""

import gc
from pathlib import Path
from typing import Any

import pytest

from img2img_gateway import sent_file
from img2img_gateway.gateway_errors import Problem
from img2img_gateway.sent_file import RETRY_AFTER, SentFile, UploadSpace


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


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_full_disk_asks_to_come_again_and_keeps_no_room(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full")
    monkeypatch.setattr(sent_file, "SpooledTemporaryFile", lambda **_: full.open("r+b"))
    space = UploadSpace(2 * size)

    def send() -> None:
        with space.files("a") as new_file:
            file = new_file()
            file.write(bytes(size))
            file.read()

    with pytest.raises(Problem, match="No space left on device; try again") as refused:
        send()
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": str(RETRY_AFTER)})
    space.take("a", size)
