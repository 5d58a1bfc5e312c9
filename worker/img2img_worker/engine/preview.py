"""What a picture under way looks like: its latent, told as colours by a map too small to cost anything."""

import torch
from torch import Tensor
from torch.nn import functional as F

from img2img_worker.models.families.family import Family

#: latent cells of the picture that the map is fitted to, each way
CELLS = 32


class Colours:
    """A linear map from a latent cell to the mean colour of its pixels.

    A cell's channels tell the colour of its pixels nearly linearly, in every checkpoint (A1111's "Approx
    cheap" has the coefficients of one). Here the map is fitted to the checkpoint at hand, by least squares,
    when it is first wanted.
    """

    def __init__(self, family: Family) -> None:
        self._family = family
        self._map: Tensor | None = None

    def pictures(self, latents: Tensor) -> Tensor:
        """float32 [B, C, h, w] to uint8 [B, h, w, 3], a pixel for each cell; does not wait for the device."""
        if self._map is None:
            self._map = self._fitted().to(latents.device)
        colours = _with_one(latents.permute(0, 2, 3, 1)) @ self._map
        return (colours.clamp(0, 1) * 255).to(torch.uint8)

    def _fitted(self) -> Tensor:
        """float32 [C + 1, 3] on the CPU."""
        factor = self._family.vae_factor
        picture = _colourful(CELLS * factor)
        pixels = (picture * 255).to(torch.uint8)
        latent = self._family.encode(pixels.permute(1, 2, 0)[None].to(self._family.device), rows=1)[0]
        cells = latent.permute(1, 2, 0).reshape(CELLS**2, -1).double().cpu()
        colours = F.avg_pool2d(pixels.double() / 255, factor).permute(1, 2, 0).reshape(CELLS**2, 3)
        # gelsd: also where one channel follows from others
        fitted: Tensor = torch.linalg.lstsq(_with_one(cells), colours, driver="gelsd").solution
        return fitted.float()


def _colourful(side: int) -> Tensor:
    """Every colour somewhere, over large areas and small ones: [3, side, side] in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    coarse, fine = (torch.rand(1, 3, cells, cells, generator=generator) for cells in (5, 16))
    coarse, fine = (F.interpolate(each, size=(side, side), mode="bilinear") for each in (coarse, fine))
    return (1.4 * coarse + 0.6 * fine - 0.5).clamp(0, 1)[0]


def _with_one(cells: Tensor) -> Tensor:
    """[..., C] to [..., C + 1]: a linear map of that is an affine one."""
    return F.pad(cells, (0, 1), value=1.0)
