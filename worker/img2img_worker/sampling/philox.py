"""The normal numbers of an NVIDIA GPU's generator, computed on the CPU.

Philox 4x32-10, Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3", and Box–Muller, as
``torch.randn(device="cuda")`` combines them and A1111's ``rng_philox`` imitates them.
"""

import numpy as np
import numpy.typing as npt

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))
ROUNDS = 10
#: CUDA's single-precision constants for 2^-32 and 2 pi 2^-32
TO_UNIT = np.float64(np.float32(2.3283064e-10))
TO_ANGLE = np.float64(np.float32(2.3283064e-10 * 6.2831855))

Words = npt.NDArray[np.uint32]


class Philox:
    """A generator of one GPU's stream: each call of `randn` is one call of ``torch.randn`` there."""

    def __init__(self, seed: int) -> None:
        #: a negative seed as its two's complement, as in NumPy
        self._seed = seed % 2**64
        self._calls = 0

    def randn(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Standard normal numbers of any shape with less than 2^32 elements."""
        n = int(np.prod(shape))
        zeros = np.zeros(n, dtype=np.uint32)
        counter = (np.full(n, self._calls, dtype=np.uint32), zeros, np.arange(n, dtype=np.uint32), zeros)
        key = np.array([self._seed & 0xFFFFFFFF, self._seed >> 32], dtype=np.uint32)
        self._calls += 1
        first, second, _, _ = philox(counter, key)
        return box_muller(first, second).reshape(shape)


def philox(counter: tuple[Words, Words, Words, Words], key: Words) -> tuple[Words, Words, Words, Words]:
    """Four random words [n] for each counter [n], under a key of two words."""
    a, b, c, d = counter
    for _ in range(ROUNDS):
        left, right = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = _high(right) ^ b ^ key[0], _low(right), _high(left) ^ d ^ key[1], _low(left)
        key = key + np.array(KEY_STEPS)
    return a, b, c, d


def box_muller(first: Words, second: Words) -> npt.NDArray[np.float32]:
    """The first of each pair of normal numbers that two uniform words make."""
    radius = np.sqrt(-2.0 * np.log(first * TO_UNIT + TO_UNIT / 2))
    return np.asarray(radius * np.sin(second * TO_ANGLE + TO_ANGLE / 2), dtype=np.float32)


def _high(product: npt.NDArray[np.uint64]) -> Words:
    return (product >> np.uint64(32)).astype(np.uint32)


def _low(product: npt.NDArray[np.uint64]) -> Words:
    return product.astype(np.uint32)
