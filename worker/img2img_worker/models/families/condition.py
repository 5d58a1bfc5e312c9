"""The conditions of the rows of a model call."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from img2img_worker.models.adapters.hypernetworks import NO_HYPERNETWORKS, HypernetworkSet
from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.adapters.products import RowPatches
from img2img_worker.models.control.amends import RowAmend
from img2img_worker.models.control.image_prompt_rows import ImagePromptRows, RowImagePrompt
from img2img_worker.models.control.references import ReferenceRows, RowReference
from img2img_worker.models.control.rows import ControlRows, RowControl
from img2img_worker.models.families.context_runs import Run, runs_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Condition:
    """What one row is conditioned on. Its family makes it, and knows the names of its tensors.

    | name | shape | |
    |---|---|---|
    | context | [n_tokens, d] | text embeddings |
    | pooled | [p] | pooled text embedding (SDXL, SD 3, Flux) |
    | time_ids | [6] | original height and width, crop top and left, target height and width (SDXL) |
    | concat | [c, h, w] | further channels (inpainting: mask and masked latent; edit: the picture's latent) |
    | guidance | [] | the guidance scale that a distilled network gets as an input (Flux) |
    """

    tensors: Mapping[str, Tensor]
    #: what the image's LoRAs add to the denoiser
    patch: Patch = NO_PATCH
    #: whether convolutions wrap around at the edges
    tiling: bool = False
    #: the hypernetworks that act on the denoiser's attention
    hypernetworks: HypernetworkSet = NO_HYPERNETWORKS
    #: share of the tokens that are merged before self-attention
    merge_ratio: float = 0.0
    #: rows may share a call if this is equal
    shares: Hashable = None
    #: control networks that act on the row
    controls: tuple[RowControl, ...] = ()
    #: changes of the row's answer
    amends: tuple[RowAmend, ...] = ()
    #: pictures that it attends to beside its text (IP-Adapter)
    image_prompts: tuple[RowImagePrompt, ...] = ()
    #: pictures that it refers to (reference_only)
    references: tuple[RowReference, ...] = ()

    @property
    def changes(self) -> tuple[Patch, bool, HypernetworkSet, float]:
        """Everything that changes the denoiser itself, and so must be the same for all rows of a call."""
        return self.patch.merged, self.tiling, self.hypernetworks, self.merge_ratio

    @property
    def length(self) -> int:
        """The number of tokens of its context."""
        return self.tensors["context"].shape[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditions:
    """The conditions of a call's R rows, stacked."""

    #: all tensors but the contexts, [R, ...]
    tensors: Mapping[str, Tensor]
    #: the contexts; a single run if all are equally long
    runs: tuple[Run, ...]
    #: what LoRAs add to the denoiser for all rows
    patch: Patch = NO_PATCH
    #: what they add for each row by itself
    row_patches: RowPatches | None = None
    tiling: bool = False
    hypernetworks: HypernetworkSet = NO_HYPERNETWORKS
    merge_ratio: float = 0.0
    controls: tuple[ControlRows, ...] = ()
    image_prompts: tuple[ImagePromptRows, ...] = ()
    references: tuple[ReferenceRows, ...] = ()
    #: (row, change of its answer), in the order in which they are made
    amends: tuple[tuple[int, RowAmend], ...] = ()

    @classmethod
    def stack(cls, rows: Sequence[Condition]) -> Self:
        """Stack the conditions of rows that share a call.

        Args:
            rows: in the call's order. Rows of equal length side by side make fewer runs.

        Raises:
            ValueError: they have different tensors, or different `changes`.
        """
        first = rows[0]
        names = first.tensors.keys() - {"context"}
        if len({(frozenset(row.tensors), *row.changes) for row in rows}) > 1:
            raise ValueError("rows of one call must have the same tensors, and change the denoiser alike")
        contexts = [row.tensors["context"] for row in rows]
        row_patches = None
        if any(row.patch.is_by_row for row in rows):
            row_patches = RowPatches(tuple(row.patch for row in rows))
        # products and image prompts are laid out for all rows of a call
        has_rows = row_patches is not None and row_patches.common is None
        runs = runs_of(contexts, whole=has_rows)
        shows_all = has_rows or any(row.image_prompts for row in rows)
        return cls(
            tensors={name: torch.stack([row.tensors[name] for row in rows]) for name in names},
            runs=runs,
            patch=first.patch.merged,
            row_patches=row_patches,
            tiling=first.tiling,
            hypernetworks=first.hypernetworks,
            merge_ratio=first.merge_ratio,
            controls=ControlRows.of([row.controls for row in rows], contexts),
            image_prompts=ImagePromptRows.of([row.image_prompts for row in rows]),
            references=ReferenceRows.of([row.references for row in rows], contexts, runs, whole=shows_all),
            amends=tuple((place, each) for place, row in enumerate(rows) for each in row.amends),
        )

    @property
    def context(self) -> Tensor:
        """The contexts [R, n_tokens, d] of rows that are equally long."""
        (run,) = self.runs
        return run.context

    def __len__(self) -> int:
        return int(self.runs[-1].rows.stop)
