"""Builds networks that have shapes but no values, until weights are put into them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: the functions that torch.nn.init calls, and that would take the time
_DRAWS = (Tensor.normal_, Tensor.uniform_)


@contextmanager
def shapes_alone() -> Iterator[None]:
    """In this context, networks are built on torch's meta device, and no initial values are drawn."""
    with torch.device("meta"), _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    """Skips drawing: on the meta device it has no effect, but imports torch's compiler."""

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
