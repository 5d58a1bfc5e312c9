"""What images need before they have a slot, made between model calls: first of all their prompts, encoded."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from math import inf

import torch

from img2img_shared.errors import Refused
from img2img_worker.engine.state import Phase, RenderState
from img2img_worker.models.adapters.patch import NO_PATCH
from img2img_worker.models.prompts.chunks import CHUNK
from img2img_worker.models.prompts.context_padding import pad_contexts
from img2img_worker.models.prompts.prompt_options import DEFAULTS, PromptOptions
from img2img_worker.models.prompts.text_encoder import MOST_CHUNKS, Encoded
from img2img_worker.models.steps import Mark, Steps

#: tokens of all texts of one image: any prompt and any negative prompt that may be had by itself
MOST_TOKENS = 2 * MOST_CHUNKS * (CHUNK + 2)


class PromptEncoder:
    """Encodes a short piece of each image's texts in turn, so that none waits for another's thousands.

    Those of a higher priority come first.

    The texts of one schedule are encoded together, and their bits depend on no other prompt. What was encoded
    is remembered.

    Args:
        then: what an image has to be done once its texts are, before it is ready.
    """

    def __init__(self, then: Callable[[RenderState], Steps[None]]) -> None:
        self._then = then
        #: with what each waits for; None: for its turn
        self._images: deque[tuple[RenderState, Steps[None], Mark | None]] = deque()

    def __bool__(self) -> bool:
        """Whether any image waits for its texts."""
        return bool(self._images)

    @property
    def images(self) -> tuple[RenderState, ...]:
        """Those that wait for their texts."""
        return tuple(image for image, _, _ in self._images)

    def take(self, image: RenderState) -> None:
        """Its texts are to be encoded."""
        self._put(image, self._texts(image), None)

    def advance(
        self,
        seconds: float,
        ready: Callable[[RenderState], None],
        failed: Callable[[RenderState, Exception], None],
        *,
        priority: float = -inf,
        of_each: bool = True,
    ) -> None:
        """A piece of each image that waits for nothing else, and further ones for so long.

        Args:
            priority: those of a lower one rest.
            of_each: False: no piece is begun after that time.
            ready: is given the images whose texts are there.
            failed: is given those of which something cannot be encoded, and why.
        """
        end = time.monotonic() + seconds
        # each once, however urgent others are: one may wait for a text that another has begun
        for each in [each for each in self._images if of_each and each[0].priority >= priority]:
            self._images.remove(each)
            self._goes_on(*each, ready, failed)
        in_vain = 0
        while self._images and time.monotonic() < end and in_vain < len(self._images):
            if self._images[0][0].priority < priority:
                break
            in_vain = 0 if self._goes_on(*self._images.popleft(), ready, failed) else in_vain + 1

    def _goes_on(
        self,
        image: RenderState,
        steps: Steps[None],
        awaited: Mark | None,
        ready: Callable[[RenderState], None],
        failed: Callable[[RenderState, Exception], None],
    ) -> bool:
        """A piece of an image that is not among the others meanwhile; False: it waits for the device."""
        if image.future.cancelled():
            steps.close()
            image.future.set_running_or_notify_cancel()
            return True
        if awaited is not None and not awaited.query():
            self._put(image, steps, awaited)
            return False
        try:
            awaited = next(steps)
        except StopIteration:
            ready(image)
        except torch.OutOfMemoryError:
            self._images.appendleft((image, self._texts(image), None))
            raise
        except Exception as error:
            failed(image, error)
        else:
            self._put(image, steps, awaited)
        return True

    def wait(self) -> None:
        """Where all wait for the device, and nobody else wants it: until the first can go on."""
        awaited = [mark for _, _, mark in self._images if mark is not None]
        if awaited and len(awaited) == len(self._images) and not any(mark.query() for mark in awaited):
            awaited[0].synchronize()

    def _put(self, image: RenderState, steps: Steps[None], awaited: Mark | None) -> None:
        """Behind all others of its priority."""
        place = sum(other.priority >= image.priority for other, _, _ in self._images)
        self._images.insert(place, (image, steps, awaited))

    def drop(self, image: RenderState) -> None:
        """It wants no texts any more."""
        for each, steps, _ in self._images:
            if each is image:
                steps.close()
        self._images = deque(each for each in self._images if each[0] is not image)

    def _texts(self, image: RenderState) -> Steps[None]:
        """All of the image's texts, by its checkpoint and its refiner, and what comes then."""
        for phase in image.phases:
            phase.texts = yield from _texts(image, phase)
        yield from self._then(image)


def _texts(image: RenderState, phase: Phase) -> Steps[list[Encoded]]:
    """Positive ones first, as long as they are to be."""
    params, prompts, encode = image.render.params, image.prompts, phase.checkpoint.texts.encode
    options = PromptOptions.of(params, phase.loras.bundles, image.render.pinned)
    texts: list[Encoded] = []
    tokens = 0
    for schedule in (*prompts.positive, prompts.negative):
        is_negative = schedule is prompts.negative
        encoded = yield from encode(
            schedule.texts, options, is_negative, phase.loras.text, priority=image.priority
        )
        tokens += sum(len(text.context) for text in encoded)
        if tokens > MOST_TOKENS:
            reason = f"shorten it: its texts may have {MOST_TOKENS:,} tokens in all"
            raise Refused("prompt", image.render.prompt, reason)
        texts += encoded
    empty = None
    if params.pad_cond_uncond:
        (nothing,) = yield from encode(("",), DEFAULTS, False, NO_PATCH, priority=image.priority)
        empty = nothing.context
    n_positive = len(texts) - len(prompts.negative.texts)
    contexts = pad_contexts([text.context for text in texts], n_positive, params, empty)
    return [replace(text, context=context) for text, context in zip(texts, contexts, strict=True)]
