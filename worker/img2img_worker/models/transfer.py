"""Copies tensors to a device and back, and makes a device a thread's current one."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to `device` without waiting for it; one that is there already is returned.

    It goes through pinned memory, since a copy from pageable memory waits for the device.
    """
    if device.type == "cpu" or tensor.device.type == device.type:
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Tensor:
    """A copy on the CPU, complete once the device has done all that it was given so far."""
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return host.copy_(tensor, non_blocking=True)


def make_current(device: torch.device) -> AbstractContextManager[object]:
    """In this context, a GPU is this thread's current one; in a new thread, the first GPU is.

    Events are recorded, graphs captured and our kernels launched on the current GPU, wherever tensors are.
    """
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
