"""What an image's model calls are conditioned on: its prompts, encoded once, and its rows by call."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_worker.engine.guidance import Guidance
from img2img_worker.engine.state import RenderState
from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.families.condition import Condition
from img2img_worker.models.families.family import Family
from img2img_worker.models.prompts.options import DEFAULTS, PromptOptions
from img2img_worker.models.prompts.padding import padded
from img2img_worker.models.prompts.text_encoder import Encoded

#: encoded prompts that are remembered: as many as fit into so many bytes
REMEMBERED = 256 * 2**20


class ConditionBuilder:
    """Encodes prompts, each with its own edits in one call, so that its bits depend on no other prompt."""

    def __init__(self, family: Family, picture_rows: int | None) -> None:
        self._family = family
        self._picture_rows = picture_rows
        self._encoded: OrderedDict[tuple[object, ...], list[Encoded]] = OrderedDict()
        self._bytes = 0

    def guidance(self, image: RenderState) -> Guidance:
        """The rows of `image`'s model calls."""
        params = image.render.params
        if params.image_cfg_scale is not None and not self._family.edits:
            raise Refused("image_cfg_scale", params.image_cfg_scale, "nothing but with an edit checkpoint")
        if params.distilled_cfg_scale is not None and not self._family.distilled:
            allowed = "nothing but with a checkpoint of Flux.1 dev"
            raise Refused("distilled_cfg_scale", params.distilled_cfg_scale, allowed)
        return Guidance(params, image.prompts, self._conditions(image), edits=self._family.edits)

    def _conditions(self, image: RenderState) -> list[Condition]:
        """Of all the image's texts, positive ones first."""
        params, prompts = image.render.params, image.prompts
        encoded = [
            text
            for schedule in (*prompts.positive, prompts.negative)
            for text in self._encode(
                schedule.texts, PromptOptions.of(params), schedule is prompts.negative, image.loras.text
            )
        ]
        contexts = padded(
            [text.context for text in encoded],
            len(encoded) - len(prompts.negative.texts),
            params,
            lambda: self._encode(("",), DEFAULTS, False, NO_PATCH)[0].context,
        )
        picture = self._picture(image)
        return [
            self._family.condition(
                replace(text, context=context), params, picture=picture, patch=image.loras.denoiser
            )
            for text, context in zip(encoded, contexts, strict=True)
        ]

    def _encode(
        self, texts: tuple[str, ...], options: PromptOptions, negative: bool, loras: Patch
    ) -> list[Encoded]:
        key = (texts, options, negative, loras.key)
        if key not in self._encoded:
            self._encoded[key] = self._family.encode_prompts(
                texts, options=options, negative=negative, loras=loras
            )
            self._bytes += _bytes(self._encoded[key])
        self._encoded.move_to_end(key)
        while self._bytes > REMEMBERED and len(self._encoded) > 1:
            self._bytes -= _bytes(self._encoded.popitem(last=False)[1])
        return self._encoded[key]

    def _picture(self, image: RenderState) -> Tensor | None:
        """What the checkpoint wants to see of the init image, at the latent's size, [c, h, w]."""
        render = image.render
        masks = None if render.cond_mask is None else torch.from_numpy(render.cond_mask)[None]
        pixels, mask_weight = render.pixels, render.params.inpainting_mask_weight
        if pixels is None:
            # it is to see nothing of what is not there
            mask_weight, factor = 1.0, self._family.vae_factor
            pixels = np.zeros((*(factor * side for side in render.latent_size), 3), np.uint8)
        pictures = self._family.picture(
            torch.from_numpy(pixels)[None],
            masks,
            mask_round=render.params.mask_round,
            mask_weight=mask_weight,
            tiling=render.params.tiling,
            rows=self._picture_rows,
        )
        if pictures is None:
            return None
        if pictures.shape[-2:] != render.latent_size:
            pictures = torch.nn.functional.interpolate(pictures, size=render.latent_size, mode="bilinear")
        return pictures[0]


def _bytes(texts: Sequence[Encoded]) -> int:
    return sum(text.context.nbytes for text in texts)
