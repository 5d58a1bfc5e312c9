"""A large file is read once for its hash, by whichever process asks first, and again when it has changed."""

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from img2img_shared.file_hashes import FileHashes


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read."""
    names: list[str] = []
    digest: Callable[..., Any] = hashlib.file_digest

    def noted(file: Any, *how: Any, **more: Any) -> Any:
        names.append(Path(file.name).name)
        return digest(file, *how, **more)

    monkeypatch.setattr(hashlib, "file_digest", noted)
    return names


def written(path: Path, weights: bytes) -> str:
    path.write_bytes(weights)
    return hashlib.sha256(weights).hexdigest()


def test_the_next_process_need_not_read_it(tmp_path: Path, reads: list[str]) -> None:
    wanted = written(tmp_path / "sd.safetensors", b"weights")
    for _ in range(3):
        assert FileHashes(tmp_path / "hashes").of(tmp_path / "sd.safetensors") == wanted
    assert reads == ["sd.safetensors"]


def test_it_is_read_again_when_another_file_has_its_place(tmp_path: Path, reads: list[str]) -> None:
    path, hashes = tmp_path / "sd.safetensors", FileHashes(tmp_path / "hashes")
    written(path, b"weights")
    before, times = hashes.of(path), path.stat()
    wanted = written(tmp_path / "other", b"another")
    os.utime(tmp_path / "other", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "other").replace(path)
    assert path.stat().st_size == times.st_size
    assert hashes.of(path) == wanted != before
    assert FileHashes(tmp_path / "hashes").of(path) == wanted
    assert len(reads) == 2


@pytest.mark.parametrize("found", [b"", b"nonsense", b"\xff\xfe", b"1\n2\n3"])
def test_a_damaged_memory_is_read_over(tmp_path: Path, found: bytes, reads: list[str]) -> None:
    path = tmp_path / "sd.safetensors"
    wanted = written(path, b"weights")
    FileHashes(tmp_path / "hashes").of(path)
    (memory,) = (tmp_path / "hashes").iterdir()
    memory.write_bytes(found)
    assert FileHashes(tmp_path / "hashes").of(path) == wanted
    assert len(reads) == 2


def test_a_folder_that_cannot_be_written_costs_the_memory_only(tmp_path: Path) -> None:
    (tmp_path / "hashes").write_text("a file")
    wanted = written(tmp_path / "sd.safetensors", b"weights")
    assert FileHashes(tmp_path / "hashes").of(tmp_path / "sd.safetensors") == wanted


def test_who_asks_while_it_is_read_waits_for_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, hashes = tmp_path / "sd.safetensors", FileHashes()
    wanted = written(path, b"weights")
    digest, begun, go, reads = hashlib.file_digest, threading.Event(), threading.Event(), [0]

    def slow(file: Any, *how: Any, **more: Any) -> Any:
        reads[0] += 1
        begun.set()
        assert go.wait(60)
        return digest(file, *how, **more)

    monkeypatch.setattr(hashlib, "file_digest", slow)
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(hashes.of, path)]
        assert begun.wait(60)
        futures += [pool.submit(hashes.of, path) for _ in range(3)]
        go.set()
        assert {future.result(60) for future in futures} == {wanted}
    assert reads == [1]
