"""What becomes of images' last latents, and of those on their way: pictures, for whoever waits for them."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future

import torch
from torch import Tensor

from img2img_worker.engine.delivery import LATENT, PICTURE, SOUND, Delivery
from img2img_worker.engine.render import Pixels
from img2img_worker.engine.side_stream import SideStream
from img2img_worker.engine.state import RenderState
from img2img_worker.models.steps import Steps


class Finishing:
    """Decodes latents and delivers what they come to.

    Args:
        side: where latents are decoded, if there is one.
        pictures: how many the VAE sees at a time, always; None: as many as there are.
        take_again: has an image whose picture overflowed decoded once more, in full precision; called by the
            thread that delivers.
    """

    def __init__(
        self,
        side: SideStream,
        pictures: int | None,
        delivery: Delivery,
        take_again: Callable[[RenderState], None],
    ) -> None:
        self._side = side
        self._pictures = pictures
        self._delivery = delivery
        self._take_again = take_again

    def finish(self, images: Sequence[RenderState], latents: Tensor) -> Steps[None]:
        """Delivers the pictures of `images`, which are decoded alike, or what else they want.

        Args:
            latents: their last ones, [n, C, h, w].
        """
        yield from self._side.take(self._decode_and_deliver(images, latents), latents)

    def preview(self, image: RenderState, latent: Tensor, answer: Future[Pixels]) -> None:
        """Answers with what the picture looks like so far, by its `latent` [C, h, w]."""
        phase, latents = image.phase, latent[None]
        if phase.vaes.preview is None:
            pixels = phase.checkpoint.colours.pictures(latents)
        else:
            family = phase.checkpoint.family
            pixels = family.decode(latents, tiling=phase.tiling, rows=1, vae=phase.vaes.preview).pixels
        self._delivery.answers([answer], pixels, _faults(latents))

    def _decode_and_deliver(self, images: Sequence[RenderState], latents: Tensor) -> Steps[None]:
        futures, first = [image.future for image in images], images[0]
        faults = _faults(latents)
        if first.render.wants_latent:
            self._delivery.answers(futures, latents, faults)
            return
        phase = first.phase
        decoded = yield from phase.checkpoint.family.decode_steps(
            latents,
            tiling=phase.tiling,
            rows=self._pictures,
            vae=phase.vaes.decoder,
            full_precision=first.overflowed is not None,
        )

        def again(place: int) -> None:
            image = images[place]
            image.overflowed = latents[place]
            image.history = image.overflowed[None]
            self._take_again(image)

        faults = torch.where((faults == SOUND) & ~decoded.is_finite, PICTURE, faults)
        self._delivery.answers(futures, decoded.pixels, faults, again if decoded.is_half else None)


def _faults(latents: Tensor) -> Tensor:
    """[n], as `Delivery.answers` takes them, of latents [n, C, h, w]."""
    return torch.where(latents.isfinite().flatten(1).all(1), SOUND, LATENT)
