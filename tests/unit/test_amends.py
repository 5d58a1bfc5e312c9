"""Changes of a row's answer are made on the device, which nobody waits for meanwhile."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from img2img_worker.models.control.amends import Restore, amend_answer


class Unasked(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """No tensor's value is asked for, which waits for all that a GPU has been given."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert function is not torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_an_answer_is_amended_without_asking_for_its_timestep() -> None:
    x, answer, origin = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    sigmas = torch.linspace(0.1, 10, 1000)
    restore = Restore(sigmas=sigmas, weight=1.0, origin=origin, mask=torch.zeros(1, 8, 8))
    with Unasked():  # type: ignore[no-untyped-call]
        amended = amend_answer(restore, x, torch.tensor(500.2), answer)
    whole = (1 + sigmas[500] ** 2).sqrt() * x
    torch.testing.assert_close(whole - sigmas[500] * amended, origin)
