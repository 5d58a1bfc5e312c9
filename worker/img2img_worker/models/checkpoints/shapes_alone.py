"""Networks of which nothing exists but their shapes, until weights are put into them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: what torch.nn.init comes down to, and what takes its time
_DRAWS = (Tensor.normal_, Tensor.uniform_)


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Networks that are made here have weights on torch's meta device, and no initial values are drawn."""
    with torch.device("meta"), _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    """On the meta device, to draw values imports the compiler, and draws none."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func in _DRAWS:
            return args[0]
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else named["tensor"]
        return func(*args, **named)
