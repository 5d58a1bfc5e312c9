"""What images need beside their texts before their first model call: their pictures, seen and encoded."""

from collections.abc import Sequence

import torch

from img2img_worker.engine.condition_builder import ConditionBuilder
from img2img_worker.engine.latents import Latents
from img2img_worker.engine.side_stream import SideStream
from img2img_worker.engine.state import RenderState
from img2img_worker.engine.turns import Turns
from img2img_worker.models.steps import Steps


class Preparation:
    """Brings images to where their first model call begins; on a GPU, their pictures beside other calls.

    Args:
        pictures: how many the VAE sees at a time, always; None: as many as there are.
    """

    def __init__(self, device: torch.device, pictures: int | None) -> None:
        self._side = SideStream(device)
        self._latents = Latents(pictures, self._side)
        self._conditions = ConditionBuilder(pictures, self._side)
        self._turns = Turns()

    @property
    def is_beside(self) -> bool:
        """Whether pictures are encoded beside the model calls; else between them."""
        return bool(self._side)

    def show(self, image: RenderState) -> Steps[None]:
        """Its pictures go through the VAE and to whatever else is to see them, before it has a slot.

        Raises:
            Refused: a picture that a network cannot take.
        """
        steps = self._shown(image)
        takes_turns = image.is_large and not self.is_beside
        yield from self._turns.take(image.priority, steps) if takes_turns else steps

    def begin(self, images: Sequence[RenderState]) -> None:
        """Gives `images` their first latents and the rows of their first calls; not those that had them.

        Raises:
            Refused: parameters that an image's checkpoint has no use for.
        """
        fresh = [image for image in images if image.history is None]
        for checkpoint in {id(image.phase.checkpoint): image.phase.checkpoint for image in fresh}.values():
            self._latents.encode([image for image in fresh if image.phase.checkpoint is checkpoint])
        for image in fresh:
            self._conditions.build(image)
            z0 = self._latents.start(image)
            image.history = torch.cat([torch.zeros_like(z0)[None], z0[None], image.course.begin(z0)])
            image.ask()

    def wait(self) -> None:
        """Returns when the device has done all that was begun."""
        self._side.wait()

    def _shown(self, image: RenderState) -> Steps[None]:
        yield from self._latents.encode_ahead(image)
        yield from self._conditions.show(image)
