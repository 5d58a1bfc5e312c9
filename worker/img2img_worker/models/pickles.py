"""Reads pickles of tensors without running code in them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.serialization import safe_globals

from img2img_worker.models.foreign_files import reading

#: how many times as large as their file tensors may be: trainers save views of a storage beside the whole
_MOST_TIMES = 4


def load_pickle(path: Path, *, device: str = "cpu", also: Sequence[type] = ()) -> Any:
    """The content of a pickle of tensors; no code in it runs.

    Args:
        also: further classes of objects that it may hold.

    Raises:
        ValueError: it is no such pickle. The message is not torch's, which advises to run the code in it.
        OSError: the file cannot be read.
    """
    with reading("damaged, or a pickle that holds more than tensors"), safe_globals([*also]):
        read = _load(path, device)
    if sum(each.nbytes for each in _tensors(read, device)) > _MOST_TIMES * path.stat().st_size:
        raise ValueError("its tensors are larger than the file: one number may stand for billions of them")
    return read


def _load(path: Path, device: str) -> Any:
    try:
        return torch.load(path, map_location=device, weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        return torch.load(path, map_location=device, weights_only=True)  # written before PyTorch 1.6


def _tensors(read: Any, device: str) -> Iterator[Tensor]:
    """All tensors in a pickle's content, each once, however many names it has.

    Raises:
        ValueError: one is sparse, quantized or without data.
    """
    left: list[Any] = [read]
    seen: set[Any] = set()
    while left:
        found = left.pop()
        if isinstance(found, Tensor):
            is_without_numbers = found.is_meta and device != "meta"
            if found.layout != torch.strided or found.is_quantized or is_without_numbers:
                raise ValueError("a tensor that is sparse, quantized or without numbers")
            storage = found.untyped_storage()._cdata, found.storage_offset(), found.shape
            if storage not in seen:
                yield found
            seen.add(storage)
        elif id(found) not in seen:
            seen.add(id(found))
            if isinstance(found, Mapping | nn.ParameterDict):
                left += found.values()
            elif isinstance(found, list | tuple | set):
                left += found
