"""Init images as latents: encoded together where their sizes agree, and each picture once."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from img2img_worker.engine.state import RenderState
from img2img_worker.engine.transfer import sent
from img2img_worker.models.families.family import Family
from img2img_worker.sampling.noise import fill_noise

#: encoded pictures that are remembered
REMEMBERED = 64
#: pictures that the VAE sees at once, at most
TOGETHER = 8


class Latents:
    """Encodes init images. With `rows`, the VAE always sees that many."""

    def __init__(self, family: Family, rows: int | None) -> None:
        self._family = family
        self._rows = rows
        self._encoded: OrderedDict[tuple[bytes, bool], Tensor] = OrderedDict()

    def encode(self, images: Sequence[RenderState]) -> None:
        """Makes sure that the pictures of all `images` are encoded."""
        missing: dict[tuple[object, ...], dict[tuple[bytes, bool], RenderState]] = {}
        for image in images:
            if image.digest in self._encoded:
                self._encoded.move_to_end(image.digest)
            else:
                kind = (image.render.pixels.shape, image.render.params.tiling)
                missing.setdefault(kind, {})[image.digest] = image
        for alike in missing.values():
            self._encode(list(alike.values()))
        while len(self._encoded) > max(REMEMBERED, len(images)):
            self._encoded.popitem(last=False)

    def start(self, image: RenderState) -> Tensor:
        """z0 of an encoded image as its sampling wants it, [C, h, w]: resized, its masked part filled.

        ``resize_mode`` 3 is A1111's "Latent": bilinear, without antialiasing.
        """
        render = image.render
        z0 = self._encoded[image.digest]
        if render.params.resize_mode == 3:
            z0 = F.interpolate(z0[None], size=render.latent_size, mode="bilinear", align_corners=False)[0]
        if render.mask is None or render.params.inpainting_fill < 2:
            return z0
        mask = sent(torch.from_numpy(render.mask), z0.device)
        kept = z0 * (1 - mask)
        if render.params.inpainting_fill == 3:
            return kept
        channels, height, width = z0.shape
        noise = fill_noise(render.seed, (channels, height, width), render.params.noise_source)
        return kept + sent(noise, z0.device) * mask

    def _encode(self, images: Sequence[RenderState]) -> None:
        for start in range(0, len(images), TOGETHER):
            some = images[start : start + TOGETHER]
            pixels = torch.stack([torch.from_numpy(image.render.pixels) for image in some])
            tiling = some[0].render.params.tiling
            latents = self._family.encode(sent(pixels, self._family.device), tiling=tiling, rows=self._rows)
            for image, latent in zip(some, latents, strict=True):
                # a copy, so that remembering one does not keep all
                self._encoded[image.digest] = latent.clone()
