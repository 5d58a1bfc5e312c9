"""A second opinion on every render: A1111's img2img as plain loops, one image at a time.

Shares no code with the worker: Pillow, OpenCV and numpy on the picture, diffusers' and transformers' networks
called directly, samplers in k-diffusion's own form (one latent, updated in place, a loop for each).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from img2img_shared.params import Params
from tests.original_unet import original_unet

#: (latent, sigma) -> denoised latent
Denoiser = Callable[[Tensor, float], Tensor]
Noise = Callable[[], Tensor]
LANCZOS = Image.Resampling.LANCZOS


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A Stable Diffusion 1.x checkpoint, read by diffusers and transformers."""

    unet: Any
    vae: Any
    text: Any
    tokenizer: Any
    #: [1000], Stable Diffusion's scaled-linear betas
    abar: Tensor

    @classmethod
    def read(cls, folder: Path) -> "Reference":
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        return cls(
            unet=UNet2DConditionModel.from_pretrained(folder / "unet").eval(),
            vae=AutoencoderKL.from_pretrained(folder / "vae").eval(),
            text=CLIPTextModel.from_pretrained(folder / "text_encoder").eval(),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            abar=torch.cumprod(1 - betas, 0).float(),
        )

    @torch.no_grad()
    def render(self, picture: Image.Image, mask: Image.Image | None, params: Params) -> Image.Image:
        """The finished picture; prompts and seed are those of `params`."""
        size = params.width, params.height
        overlay = box = None
        if mask is not None:
            mask = blurred(read_mask(mask, params), params)
            if params.inpaint_full_res:
                box = region(mask, params)
                if box is None:
                    mask = None
        if mask is None:
            picture = scaled(picture, params.resize_mode, size)
        elif box is not None:
            overlay = without(picture, mask)
            picture, mask = scaled(picture.crop(box), 2, size), scaled(mask.crop(box), 2, size)
        else:
            picture, mask = scaled(picture, params.resize_mode, size), fitted(mask, params.resize_mode, size)
            twice = Image.fromarray(np.clip(np.array(mask).astype(np.float32) * 2, 0, 255).astype(np.uint8))
            # in mode 3 the picture has its own size
            twice = twice if twice.size == picture.size else fitted(twice, 2, picture.size)
            overlay = without(picture, twice)
        if mask is not None and params.inpainting_fill != 1:
            picture = painted(picture, fitted(mask, 0, picture.size))

        z0 = self.vae.encode(unit(picture)).latent_dist.mean * self.vae.config.scaling_factor
        shape = (1, 4, params.height // 8, params.width // 8)
        if params.resize_mode == 3:
            z0 = torch.nn.functional.interpolate(z0, size=shape[2:], mode="bilinear")
        repaint = torch.ones(shape)
        if mask is not None:
            small = np.array(mask.convert("RGB").resize((shape[3], shape[2])), dtype=np.float32)[..., 0] / 255
            repaint = torch.from_numpy(np.around(small) if params.mask_round else small).expand(shape)
        if mask is not None and params.inpainting_fill == 2:
            fresh = torch.randn(shape[1:], generator=torch.Generator().manual_seed(params.seed))
            z0 = z0 * (1 - repaint) + fresh * repaint
        if mask is not None and params.inpainting_fill == 3:
            z0 = z0 * (1 - repaint)

        latent = self.sampled(z0, repaint, params)
        latent = latent * repaint + z0 * (1 - repaint)
        decoded = self.vae.decode(latent / self.vae.config.scaling_factor).sample[0]
        array = torch.clamp((decoded + 1) / 2, 0, 1).permute(1, 2, 0).numpy() * 255
        result = Image.fromarray(array.astype(np.uint8))
        return result if overlay is None else laid_over(result, overlay, box)

    def sampled(self, z0: Tensor, repaint: Tensor, params: Params) -> Tensor:
        """The last latent, before the mask is applied a last time."""
        generator = torch.Generator().manual_seed(params.seed)

        def draw() -> Tensor:
            return torch.randn(z0.shape[1:], generator=generator)[None]

        positive, negative = self.embedded(params.prompt), self.embedded(params.negative_prompt)

        def noise_in(scaled_latent: Tensor, t: Tensor) -> Tensor:
            with_prompt = original_unet(self.unet, scaled_latent, t[None], [positive[0]])
            without_prompt = original_unet(self.unet, scaled_latent, t[None], [negative[0]])
            guided: Tensor = without_prompt + params.cfg_scale * (with_prompt - without_prompt)
            return guided

        def blended(denoised: Tensor) -> Tensor:
            return denoised * repaint + z0 * (1 - repaint)

        steps, start = params.steps, int(min(params.denoising_strength, 0.999) * params.steps)
        noise = draw() * params.initial_noise_multiplier
        if params.sampler_name == "DDIM":
            times = [int(time) for time in (np.arange(0, 1000, 1000 // steps) + 1).clip(0, 999)]
            a = float(self.abar[times[start]])
            x = a**0.5 * (z0 + noise * params.extra_noise) + (1 - a) ** 0.5 * noise
            return self.ddim(x, times[:start], noise_in, blended)

        levels = ((1 - self.abar) / self.abar) ** 0.5
        sigmas = schedule(params, levels)[steps - start - 1 :]

        def denoiser(x: Tensor, sigma: float) -> Tensor:
            t = torch.tensor(
                np.interp(np.log(sigma), levels.log().numpy(), np.arange(1000)).astype(np.float32)
            )
            return blended(x - sigma * noise_in(x / (sigma**2 + 1) ** 0.5, t))

        x = z0 + noise * sigmas[0] + noise * params.extra_noise
        return LOOPS[params.sampler_name](denoiser, x, sigmas, draw)

    def ddim(
        self,
        x: Tensor,
        times: list[int],
        noise_in: Callable[[Tensor, Tensor], Tensor],
        blended: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """DDIM (Song et al. 2020) with eta 0, variance-preserving, from the last of `times` to the
        first: as A1111 counts, which noises to the one after them.
        """
        for time, earlier in pairwise(reversed(times)):
            a, a_next = float(self.abar[time]), float(self.abar[earlier])
            e = noise_in(blended(x), torch.tensor(float(time)))  # the mask is applied to the model's input
            clean = (x - (1 - a) ** 0.5 * e) / a**0.5
            x = a_next**0.5 * clean + (1 - a_next) ** 0.5 * e
        return x

    def embedded(self, prompt: str) -> Tensor:
        tokens = self.tokenizer(prompt, padding="max_length", max_length=77, truncation=True)["input_ids"]
        embedding: Tensor = self.text(torch.tensor([tokens])).last_hidden_state
        return embedding


def schedule(params: Params, levels: Tensor) -> list[float]:
    """`steps` sigmas, descending, and 0."""
    name, steps = params.scheduler, params.steps
    if name == "Automatic":
        name = "Karras" if params.sampler_name == "DPM++ 2M" else "Uniform"
    low, high = float(levels[0]), float(levels[-1])
    ramp = np.linspace(0, 1, steps)
    if name == "Karras":
        sigmas = (high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    elif name == "Exponential":
        sigmas = np.exp(np.linspace(np.log(high), np.log(low), steps))
    else:
        sigmas = np.exp(np.interp(np.linspace(999, 0, steps), np.arange(1000), levels.log().numpy()))
    return [*(float(sigma) for sigma in sigmas), 0.0]


def euler(denoiser: Denoiser, x: Tensor, sigmas: list[float], draw: Noise) -> Tensor:
    for sigma, following in pairwise(sigmas):
        x = x + (x - denoiser(x, sigma)) / sigma * (following - sigma)
    return x


def euler_ancestral(denoiser: Denoiser, x: Tensor, sigmas: list[float], draw: Noise) -> Tensor:
    for sigma, following in pairwise(sigmas):
        up = min(following, (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5)
        down = (following**2 - up**2) ** 0.5
        x = x + (x - denoiser(x, sigma)) / sigma * (down - sigma)
        if following > 0:
            x = x + draw() * up
    return x


def heun(denoiser: Denoiser, x: Tensor, sigmas: list[float], draw: Noise) -> Tensor:
    for sigma, following in pairwise(sigmas):
        slope = (x - denoiser(x, sigma)) / sigma
        ahead = x + slope * (following - sigma)
        if following > 0:
            slope = (slope + (ahead - denoiser(ahead, following)) / following) / 2
        x = x + slope * (following - sigma)
    return x


def dpmpp_2m(denoiser: Denoiser, x: Tensor, sigmas: list[float], draw: Noise) -> Tensor:
    before: Tensor | None = None
    h_before = 0.0
    for sigma, following in pairwise(sigmas):
        denoised = denoiser(x, sigma)
        if following == 0:
            return denoised
        h = float(np.log(sigma / following))
        ahead = denoised
        if before is not None:
            r = h_before / h
            ahead = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * before
        x = following / sigma * x - float(np.expm1(-h)) * ahead
        before, h_before = denoised, h
    return x


LOOPS: dict[str, Callable[[Denoiser, Tensor, list[float], Noise], Tensor]] = {
    "Euler": euler,
    "Euler a": euler_ancestral,
    "Heun": heun,
    "DPM++ 2M": dpmpp_2m,
}


def unit(picture: Image.Image) -> Tensor:
    """[1, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.array(picture).astype(np.float32) / 255).permute(2, 0, 1)[None] * 2 - 1


def read_mask(mask: Image.Image, params: Params) -> Image.Image:
    if mask.mode == "RGBA" and mask.getchannel("A").getextrema() != (255, 255):
        alpha = np.array(mask.getchannel("A"))
        mask = Image.fromarray(np.where(alpha > 128, 255, 0).astype(np.uint8) if params.mask_round else alpha)
    mask = mask.convert("L")
    return ImageOps.invert(mask) if params.inpainting_mask_invert else mask


def blurred(mask: Image.Image, params: Params) -> Image.Image:
    array = np.array(mask)
    if params.mask_blur_x > 0:
        array = cv2.GaussianBlur(array, (2 * int(2.5 * params.mask_blur_x + 0.5) + 1, 1), params.mask_blur_x)
    if params.mask_blur_y > 0:
        array = cv2.GaussianBlur(array, (1, 2 * int(2.5 * params.mask_blur_y + 0.5) + 1), params.mask_blur_y)
    return Image.fromarray(array)


def region(mask: Image.Image, params: Params) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of the part that "only masked" renders."""
    rows, columns = np.nonzero(np.array(mask).any(1))[0], np.nonzero(np.array(mask).any(0))[0]
    if not len(rows):
        return None
    pad = params.inpaint_full_res_padding
    x1, x2 = max(columns[0] - pad, 0), min(columns[-1] + 1 + pad, mask.width)
    y1, y2 = max(rows[0] - pad, 0), min(rows[-1] + 1 + pad, mask.height)
    aspect = params.width / params.height
    if (x2 - x1) / (y2 - y1) > aspect:
        y1, y2 = widened(y1, y2, int((x2 - x1) / aspect - (y2 - y1)), mask.height)
    else:
        x1, x2 = widened(x1, x2, int((y2 - y1) * aspect - (x2 - x1)), mask.width)
    return int(x1), int(y1), int(x2), int(y2)


def widened(low: int, high: int, more: int, limit: int) -> tuple[int, int]:
    low -= more // 2
    high += more - more // 2
    if high >= limit:
        low, high = low - (high - limit), limit
    if low < 0:
        low, high = 0, high - low
    return low, min(high, limit)


def scaled(picture: Image.Image, mode: int, size: tuple[int, int]) -> Image.Image:
    return picture if mode == 3 else fitted(picture, mode, size)


def fitted(picture: Image.Image, mode: int, size: tuple[int, int]) -> Image.Image:
    """Resize modes 0, 1 and 2; any other counts as 2."""
    width, height = size
    if mode == 0:
        return resized(picture, size)
    wider = picture.width / picture.height > width / height
    # mode 1 covers the frame, mode 2 fits into it; either way one side is the frame's
    if wider == (mode != 1):
        inner = width, picture.height * width // picture.width
    else:
        inner = picture.width * height // picture.height, height
    inside = resized(picture, inner)
    frame = Image.new(picture.mode, size)
    left, top = width // 2 - inner[0] // 2, height // 2 - inner[1] // 2
    frame.paste(inside, (left, top))
    if mode != 1 and wider and top > 0:
        frame.paste(inside.resize((width, top), box=(0, 0, width, 0)), (0, 0))
        frame.paste(inside.resize((width, top), box=(0, inner[1], width, inner[1])), (0, top + inner[1]))
    if mode != 1 and not wider and left > 0:
        frame.paste(inside.resize((left, height), box=(0, 0, 0, height)), (0, 0))
        frame.paste(inside.resize((left, height), box=(inner[0], 0, inner[0], height)), (left + inner[0], 0))
    return frame


def resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture.resize((size[0], picture.height), LANCZOS).resize(size, LANCZOS)


def painted(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The masked pixels painted from the colours around them."""
    around = without(picture, mask, premultiplied=True)
    canvas = Image.new("RGBA", picture.size)
    for radius, repeats in ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1)):
        for _ in range(repeats):
            canvas.alpha_composite(around.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA"))
    return canvas.convert("RGB")


def without(picture: Image.Image, mask: Image.Image, *, premultiplied: bool = False) -> Image.Image:
    """The picture, transparent where it is masked."""
    cut = Image.new("RGBa", picture.size)
    cut.paste(picture.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask.convert("L")))
    return cut if premultiplied else cut.convert("RGBA")


def laid_over(
    result: Image.Image, overlay: Image.Image, box: tuple[int, int, int, int] | None
) -> Image.Image:
    if box is not None:
        place = Image.new("RGBA", overlay.size)
        place.paste(scaled(result, 1, (box[2] - box[0], box[3] - box[1])), box[:2])
        result = place
    result = result.convert("RGBA")
    result.alpha_composite(overlay)
    return result.convert("RGB")
