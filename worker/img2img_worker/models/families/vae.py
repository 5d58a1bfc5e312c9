"""Between pictures and latents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_worker.models.families.edge_padding import Padding
from img2img_worker.models.families.vae_layers import Layer, decoder_layers, encoder_layers
from img2img_worker.models.families.vae_tiling import in_tiles
from img2img_worker.models.steps import Steps, finished, known

T = TypeVar("T")

#: values of a layer's answer from which on others may have a turn after it: of 256 × 256 pixels, about
LARGE = 2**23


class Decoded(NamedTuple):
    """B pictures, and whether they are any."""

    #: uint8 [B, H, W, 3]
    pixels: Tensor
    #: bool [B]: False where the network's answer was not finite, so that the picture means nothing
    is_finite: Tensor
    #: whether what is not finite may have overflowed: in full precision, there may be a picture
    is_half: bool = False


class Autoencoder(Protocol):
    """What goes between pictures and latents, step by step, between which it may be used for others.

    Both are float32, but for pictures that come out, which are uint8.
    """

    @property
    def network(self) -> nn.Module:
        """What it runs."""

    def encode(self, image: Tensor, rows: int | None, *, tiling: bool = False) -> Steps[Tensor]:
        """[B, 3, H, W] in [-1, 1] to latents [B, C, h, w]."""

    def decode(
        self, latents: Tensor, rows: int | None, *, tiling: bool = False, full_precision: bool = False
    ) -> Steps[Decoded]:
        """Latents [B, C, h, w] to pictures: clamped, times 255, truncated.

        Args:
            full_precision: in float32, since it overflowed in half precision.
        """


@dataclass(frozen=True, kw_only=True)
class Vae:
    """A checkpoint's AutoencoderKL, in a precision of its own; what goes in and out is float32.

    Where half precision overflows, it goes on in float32 for good, as A1111's does; with a fixed number of
    rows, where a picture must not depend on earlier ones, for that picture only.
    """

    #: diffusers' AutoencoderKL, which says nothing of its types
    network: Any
    device: torch.device
    #: pictures larger than this, either way, go through it in tiles of this size; None: whole
    tile: int | None = None
    #: standard deviation of latents as the denoiser was trained on them
    latent_scale: float = 1.0

    @cached_property
    def _padding(self) -> Padding:
        return Padding(self.network)

    @property
    def channels(self) -> int:
        """C of a latent [C, h, w]."""
        return int(self.network.config.latent_channels)

    @property
    def factor(self) -> int:
        """Pixels to a latent cell, each way."""
        return int(2 ** (len(self.network.config.block_out_channels) - 1))

    @cached_property
    def _scale(self) -> float | Tensor:
        """What a mean is multiplied by to have a variance of about 1: one number, or [1, C, 1, 1]."""
        scale = float(self.network.config.scaling_factor) / self.latent_scale
        deviations = self.network.config.get("latents_std")
        return scale if deviations is None else self._sent(scale / _by_channel(deviations))

    @cached_property
    def _shift(self) -> float | Tensor:
        """What is taken from a mean before, in the same shapes."""
        means = self.network.config.get("latents_mean")
        if means is not None:
            return self._sent(_by_channel(means))
        return float(self.network.config.get("shift_factor") or 0.0)

    def encode(self, image: Tensor, rows: int | None, *, tiling: bool = False) -> Steps[Tensor]:
        """[B, 3, H, W] in [-1, 1] to latents [B, C, h, w]: the posterior's mean, shifted and scaled."""
        return self.scaled((yield from self.mean(image, rows, tiling=tiling)))

    def decode(
        self, latents: Tensor, rows: int | None, *, tiling: bool = False, full_precision: bool = False
    ) -> Steps[Decoded]:
        """Latents [B, C, h, w] to pictures: clamped, times 255, truncated.

        Nothing in it waits for the device: what overflows in half precision is to be decoded again with
        `full_precision`.
        """
        is_half = self._is_half and not full_precision
        answers = in_rows(partial(self._decode, tiling=tiling), self.unscaled(latents), rows)
        if full_precision:
            answers = self._in_full(answers, stays=rows is None)
        return to_pictures((yield from answers))._replace(is_half=is_half)

    def mean(self, image: Tensor, rows: int | None, *, tiling: bool = False) -> Steps[Tensor]:
        """The posterior's mean, as it is, of [B, 3, H, W] in [-1, 1]; made again where it overflows."""

        def run(piece: Tensor) -> Steps[Tensor]:
            is_half = self._is_half
            mean = yield from self._mean(piece, tiling=tiling)
            if not is_half or (yield from known(mean.isfinite().all())):
                return mean
            return (yield from self._in_full(self._mean(piece, tiling=tiling), stays=rows is None))

        return in_rows(run, image, rows)

    def scaled(self, mean: Tensor, *, shifts: bool = True) -> Tensor:
        """A posterior's mean as a latent.

        Args:
            shifts: False: not shifted before, as some control networks were trained.
        """
        return (mean - self._shift if shifts else mean) * self._scale

    def unscaled(self, latents: Tensor) -> Tensor:
        """The posterior's mean that a latent was."""
        return latents / self._scale + self._shift

    def _sent(self, values: Tensor) -> Tensor:
        """On the device, complete: it is used in more than one stream."""
        return values.to(self.device)

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.network.decoder.conv_in.weight.dtype
        return dtype

    @property
    def _is_half(self) -> bool:
        return self._dtype != torch.float32

    def _in_full(self, work: Steps[T], *, stays: bool) -> Steps[T]:
        """`work` in float32, and all after it; or, if that is not to stay, `work` alone and at once."""
        dtype = self._dtype
        self._convert(torch.float32)
        if stays:
            return (yield from work)
        try:
            return finished(work)
        finally:
            self._convert(dtype)

    def _convert(self, dtype: torch.dtype) -> None:
        """Has the weights in `dtype`, whichever streams use them."""
        if self._dtype == dtype:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        nn.Module.to(self.network, dtype)  # diffusers' own warns of what concerns other networks
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _mean(self, image: Tensor, *, tiling: bool) -> Steps[Tensor]:
        layers = encoder_layers(self.network)
        return self._in_tiles(layers, image, before=self.factor, after=1, tiling=tiling)

    def _decode(self, latents: Tensor, *, tiling: bool) -> Steps[Tensor]:
        layers = decoder_layers(self.network)
        return self._in_tiles(layers, latents, before=1, after=self.factor, tiling=tiling)

    def _in_tiles(
        self, layers: Sequence[Layer], batch: Tensor, *, before: int, after: int, tiling: bool
    ) -> Steps[Tensor]:
        tile = self.tile and self.tile // self.factor
        if tile is None or max(batch.shape[-2:]) <= tile * before:
            return (yield from self._through(layers, batch, tiling=tiling))
        # a tile must not wrap around itself: its picture does, by as much as tiles overlap
        edge = min(tile // 4, *(side // before for side in batch.shape[-2:])) if tiling else 0
        batch = F.pad(batch, [edge * before] * 4, mode="circular")
        norms = [module for module in self.network.modules() if isinstance(module, nn.GroupNorm)]
        answer = yield from in_tiles(
            lambda piece: finished(self._through(layers, piece, tiling=False)),
            batch,
            tile=tile,
            before=before,
            after=after,
            norms=norms,
        )
        rows, columns = (slice(edge * after, side - edge * after) for side in answer.shape[-2:])
        return answer[..., rows, columns]

    def _through(self, layers: Sequence[Layer], given: Tensor, *, tiling: bool) -> Steps[Tensor]:
        """The layers' answer, float32."""
        keep(self.network, self.device)
        answer = given
        for layer in layers:
            # each time: others have used it meanwhile, and it may have overflowed
            self._padding.apply(circular=tiling)
            answer = layer(answer.to(self._dtype))
            if answer.numel() >= LARGE:
                yield
        return answer.float()


def keep(network: nn.Module, device: torch.device) -> None:
    """Whoever lets go of its weights: their memory goes to nobody before the current stream is done."""
    if device.type == "cuda":
        stream = torch.cuda.current_stream(device)
        for weight in network.parameters():
            weight.record_stream(stream)


def _by_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)


def to_unit(pixels: Tensor, device: torch.device) -> Tensor:
    """uint8 [B, H, W, 3] to [B, 3, H, W] in [-1, 1], on `device`."""
    # laid out channel by channel: else a group norm on a CPU goes wrong on flat pictures, by rounding
    image = pixels.to(device).permute(0, 3, 1, 2).contiguous().float() / 255
    return image * 2 - 1


def to_pictures(answers: Tensor) -> Decoded:
    """A network's [B, 3, H, W] in [-1, 1] as pictures."""
    pixels = ((answers + 1) / 2).clamp(0, 1) * 255
    return Decoded(
        pixels=pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous(),
        is_finite=answers.isfinite().flatten(1).all(1),
    )


def in_rows(network: Callable[[Tensor], Steps[Tensor]], batch: Tensor, rows: int | None) -> Steps[Tensor]:
    """``network(batch)``, called with exactly `rows` rows each time (None: with all of them at once).

    Which kernels a device picks, and so a result's last bits, hangs on the number of rows.
    """
    if rows is None:
        return (yield from network(batch))
    answers = []
    for piece in torch.split(batch, rows):
        short = rows - piece.shape[0]
        padded = torch.cat([piece, piece[-1:].expand(short, *piece.shape[1:])]) if short else piece
        answer = yield from network(padded)
        answers.append(answer[: piece.shape[0]])
    return torch.cat(answers)
