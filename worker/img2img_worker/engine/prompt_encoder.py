"""The prompts of images that wait, encoded between model calls."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from img2img_shared.errors import Refused
from img2img_worker.engine.state import RenderState
from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.families.family import Family
from img2img_worker.models.prompts.options import DEFAULTS, PromptOptions
from img2img_worker.models.prompts.padding import padded
from img2img_worker.models.prompts.steps import Steps
from img2img_worker.models.prompts.text_encoder import CHUNK, MOST_CHUNKS, Encoded

#: encoded prompts that are remembered: as many as fit into so many bytes
REMEMBERED = 256 * 2**20
#: tokens of all texts of one image: any prompt and any negative prompt that may be had by itself
MOST_TOKENS = 2 * MOST_CHUNKS * (CHUNK + 2)


class PromptEncoder:
    """Encodes a short piece of each image's texts in turn, so that none waits for another's thousands.

    The texts of one schedule are encoded together, and their bits depend on no other prompt. What was encoded
    is remembered.
    """

    def __init__(self, family: Family) -> None:
        self._family = family
        self._images: deque[tuple[RenderState, Steps[list[Encoded]]]] = deque()
        self._encoded: OrderedDict[tuple[object, ...], list[Encoded]] = OrderedDict()
        self._bytes = 0
        #: keys of what is being encoded for one image, and may be wanted by others
        self._begun: set[tuple[object, ...]] = set()

    def __bool__(self) -> bool:
        """Whether any image waits for its texts."""
        return bool(self._images)

    @property
    def images(self) -> tuple[RenderState, ...]:
        """Those that wait for their texts."""
        return tuple(image for image, _ in self._images)

    def take(self, image: RenderState) -> None:
        """Its texts are to be encoded."""
        self._images.append((image, self._texts(image)))

    def advance(
        self,
        seconds: float,
        ready: Callable[[RenderState], None],
        failed: Callable[[RenderState, Exception], None],
    ) -> None:
        """A piece of each image, and further ones for so long.

        Args:
            ready: is given the images whose texts are there.
            failed: is given those whose texts cannot be encoded, and why.
        """
        end = time.monotonic() + seconds
        turns = len(self._images)
        while self._images and (turns > 0 or time.monotonic() < end):
            turns -= 1
            image, steps = self._images.popleft()
            if image.future.cancelled():
                steps.close()
                image.future.set_running_or_notify_cancel()
                continue
            try:
                next(steps)
            except StopIteration as made:
                image.texts = made.value
                ready(image)
            except torch.OutOfMemoryError:
                self._images.appendleft((image, self._texts(image)))
                raise
            except Exception as error:
                failed(image, error)
            else:
                self._images.append((image, steps))

    def drop(self, image: RenderState) -> None:
        """It wants no texts any more."""
        for each, steps in self._images:
            if each is image:
                steps.close()
        self._images = deque(each for each in self._images if each[0] is not image)

    def _texts(self, image: RenderState) -> Steps[list[Encoded]]:
        """All of the image's texts, positive ones first, as long as they are to be."""
        params, prompts = image.render.params, image.prompts
        texts: list[Encoded] = []
        tokens = 0
        for schedule in (*prompts.positive, prompts.negative):
            is_negative = schedule is prompts.negative
            encoded = yield from self._encode(
                schedule.texts, PromptOptions.of(params), is_negative, image.loras.text
            )
            tokens += sum(len(text.context) for text in encoded)
            if tokens > MOST_TOKENS:
                raise Refused(
                    "prompt",
                    image.render.prompt,
                    f"shorten it: its texts may have {MOST_TOKENS:,} tokens in all",
                )
            texts += encoded
        empty = None
        if params.pad_cond_uncond:
            (nothing,) = yield from self._encode(("",), DEFAULTS, False, NO_PATCH)
            empty = nothing.context
        n_positive = len(texts) - len(prompts.negative.texts)
        contexts = padded([text.context for text in texts], n_positive, params, empty)
        return [replace(text, context=context) for text, context in zip(texts, contexts, strict=True)]

    def _encode(
        self, texts: tuple[str, ...], options: PromptOptions, negative: bool, loras: Patch
    ) -> Steps[list[Encoded]]:
        key = (texts, options, negative, loras.key, self._family.inversions.current().key)
        while key in self._begun:
            yield
        if key not in self._encoded:
            self._begun.add(key)
            try:
                encoded = yield from self._family.encode_prompts(
                    texts, options=options, negative=negative, loras=loras
                )
            finally:
                self._begun.remove(key)
            self._remember(key, encoded)
            return encoded
        self._encoded.move_to_end(key)
        return self._encoded[key]

    def _remember(self, key: tuple[object, ...], encoded: list[Encoded]) -> None:
        self._encoded[key] = encoded
        self._bytes += _bytes(encoded)
        while self._bytes > REMEMBERED and len(self._encoded) > 1:
            self._bytes -= _bytes(self._encoded.popitem(last=False)[1])


def _bytes(texts: Sequence[Encoded]) -> int:
    return sum(text.context.nbytes for text in texts)
