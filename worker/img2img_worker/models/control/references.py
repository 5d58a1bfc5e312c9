"""Pictures that images are made to resemble, without a control network (``reference_only``, ``_adain``).

Before each model call the UNet runs on these pictures, noised to the same timestep, and its layers keep their
features. In the call, self-attention also attends to what was kept, or its mean and variance replace the
row's own (AdaIN). Source: sd-webui-controlnet's attention injection.
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
    """One picture, as one row of a model call refers to it."""

    #: its latent [C, h, w]
    origin: Tensor
    #: the noise that is added to it in this call, [C, h, w] on the CPU; None: not drawn yet
    noise: Tensor | None = None
    #: whether the row attends to it, and whether it takes over its mean and variance (AdaIN)
    attends: bool
    matches: bool
    #: only layers whose depth is below this refer to it; a layer's depth is 0 or more
    weight: float
    #: style fidelity, 0 to 1: the share of the layer's output without the reference
    fidelity: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceRows:
    """The first references of a call's rows, or the second ones, ..., each row once.

    The UNet runs on them for these rows alone or, if `is_whole`, for all R rows of the call.
    """

    members: tuple[RowReference, ...]
    #: the members' places in the call [n]; as numbers, too
    rows: Tensor
    places: tuple[int, ...]
    #: [n, C, h, w], or [R, C, h, w] with zeros for the other rows
    origins: Tensor
    noises: Tensor
    #: the text contexts that the UNet gets with them
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
        """Groups the references of a call's rows.

        Args:
            contexts: the text context of each row; `runs` are those of all rows.
            whole: see `is_whole`.
        """
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
        noises = to_device(torch.stack([_noise_of(each) for each in members]), origins.device)
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
        """The pictures with noise, as the UNet gets them: [n, C, h, w] or, if `is_whole`, [R, C, h, w].

        Args:
            sigmas: [N] of the model's whole timesteps.
            t: timesteps of these rows.
        """
        sigma = sigmas[t.round().long()][:, None, None, None]
        return (self.origins + sigma * self.noises) / (1 + sigma**2).sqrt()

    def chosen(self, tensor: Tensor) -> Tensor:
        """The values of these rows in `tensor` [R, ...], which has one for each row of the call."""
        return tensor if self.is_whole else tensor.index_select(0, self.rows)

    def position(self, place: int) -> int:
        """The position of a row of the call in the UNet's input for these references."""
        return place if self.is_whole else self.places.index(place)


def _noise_of(reference: RowReference) -> Tensor:
    if reference.noise is None:
        raise ValueError("a reference without the noise of its call")
    return reference.noise
