"""Embeddings of texts that one checkpoint has encoded, remembered while there is room."""

from collections.abc import Sequence
from math import inf

from img2img_shared.lru_cache import LruCache
from img2img_worker.models.adapters.patch import Patch
from img2img_worker.models.families.family import Family
from img2img_worker.models.prompts.prompt_options import PromptOptions
from img2img_worker.models.prompts.text_encoder import Encoded
from img2img_worker.models.steps import Steps

#: encoded prompts that are remembered: as many as fit into so many bytes
REMEMBERED = 256 * 2**20


class EncodedTexts:
    """Encodes texts that are not remembered; those of one schedule together."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._encoded: LruCache[tuple[object, ...], list[Encoded]] = LruCache(_bytes)
        #: by key, the priority of an image for which it is being encoded, and may be wanted by others
        self._begun: dict[tuple[object, ...], int] = {}

    def encode(
        self,
        texts: tuple[str, ...],
        options: PromptOptions,
        negative: bool,
        loras: Patch,
        *,
        priority: int = 0,
    ) -> Steps[list[Encoded]]:
        """Their embeddings, made piece by piece; their bits depend on no other text.

        Args:
            priority: of their image, which waits for none that is less urgent and has begun the same.
        """
        inversions = self._family.inversions.current(options.bundles, options.pinned)
        key = (texts, options, negative, loras.key, inversions.key)
        while self._begun.get(key, -inf) >= priority:
            yield
        if (known := self._encoded.get(key)) is not None:
            return known
        self._begun[key] = priority
        try:
            encoded = yield from self._family.encode_prompts(
                texts, options=options, negative=negative, loras=loras
            )
        finally:
            self._begun.pop(key, None)
        self._encoded.put(key, encoded)
        self._encoded.trim(REMEMBERED)
        return encoded


def _bytes(texts: Sequence[Encoded]) -> int:
    return sum(text.context.nbytes for text in texts)
