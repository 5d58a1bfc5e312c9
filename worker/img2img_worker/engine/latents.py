"""Init images as latents: each picture once, large ones step by step, others together with their like."""

from collections import OrderedDict
from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F

from img2img_shared.modes import InpaintingFill, ResizeMode
from img2img_shared.seeds import shift_seed
from img2img_worker.engine.loaded import Loaded, PictureKey
from img2img_worker.engine.render import Pixels
from img2img_worker.engine.side_stream import SideStream
from img2img_worker.engine.state import RenderState
from img2img_worker.models.families.family import Family
from img2img_worker.models.steps import Steps, run_now
from img2img_worker.models.transfer import to_device
from img2img_worker.sampling.noise import fill_noise

#: encoded pictures that are remembered
REMEMBERED = 64
#: pictures that the VAE sees at once, at most
TOGETHER = 8


class Latents:
    """Encodes init images. With `rows`, the VAE always sees that many.

    Args:
        side: where it does, if there is one.
    """

    def __init__(self, rows: int | None, side: SideStream) -> None:
        self._rows = rows
        self._side = side
        #: of each checkpoint, pictures that are being encoded for an image of some priority, for others, too
        self._begun: dict[tuple[int, PictureKey], int] = {}

    def encode_ahead(self, image: RenderState) -> Steps[None]:
        """The picture of an image that has no slot yet, if it is a large one, or goes beside model calls."""
        pixels, key, checkpoint = image.render.pixels, image.digest, image.phase.checkpoint
        if pixels is None or key is None or not (image.is_large or self._side):
            return
        latents, own = checkpoint.latents, (id(checkpoint), key)
        while self._side and self._begun.get(own, -inf) >= image.priority:
            yield from self._side.latest()
        if key not in latents:
            self._begun[own] = image.priority
            try:
                yield from self._encode(checkpoint, [(key, pixels)])
            finally:
                self._begun.pop(own, None)
        # kept for this one, however many others are remembered until it has a slot
        image.encoded = latents[key]
        _forget(latents, REMEMBERED)

    def encode(self, images: Sequence[RenderState]) -> None:
        """Makes sure that the pictures of all `images`, which begin with one checkpoint, are encoded."""
        images = [image for image in images if image.encoded is None]
        if not images:
            return
        checkpoint = images[0].phase.checkpoint
        missing: dict[tuple[object, ...], dict[PictureKey, Pixels]] = {}
        for image in images:
            pixels = image.render.pixels
            if pixels is None or image.digest is None:
                continue
            if image.digest in checkpoint.latents:
                checkpoint.latents.move_to_end(image.digest)
            else:
                kind = (pixels.shape, image.digest.tiling, image.digest.vae)
                missing.setdefault(kind, {})[image.digest] = pixels
        for alike in missing.values():
            run_now(self._encode(checkpoint, list(alike.items())))
        _forget(checkpoint.latents, max(REMEMBERED, len(images)))

    def start(self, image: RenderState) -> Tensor:
        """z0 of an image as its sampling wants it, [C, h, w]: encoded, resized, its masked part filled.

        ``resize_mode`` 3 is A1111's "Latent": bilinear, without antialiasing.
        """
        render = image.render
        if image.digest is None:
            return _without_picture(image)
        z0 = image.phase.checkpoint.latents[image.digest] if image.encoded is None else image.encoded
        if render.params.resize_mode == ResizeMode.LATENT_UPSCALE:
            z0 = F.interpolate(z0[None], size=render.latent_size, mode="bilinear", align_corners=False)[0]
        if render.mask is None or render.params.inpainting_fill < InpaintingFill.LATENT_NOISE:
            return z0
        mask = to_device(torch.from_numpy(render.mask), z0.device)
        kept = z0 * (1 - mask)
        if render.params.inpainting_fill == InpaintingFill.LATENT_NOTHING:
            return kept
        channels, height, width = z0.shape
        seed = shift_seed(render.seed, render.params.fill_noise_seed_delta)
        noise = fill_noise(seed, (channels, height, width), render.params.noise_source)
        return kept + to_device(noise, z0.device) * mask

    def _encode(self, checkpoint: Loaded, pictures: Sequence[tuple[PictureKey, Pixels]]) -> Steps[None]:
        family = checkpoint.family
        for start in range(0, len(pictures), TOGETHER):
            digests, pixels = zip(*pictures[start : start + TOGETHER], strict=True)
            latents = yield from self._side.run(self._encode_batch(family, digests[0], pixels))
            for digest, latent in zip(digests, latents, strict=True):
                # a copy, so that remembering one does not keep all
                checkpoint.latents[digest] = latent.clone()

    def _encode_batch(self, family: Family, key: PictureKey, pictures: Sequence[Pixels]) -> Steps[Tensor]:
        pixels = to_device(torch.stack([torch.from_numpy(each) for each in pictures]), family.device)
        return (yield from family.encode_steps(pixels, tiling=key.tiling, rows=self._rows, vae=key.vae))


def _forget(latents: OrderedDict[PictureKey, Tensor], most: int) -> None:
    while len(latents) > most:
        latents.popitem(last=False)


def _without_picture(image: RenderState) -> Tensor:
    device = image.phase.checkpoint.family.device
    if image.render.latent is not None:
        return to_device(torch.from_numpy(image.render.latent), device)
    return torch.zeros(image.shape, device=device)
