"""What the kernels in Triton have in common: their tiles, where they run, and what they are compiled for."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
import triton
from torch import Tensor

P = ParamSpec("P")

#: pixels and channels of a picture that a program works on at a time
TILE = 64
#: arguments for whose values no kernel is compiled: each takes a third of a second, at the first picture ever
_ANY = ("step", "pixels", "size", "part", "parts", "lines", "width", "seen_width", "seen_height", "n_terms")


def on_its_device(launch: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Triton launches on the thread's current device, wherever the tensors are."""

    @wraps(launch)
    def launch_there(*args: P.args, **more: P.kwargs) -> Tensor:
        with torch.cuda.device_of(args[0]):  # type: ignore[no-untyped-call]  # torch's own
            return launch(*args, **more)

    return launch_there


def kernel(function):
    """A Triton kernel of `function`."""
    names = inspect.signature(function).parameters
    return triton.jit(function, do_not_specialize=[name for name in _ANY if name in names])
