"""diffusers' networks without what it imports beside them: half of the time that a worker's imports took."""

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
    """Import it, if nobody has yet. All that it did not see can be imported afterwards, by whom it is for.

    Args:
        compiles: whether this process compiles networks. If not, nobody needs the marks that diffusers puts
            on what is not to be compiled, for which it imports the compiler.
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
    """Imports in here take a sixth less time: nobody looks for garbage among what they make, which all stays.

    Nor does anybody afterwards: it would take a tenth of a second each time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _packages_unlisted() -> Iterator[None]:
    """diffusers lists each file of each installed package, to know what `cv2`'s is called in messages."""
    listed = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = dict
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = listed


def _without_marks() -> ModuleType:
    """torch._dynamo, as far as diffusers' definitions use it."""
    module: Any = ModuleType(_COMPILER)
    module.allow_in_graph = _unmarked
    module.disable = lambda function=None, *_, **__: _unmarked if function is None else function
    typed: ModuleType = module
    return typed


def _unmarked(what: T) -> T:
    return what


@contextmanager
def _in_place(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Whoever imports one of these gets what stands for it; None: it is not installed."""
    absent = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(absent)  # type: ignore[arg-type]  # None is what the import system documents
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
