"""Weights in files that are mapped into memory, and whose pages are released once they are copied."""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

#: bytes that are copied before their pages are released
PIECE = 1 << 26


class MappedFiles:
    """The files that one checkpoint's weights are mapped from.

    Pages that were read count as this process' memory until they are released: without that, loading would
    take the file's size in addition to the model's.
    """

    def __init__(self) -> None:
        self._mapped: list[mmap.mmap] = []

    def read(self, path: Path) -> dict[str, Tensor]:
        """All tensors of a .safetensors file; each is read from the disk when it is used.

        Raises:
            SafetensorError, OSError: it is no such file, or broken.
        """
        with safe_open(path, framework="pt", device="cpu") as file, path.open("rb") as raw:
            # a private mapping, although nobody writes: torch warns about memory that is read-only
            mapped = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_COPY)
            self._mapped.append(mapped)
            start = 8 + int.from_bytes(mapped[:8], "little")
            tensors = {}
            for key in file.offset_keys():  # in the order of the file, whose gaps the library would refuse
                like = file.get_tensor(key)
                tensors[key] = _at(mapped, start, like)
                start += like.nbytes
        return tensors

    def used(self, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The names and weights; the pages of a weight may be released once the next one is asked for."""
        n_bytes = 0
        for name, weight in weights.items():
            yield name, weight
            n_bytes += weight.nbytes
            if n_bytes > PIECE:
                self._release()
                n_bytes = 0
        self._release()

    def _release(self) -> None:
        """Release the pages that were read; the system reads them again, from its cache, if they are used."""
        for mapped in self._mapped:
            if hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)


def _at(mapped: mmap.mmap, start: int, like: Tensor) -> Tensor:
    if not like.nbytes:
        return torch.empty_like(like)
    flat = torch.frombuffer(mapped, dtype=torch.uint8, count=like.nbytes, offset=start)
    return flat.view(like.dtype).view(like.shape)
