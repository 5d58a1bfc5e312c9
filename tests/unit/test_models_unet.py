"""A UNet answers as the published one does: at any size, and whatever the lengths of its rows' contexts."""

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.family import Cond
from tests import checkpoints
from tests.original_unet import original_unet


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
@pytest.mark.parametrize("size", [(8, 8), (9, 8), (7, 13)])
@pytest.mark.parametrize("build", [checkpoints.sd1, checkpoints.sd2, checkpoints.sdxl])
def test_a_latent_of_odd_sides_is_fitted_to_the_skip_connection_after_the_convolution(
    build: Any, size: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = checkpoints.cached(tmp_path_factory, build)
    family = open_checkpoint(folder)
    height, width = (side * 8 for side in size)
    cond = family.place(family.conditions(["a red cat"])[0], width=width, height=height)
    x, t = noise(1, 4, *size), torch.tensor([601.5])
    added = None
    if cond.pooled is not None and cond.time_ids is not None:
        added = {"text_embeds": cond.pooled[None], "time_ids": cond.time_ids[None]}
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False)
    wanted = original_unet(unet, x, t, [cond.context], added)
    torch.testing.assert_close(family.predict(x, t, Cond.stack([cond])), wanted)
    (plain,) = unet(x, t, cond.context[None], added_cond_kwargs=added, return_dict=False)
    differs = (plain - wanted).abs().max() > 0.01
    assert differs == any(side % 2 for side in size)  # diffusers' own is another picture there
