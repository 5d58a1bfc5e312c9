"""spandrel, which knows upscalers' networks by their weights, as far as it is installed."""

import sys
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

#: what spandrel imports of torchvision: for an inpainting network and a face restorer, which nobody here runs
_FUNCTIONS = ("InterpolationMode", "normalize", "rotate")


@cache
def spandrel() -> Any:
    """The package, imported without torchvision where that is missing.

    PyPI's torchvision does not go with a build of torch for CPUs alone: beside that, not even transformers
    can be imported. So it cannot be asked for everywhere, for two networks out of forty.

    Raises:
        ImportError: it is not installed.
    """
    stand_ins = {} if find_spec("torchvision") else _stand_ins()
    sys.modules.update(stand_ins)
    try:
        import spandrel

        # networks whose licences are not for every use: who wants them installs them
        with suppress(ImportError):
            import spandrel_extra_arches

            spandrel_extra_arches.install(ignore_duplicates=True)
    finally:
        for name in stand_ins:  # nobody else is to take them for the real ones
            del sys.modules[name]
    return spandrel


def _stand_ins() -> dict[str, ModuleType]:
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    modules = {name: ModuleType(name) for name in names}
    for function in _FUNCTIONS:
        setattr(modules[names[-1]], function, None)
    return modules
