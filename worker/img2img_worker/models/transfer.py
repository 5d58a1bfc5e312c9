"""Which device a thread works on, and copies of tensors to it and from it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to `device` without waiting for it.

    It goes through pinned memory, since a copy from pageable memory waits for the device.
    """
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Tensor:
    """A copy on the CPU, complete once the device has done all that it was given so far."""
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return host.copy_(tensor, non_blocking=True)


def make_current(device: torch.device) -> AbstractContextManager[object]:
    """Within the context, a GPU is this thread's current one, as the first is in any new thread.

    Events are recorded, graphs captured and kernels of ours launched there, wherever their tensors are.
    """
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
