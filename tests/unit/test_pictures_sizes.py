"""Latent sizes follow the checkpoint's VAE."""

import pytest
from PIL import Image

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.pictures.prepare import prepare


def picture(width: int, height: int) -> Image.Image:
    return Image.radial_gradient("L").resize((width, height)).convert("RGB")


@pytest.mark.parametrize(("factor", "latent_size"), [(8, (8, 16)), (4, (16, 32)), (2, (32, 64))])
def test_the_latent_has_the_size_that_the_vae_makes(factor: int, latent_size: tuple[int, int]) -> None:
    params = Params(width=128, height=64, inpaint_full_res=False)
    prepared = prepare(picture(90, 70), picture(90, 70), params, factor)
    assert prepared.latent_size == latent_size
    assert prepared.mask is not None
    assert prepared.mask.shape == latent_size


def test_latent_upscale_encodes_the_whole_picture() -> None:
    assert prepare(picture(91, 71), None, Params(resize_mode=3)).pixels.shape == (71, 91, 3)
    with pytest.raises(Refused, match="7 × 71 pixels"):
        prepare(picture(7, 71), None, Params(resize_mode=3))
