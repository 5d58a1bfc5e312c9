"""Latent sizes follow the checkpoint's VAE."""

import io

import pytest
from PIL import Image

from img2img_shared.params import Params
from img2img_worker.pictures.prepare import prepare


def picture(width: int, height: int) -> bytes:
    """A PNG of that size."""
    data = io.BytesIO()
    Image.radial_gradient("L").resize((width, height)).convert("RGB").save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(("factor", "latent_size"), [(8, (8, 16)), (4, (16, 32)), (2, (32, 64))])
def test_the_latent_has_the_size_that_the_vae_makes(factor: int, latent_size: tuple[int, int]) -> None:
    params = Params(width=128, height=64, inpaint_full_res=False)
    prepared = prepare(picture(90, 70), picture(90, 70), params, 10**6, factor)
    assert prepared.latent_size == latent_size
    assert prepared.mask is not None
    assert prepared.mask.shape == latent_size


@pytest.mark.parametrize(("factor", "size"), [(8, (64, 88, 3)), (2, (70, 90, 3))])
def test_latent_upscale_crops_to_a_multiple_of_the_factor(factor: int, size: tuple[int, int, int]) -> None:
    prepared = prepare(picture(91, 71), None, Params(resize_mode=3), 10**6, factor)
    assert prepared.pixels.shape == size
