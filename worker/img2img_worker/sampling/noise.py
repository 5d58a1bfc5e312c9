"""The noise of one image: a stream of its own, so that a picture does not depend on its neighbours.

Source: A1111's ``rng.ImageRNG``, for the noise sources "CPU" and "NV".
"""

from collections.abc import Iterator
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from img2img_shared.params import Params
from img2img_shared.seeds import shift_seed
from img2img_worker.sampling.brownian import BrownianPath
from img2img_worker.sampling.philox import Philox
from img2img_worker.sampling.plan import Draw, Plan

#: [C, h, w] of a latent
Shape = tuple[int, int, int]


class NoiseStream:
    """All independent noises of one image, in order: the starting noise, then one for each later draw."""

    def __init__(self, params: Params, seed: int, subseed: int, shape: Shape) -> None:
        self._params, self._seed, self._subseed, self._shape = params, seed, subseed, shape
        self._stream = _stream(params.noise_source, seed)
        self._begun = False

    def next(self) -> Tensor:
        """float32 noise [C, h, w] on the CPU."""
        if self._begun:
            return self._stream.randn(self._shape)
        self._begun = True
        first = self._starting()
        if self._params.eta_noise_seed_delta:
            later = shift_seed(self._seed, self._params.eta_noise_seed_delta)
            self._stream = _stream(self._params.noise_source, later)
        return first

    def _starting(self) -> Tensor:
        params, shape = self._params, self._shape
        if params.seed_resize_from_w and params.seed_resize_from_h:
            shape = (shape[0], params.seed_resize_from_h // 8, params.seed_resize_from_w // 8)
        resized = shape != self._shape
        # noise of another size comes from a stream of its own with the same seed
        noise = first_draw(self._seed, shape, params.noise_source) if resized else self._stream.randn(shape)
        if params.subseed_strength:
            noise = slerp(
                params.subseed_strength, noise, first_draw(self._subseed, shape, params.noise_source)
            )
        return centred(noise, self._stream.randn(self._shape)) if resized else noise


def noises(plan: Plan, params: Params, seed: int, subseed: int, shape: Shape) -> Iterator[Tensor]:
    """The plan's K noises in order, each float32 [C, h, w], drawn when they are needed."""
    stream = NoiseStream(params, seed, subseed, shape)
    drawn = 0
    path: BrownianPath | None = None
    for request in plan.noises:
        if isinstance(request, Draw):
            for _ in range(request.position - drawn):
                stream.next()  # drawn and unused, as by a sampler whose churn is off at that step
            drawn = request.position + 1
            yield stream.next()
        else:
            if path is None:
                randn = partial(first_draw, noise_source=params.noise_source)
                path = BrownianPath(_path_seed(params, seed), plan.span, shape, randn)
            yield path.noise(request.sigma, request.sigma_next)


def _path_seed(params: Params, seed: int) -> int:
    """The seed of the Brownian path: the image's own or, as in older versions of A1111, drawn with that."""
    if not params.no_dpmpp_sde_batch_determinism:
        return seed
    return int(torch.randint(0, 2**63 - 1, [], generator=torch.Generator().manual_seed(seed)))


def fill_noise(seed: int, shape: Shape, noise_source: str = "cpu") -> Tensor:
    """The noise of fill mode 2 under the mask: the seed's first draw, without subseed or resize."""
    return first_draw(seed, shape, noise_source)


def first_draw(seed: int, shape: tuple[int, ...], noise_source: str) -> Tensor:
    """The first standard normal float32 numbers of a seed."""
    return _stream(noise_source, seed).randn(shape)


def slerp(part: float, low: Tensor, high: Tensor) -> Tensor:
    """Spherical interpolation of two noises [C, h, w], column by column as in A1111.

    If the columns hardly differ, A1111 interpolates linearly, and with the two exchanged.
    """
    cosine = (low / low.norm(dim=1, keepdim=True) * (high / high.norm(dim=1, keepdim=True))).sum(1)
    if cosine.mean() > 0.9995:
        return low * part + high * (1 - part)
    angle = torch.acos(cosine)
    weights = torch.sin((1 - part) * angle), torch.sin(part * angle)
    low_weight, high_weight = (each.div(torch.sin(angle)).unsqueeze(1) for each in weights)
    return low_weight * low + high_weight * high


def centred(noise: Tensor, around: Tensor) -> Tensor:
    """`around` with `noise` over its middle, cropped where it is larger."""
    laid = around.clone()
    target, source = [slice(None)], [slice(None)]
    for size, place in zip(noise.shape[1:], around.shape[1:], strict=True):
        margin = (place - size) // 2
        length = size if margin >= 0 else size + 2 * margin
        target.append(slice(max(margin, 0), max(margin, 0) + length))
        source.append(slice(max(-margin, 0), max(-margin, 0) + length))
    laid[tuple(target)] = noise[tuple(source)]
    return laid


class _Stream(Protocol):
    def randn(self, shape: tuple[int, ...]) -> Tensor: ...


class _CpuStream:
    """torch's generator on the CPU."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator("cpu").manual_seed(seed)

    def randn(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self._generator)


class _NvStream:
    """An NVIDIA GPU's generator."""

    def __init__(self, seed: int) -> None:
        self._philox = Philox(seed)

    def randn(self, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(self._philox.randn(shape))


def _stream(noise_source: str, seed: int) -> _Stream:
    return _NvStream(seed) if noise_source == "nv" else _CpuStream(seed)
