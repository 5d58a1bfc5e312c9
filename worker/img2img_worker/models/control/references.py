"""Pictures that the rows of a model call attend to as if they were beside them (``reference_only``).

Before the call, the UNet sees each of these pictures with the noise of the same timestep, and what its layers
make of it is kept; then the rows attend to that too, or take over its mean and variance. Source:
sd-webui-controlnet's attention injection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from img2img_worker.models.families.context_runs import Run, runs_of
from img2img_worker.models.transfer import to_device


@dataclass(frozen=True, kw_only=True, eq=False)
class RowReference:
    """One picture's say in one row."""

    #: its latent [C, h, w]
    origin: Tensor
    #: what is laid over it in this call, [C, h, w] on the CPU; None: it is not known yet
    noise: Tensor | None = None
    #: whether the row attends to it, and whether it takes over its mean and variance
    attends: bool
    matches: bool
    #: layers whose depth, from 0 on, is below this have a part in it
    weight: float
    #: how much the row keeps of what it would be without, 0 to 1
    fidelity: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceRows:
    """The first pictures of a call's rows, or the second ones, ..., each row once.

    The UNet sees them for these rows alone, unless `is_whole`: then for all R rows of the call.
    """

    members: tuple[RowReference, ...]
    #: the members' places in the call [n]; as numbers, too
    rows: Tensor
    places: tuple[int, ...]
    #: [n, C, h, w], or [R, C, h, w] with what has no meaning for the others
    origins: Tensor
    noises: Tensor
    #: the contexts that the UNet sees with them
    runs: tuple[Run, ...]
    is_whole: bool

    @classmethod
    def of(
        cls,
        rows: Sequence[Sequence[RowReference]],
        contexts: Sequence[Tensor],
        runs: tuple[Run, ...],
        *,
        whole: bool,
    ) -> tuple[Self, ...]:
        """Those of a call whose rows have these references and contexts, in `runs`."""
        most = max((len(references) for references in rows), default=0)
        found = []
        for number in range(most):
            places = [place for place, references in enumerate(rows) if len(references) > number]
            members = [rows[place][number] for place in places]
            found.append(cls._of(members, places, contexts, runs, whole=whole))
        return tuple(found)

    @classmethod
    def _of(
        cls,
        members: Sequence[RowReference],
        places: Sequence[int],
        contexts: Sequence[Tensor],
        runs: tuple[Run, ...],
        *,
        whole: bool,
    ) -> Self:
        origins = torch.stack([each.origin for each in members])
        noises = torch.stack([_known(each.noise) for each in members]).to(origins.device, non_blocking=True)
        index = to_device(torch.tensor(places), origins.device)
        if whole:
            origins, noises = (
                part.new_zeros(len(contexts), *part.shape[1:]).index_copy(0, index, part)
                for part in (origins, noises)
            )
        return cls(
            members=tuple(members),
            rows=index,
            places=tuple(places),
            origins=origins,
            noises=noises,
            runs=runs if whole else runs_of([contexts[place] for place in places]),
            is_whole=whole,
        )

    def noised(self, sigmas: Tensor, t: Tensor) -> Tensor:
        """The pictures as the UNet sees them, [n, C, h, w] or of all rows.

        Args:
            sigmas: [N] of the model's whole timesteps.
            t: timesteps of these rows.
        """
        sigma = sigmas[t.round().long()][:, None, None, None]
        return (self.origins + sigma * self.noises) / (1 + sigma**2).sqrt()

    def chosen(self, tensor: Tensor) -> Tensor:
        """Of what all rows of the call have, what these have."""
        return tensor if self.is_whole else tensor.index_select(0, self.rows)

    def position(self, place: int) -> int:
        """Where a row of the call lies in what the UNet is given of these."""
        return place if self.is_whole else self.places.index(place)


def _known(noise: Tensor | None) -> Tensor:
    if noise is None:
        raise ValueError("a reference without the noise of its call")
    return noise
