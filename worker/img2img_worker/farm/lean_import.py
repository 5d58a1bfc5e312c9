"""Imports diffusers' networks without what it imports besides them, in half of the time."""

import gc
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")

#: diffusers looks whether they are there, and runs without: for its schedulers, its pipelines, videos, its
#: own way to load weights and LoRAs, and weights in others' formats, none of which a worker uses. Some cannot
#: be imported where the compiler is hidden
_UNUSED = (
    "scipy", "transformers", "torchvision", "accelerate", "peft",
    "auto_round", "bitsandbytes", "gguf", "modelopt", "optimum", "sdnq", "torchao",
)  # fmt: skip
_COMPILER = "torch._dynamo"


def import_diffusers(*, compiles: bool) -> None:
    """Import it, unless it is imported already. What was hidden from it can be imported afterwards.

    Args:
        compiles: whether this process compiles networks. If not, diffusers need not import the compiler to
            mark what is not to be compiled.
    """
    if "diffusers" in sys.modules:
        return
    hidden: dict[str, ModuleType | None] = dict.fromkeys(_UNUSED)
    if not compiles:
        import_module("torch")  # it has a compiler, which is imported when it is used
        hidden[_COMPILER] = _without_marks()
    with _in_place(hidden), _packages_unlisted():
        import_module("diffusers.models.unets.unet_2d_condition")  # imports all of its networks


@contextmanager
def without_collection() -> Iterator[None]:
    """A context without garbage collection, in which imports take a sixth less time: they make no garbage.

    What was imported is not collected afterwards, either: that would take a tenth of a second each time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _packages_unlisted() -> Iterator[None]:
    """Keep diffusers from listing each file of each installed package, only to name `cv2`'s in messages."""
    listed = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = dict
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = listed


def _without_marks() -> ModuleType:
    """A stand-in for torch._dynamo, with what diffusers' definitions use of it."""
    module: Any = ModuleType(_COMPILER)
    module.allow_in_graph = _unmarked
    module.disable = lambda function=None, *_, **__: _unmarked if function is None else function
    typed: ModuleType = module
    return typed


def _unmarked(what: T) -> T:
    return what


@contextmanager
def _in_place(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Put stand-ins in place of these modules; None: the module appears not to be installed."""
    absent = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(absent)  # type: ignore[arg-type]  # None is what the import system documents
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
