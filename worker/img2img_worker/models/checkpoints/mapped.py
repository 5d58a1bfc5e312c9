"""Weights in files that are mapped into memory, and leave it as soon as they are copied."""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

#: bytes that are copied before their pages are given back
PIECE = 1 << 26


class MappedFiles:
    """The files that one checkpoint's weights are mapped from.

    What is read of a mapped file counts as this process' memory until it is given back: without that, loading
    takes the file's size beside the model's.
    """

    def __init__(self) -> None:
        self._mapped: list[mmap.mmap] = []

    def read(self, path: Path) -> dict[str, Tensor]:
        """All tensors of a .safetensors file; none is read until it is used.

        Raises:
            SafetensorError, OSError: it is none, or broken.
        """
        with safe_open(path, framework="pt", device="cpu") as file, path.open("rb") as raw:
            # private, as nobody writes; torch warns of memory that it could not write to
            mapped = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_COPY)
            self._mapped.append(mapped)
            start = 8 + int.from_bytes(mapped[:8], "little")
            tensors = {}
            for key in file.offset_keys():  # one behind the other, without gaps: the library has checked that
                like = file.get_tensor(key)
                tensors[key] = _at(mapped, start, like)
                start += like.nbytes
        return tensors

    def used(self, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The names and weights, each of which is done with when the next one is asked for."""
        n_bytes = 0
        for name, weight in weights.items():
            yield name, weight
            n_bytes += weight.nbytes
            if n_bytes > PIECE:
                self._give_back()
                n_bytes = 0
        self._give_back()

    def _give_back(self) -> None:
        """The pages that were read; they are read again, from the system's cache, if somebody looks there."""
        for mapped in self._mapped:
            if hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)


def _at(mapped: mmap.mmap, start: int, like: Tensor) -> Tensor:
    if not like.nbytes:
        return torch.empty_like(like)
    flat = torch.frombuffer(mapped, dtype=torch.uint8, count=like.nbytes, offset=start)
    return flat.view(like.dtype).view(like.shape)
