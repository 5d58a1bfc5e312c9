"""IP-Adapters: a picture's CLIP embedding as further keys and values of cross-attention (Ye et al. 2023)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_shared.control_modules import ClipKind
from img2img_shared.lru_cache import LruCache
from img2img_worker.models.control.clip_vision import ClipVision
from img2img_worker.models.control.image_prompt_rows import ImagePrompt

#: bytes of keys and values that an adapter caches for pictures; the latest stay whatever their size
REMEMBERED = 128 << 20
#: dimensions of the output of CLIP ViT-bigG/14: of its embedding of a picture, and of its patches
_OF_BIGG = (1280, 1664)
#: published files for it, which A1111's extension knows by their names
_FOR_BIGG = ("ip-adapter_sd15_vit-G", "ip-adapter_sdxl")


class PromptPair(NamedTuple):
    """Keys and values for rows of the prompt and, of an empty picture, for those of the negative prompt."""

    positive: ImagePrompt
    negative: ImagePrompt


class ImagePromptAdapter:
    """A loaded IP-Adapter. Not thread-safe: only the engine's thread calls its methods.

    Args:
        key: a name that no other network has.
        projection: from CLIP's output to tokens [1, n_tokens, d].
        sees_patches: whether it takes CLIP's patches ("plus" and "full face"), not the picture's embedding.
        seen_size: dimensions of that input.
        keys, values: weights [c, d] for each of the UNet's cross-attention layers, in the UNet's order.
        blocks: for each of these layers, the number of its transformer in the order of the data flow.
    """

    def __init__(
        self,
        *,
        key: str,
        name: str,
        projection: nn.Module,
        sees_patches: bool,
        seen_size: int,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        blocks: Sequence[int],
    ) -> None:
        self.key, self.name, self.blocks = key, name, tuple(blocks)
        self.sees_patches, self.seen_size = sees_patches, seen_size
        self._projection, self._keys, self._values = projection, tuple(keys), tuple(values)
        own = (*projection.parameters(), *self._keys, *self._values)
        self.n_bytes = sum(each.nbytes for each in own) + REMEMBERED
        self._made: LruCache[bytes, ImagePrompt] = LruCache(lambda prompt: prompt.n_bytes)

    @property
    def clip(self) -> ClipKind:
        """The CLIP model that it was trained with."""
        is_for_bigg = self.name in _FOR_BIGG or self.seen_size == _OF_BIGG[self.sees_patches]
        return "clip_g" if is_for_bigg else "clip_h"

    @property
    def n_blocks(self) -> int:
        """Number of transformers of the UNet."""
        return max(self.blocks) + 1

    def fits(self, encoder: ClipVision) -> bool:
        """Whether it can take the output of `encoder`."""
        return self.seen_size == (encoder.width if self.sees_patches else encoder.embedding_size)

    @torch.inference_mode()
    def prompts(self, encoder: ClipVision, pictures: Sequence[Tensor]) -> PromptPair:
        """The keys and values of pictures, from a cache if they have been used before.

        Args:
            pictures: on the CPU, as `encoder` takes them; the tokens of several are averaged.
        """
        digest = blake2b(encoder.key.encode(), digest_size=16)
        nothing = self._remember(digest.digest(), lambda: self._prompt([self._nothing(encoder)]))
        for picture in pictures:
            digest.update(str(picture.shape).encode() + picture.numpy().tobytes())
        shown = self._remember(
            digest.digest(), lambda: self._prompt([self._tokens(each, encoder) for each in pictures])
        )
        return PromptPair(positive=shown, negative=nothing)

    def _tokens(self, picture: Tensor, encoder: ClipVision) -> Tensor:
        seen = encoder.see(picture)
        return self._project(seen.patches if self.sees_patches else seen.embedding)

    def _nothing(self, encoder: ClipVision) -> Tensor:
        if self.sees_patches:
            return self._project(encoder.see_nothing().patches)
        return self._project(self._keys[0].new_zeros(1, self.seen_size))

    def _project(self, seen: Tensor) -> Tensor:
        tokens: Tensor = self._projection(seen)
        return tokens[0]

    def _prompt(self, tokens: Sequence[Tensor]) -> ImagePrompt:
        mean = sum(tokens[1:], start=tokens[0]) / len(tokens)
        return ImagePrompt(
            keys=tuple(F.linear(mean, weight) for weight in self._keys),
            values=tuple(F.linear(mean, weight) for weight in self._values),
        )

    def _remember(self, key: bytes, make: Callable[[], ImagePrompt]) -> ImagePrompt:
        prompt = self._made.get(key)
        if prompt is None:
            prompt = make()
            self._made.put(key, prompt)
            self._made.trim(REMEMBERED)
        return prompt


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePromptNetwork:
    """An IP-Adapter with its CLIP image encoder."""

    adapter: ImagePromptAdapter
    encoder: ClipVision

    def prompts(self, pictures: Sequence[Tensor]) -> PromptPair:
        """See `ImagePromptAdapter.prompts`."""
        return self.adapter.prompts(self.encoder, pictures)
