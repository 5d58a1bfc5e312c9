"""Imports spandrel, which recognises an upscaler's network by its weights, if it is installed."""

import sys
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

#: what spandrel imports from torchvision, for an inpainting network and a face restorer that we never run
_FUNCTIONS = ("InterpolationMode", "normalize", "rotate")


@cache
def spandrel() -> Any:
    """The package, imported without torchvision where that is missing.

    PyPI's torchvision does not fit a CPU-only build of torch: beside one, even transformers fails to import.
    So we do not depend on it for two networks out of forty.

    Raises:
        ImportError: it is not installed.
    """
    stand_ins = {} if find_spec("torchvision") else _stand_ins()
    sys.modules.update(stand_ins)
    try:
        import spandrel

        # more networks, some of them not for commercial use: whoever wants them installs that package
        with suppress(ImportError):
            import spandrel_extra_arches

            spandrel_extra_arches.install(ignore_duplicates=True)
    finally:
        for name in stand_ins:  # nothing else may take them for the real modules
            del sys.modules[name]
    return spandrel


def _stand_ins() -> dict[str, ModuleType]:
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    modules = {name: ModuleType(name) for name in names}
    for function in _FUNCTIONS:
        setattr(modules[names[-1]], function, None)
    return modules
