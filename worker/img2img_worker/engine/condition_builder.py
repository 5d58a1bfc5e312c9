"""What an image's model calls are conditioned on: its texts, its pictures, its parameters."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_worker.engine.control_schedule import UnitRows, as_adapters_see, unit_rows
from img2img_worker.engine.guidance_rows import Guidance
from img2img_worker.engine.reference_schedule import reference_noise
from img2img_worker.engine.side_stream import SideStream
from img2img_worker.engine.state import RenderState, SeenPictures
from img2img_worker.models.families.family import Family
from img2img_worker.models.steps import Steps, read_flag
from img2img_worker.models.transfer import to_device


class ConditionBuilder:
    """Makes images' guidance.

    Args:
        pictures: how many pictures the VAE sees at a time, always; None: as many as there are.
        side: where it sees them, if there is one.
    """

    def __init__(self, pictures: int | None, side: SideStream) -> None:
        self._pictures = pictures
        self._side = side

    def show(self, image: RenderState) -> Steps[None]:
        """Lets the networks of `image` see its pictures, before it has a slot.

        Raises:
            Refused: a picture that one of them cannot take.
        """
        if image.seen is None:
            beside = yield from self._picture(image)
            units = yield from self._units(image)
            image.seen = SeenPictures(beside=beside, units=units)

    def build(self, image: RenderState) -> None:
        """Gives each phase of `image`, whose texts and pictures were seen, the rows of its model calls.

        Raises:
            Refused: parameters that its checkpoint has no use for.
        """
        params, family = image.render.params, image.phase.checkpoint.family
        if params.image_cfg_scale is not None and not family.edits:
            raise Refused(
                "image_cfg_scale",
                params.image_cfg_scale,
                "only instruct-pix2pix checkpoints use it; leave it out, or choose such a model",
            )
        if params.distilled_cfg_scale is not None and not family.distilled:
            reason = "only checkpoints of Flux.1 dev use it; leave it out, or choose such a model"
            raise Refused("distilled_cfg_scale", params.distilled_cfg_scale, reason)
        if image.seen is None:
            raise ValueError("an image whose pictures its networks have not seen")
        picture, units = image.seen.beside, image.seen.units
        noise = reference_noise(image.render, image.shape)
        for phase in image.phases:
            family = phase.checkpoint.family
            # what the first checkpoint has encoded, as in A1111
            seen = picture if family.inpaints or family.edits else None
            merging = params.token_merging_ratio if phase.keeps_hooks else 0.0
            own = params.model_copy(update={"tiling": phase.tiling, "token_merging_ratio": merging})
            conditions = [
                family.condition(
                    text,
                    own,
                    picture=seen,
                    patch=phase.loras.denoiser,
                    hypernetworks=phase.hypernetworks,
                )
                for text in phase.texts
            ]
            phase.guidance = Guidance(
                params,
                image.prompts,
                conditions,
                family,
                units=units if phase.keeps_hooks else (),
                reference_noise=noise,
            )

    def _units(self, image: RenderState) -> Steps[list[UnitRows]]:
        render, phase = image.render, image.phase
        family = phase.checkpoint.family
        if not render.controls:
            return []

        def encoded(picture: NDArray[Any]) -> Steps[Tensor]:
            stacked = to_device(torch.from_numpy(np.ascontiguousarray(picture))[None], family.device)
            tiling, vae = render.params.tiling, phase.vaes.encoder
            return (yield from family.encode_steps(stacked, tiling=tiling, rows=self._pictures, vae=vae))

        def encode(picture: NDArray[Any]) -> Steps[Tensor]:
            return (yield from self._side.run(encoded(picture)))[0]

        levels = family.levels(render.latent_size)
        sigmas = to_device(torch.from_numpy(levels.sigmas).float(), family.device)
        units = []
        controls = as_adapters_see(render.controls, image.networks)
        for control, network in zip(controls, image.networks, strict=True):
            unit = yield from unit_rows(
                control,
                network,
                hires=render.is_second_pass,
                is_xl=family.name.startswith("SDXL"),
                encode=encode,
                sigmas=sigmas,
                tells_sides=not render.is_second_pass or render.read_with is not None,
            )
            units.append(unit)
        return units

    def _picture(self, image: RenderState) -> Steps[Tensor | None]:
        """What its first checkpoint wants to see of the init image, at the latent's size, [c, h, w]."""
        render, family = image.render, image.phase.checkpoint.family
        masks = None if render.cond_mask is None else torch.from_numpy(render.cond_mask)[None]
        mask_weight = render.params.inpainting_mask_weight
        masked = [
            control.picture
            for control in render.controls
            if control.picture.shape[2] == 4 and not control.unit.preprocessor.is_image_prompt
        ]
        if masked and family.inpaints:
            return (yield from self._control_picture(image, masked[-1]))
        given = render.pixels if render.cond_pixels is None else render.cond_pixels
        if given is not None:
            pixels = torch.from_numpy(given)[None]
        elif render.shows_latent and render.latent is not None and family.inpaints:
            pixels = yield from self._decoded(image, torch.from_numpy(render.latent)[None])
        else:
            # it is to see nothing of what is not there
            mask_weight, factor = 1.0, family.vae_factor
            pixels = torch.zeros(1, *(factor * side for side in render.latent_size), 3, dtype=torch.uint8)
        pictures = yield from self._encode_beside(
            family,
            pixels,
            masks,
            mask_round=render.params.rounds_mask,
            mask_weight=mask_weight,
            tiling=render.params.tiling,
            rows=self._pictures,
            vae=image.phase.vaes.vae,
        )
        if pictures is None:
            return None
        if pictures.shape[-2:] != render.latent_size:
            pictures = torch.nn.functional.interpolate(pictures, size=render.latent_size, mode="bilinear")
        return pictures[0]

    def _decoded(self, image: RenderState, latents: Tensor) -> Steps[Tensor]:
        """Its latents [1, C, h, w] as a picture float32 [1, H, W, 3], which is not clamped to 0..255.

        Source: A1111's ``decode_first_stage``.
        """
        family, vae = image.phase.checkpoint.family, image.phase.vaes.decoder

        def decoded(*, full_precision: bool) -> Steps[Tensor]:
            made = yield from family.decode_steps(
                to_device(latents, family.device),
                tiling=image.render.params.tiling,
                rows=self._pictures,
                vae=vae,
                full_precision=full_precision,
            )
            if made.is_half and not (yield from read_flag(made.is_finite.all())):
                return (yield from decoded(full_precision=True))
            return (made.answers.permute(0, 2, 3, 1) + 1) * 127.5

        return (yield from self._side.run(decoded(full_precision=False)))

    def _encode_beside(
        self, family: Family, pixels: Tensor, masks: Tensor | None, **more: Any
    ) -> Steps[Tensor | None]:
        """As `Family.picture`."""
        if not (family.inpaints or family.edits):
            return (yield from family.picture(pixels, masks, **more))

        def seen() -> Steps[Tensor | None]:
            own = None if masks is None else to_device(masks, family.device)
            return (yield from family.picture(to_device(pixels, family.device), own, **more))

        return (yield from self._side.run(seen()))

    def _control_picture(self, image: RenderState, picture: NDArray[Any]) -> Steps[Tensor | None]:
        """The same of a control picture [H, W, 4]: its mask takes the place of the init image's."""
        family = image.phase.checkpoint.family
        pixels = torch.from_numpy(np.ascontiguousarray(picture[:, :, :3]))[None]
        mask = torch.from_numpy(np.where(picture[:, :, 3] > 127.5, np.uint8(255), np.uint8(0)))[None]
        tiling, vae = image.render.params.tiling, image.phase.vaes.vae
        pictures = yield from self._encode_beside(
            family, pixels, mask, tiling=tiling, rows=self._pictures, vae=vae
        )
        if pictures is None:
            return None
        # a cell is repainted where any of its pixels is
        cells = torch.nn.functional.max_pool2d(mask.float() / 255, family.vae_factor)
        return torch.cat([cells.to(pictures), pictures[0, 1:]])
