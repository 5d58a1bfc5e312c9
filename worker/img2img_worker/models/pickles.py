"""Pickles of tensors, read without running what is in them."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def load_pickle(path: Path, *, device: str = "cpu", also: Sequence[type] = ()) -> Any:
    """What a pickle of tensors holds, and nothing else: no code of it runs.

    Args:
        also: classes whose objects it may hold beside tensors.

    Raises:
        ValueError: it is no such pickle. (torch's own words advise to run what is in it.)
        OSError: the file cannot be read.
    """
    try:
        with torch.serialization.safe_globals([*also]):
            try:
                return torch.load(path, map_location=device, weights_only=True, mmap=True)
            except RuntimeError as error:
                if "mmap" not in str(error):
                    raise
                return torch.load(path, map_location=device, weights_only=True)  # of before PyTorch 1.6
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError):
        raise ValueError("damaged, or a pickle that holds more than tensors") from None
