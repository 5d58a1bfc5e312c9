"""A checkpoint's VAE: pictures to latents, and back."""

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
from img2img_worker.models.steps import Steps, read_flag, run_now

T = TypeVar("T")

#: values in a layer's output (of about 256 × 256 pixels) from which on other work may run after the layer
LARGE = 2**23


class Decoded(NamedTuple):
    """B decoded pictures, and whether they are valid."""

    #: uint8 [B, H, W, 3]
    pixels: Tensor
    #: the network's output, float32 [B, 3, H, W]: -1..1 is 0..255, and what is outside was clamped
    answers: Tensor
    #: bool [B]: False where the network's output was not finite, and the picture is meaningless
    is_finite: Tensor
    #: whether half precision may be why it was not: decoding in full precision may give a picture
    is_half: bool = False


class Autoencoder(Protocol):
    """Encodes and decodes in steps, between which it may be used for others.

    What goes in and comes out is float32, but for decoded pictures, which are uint8.
    """

    @property
    def network(self) -> nn.Module:
        """The network that it runs."""

    def encode(self, image: Tensor, rows: int | None, *, tiling: bool = False) -> Steps[Tensor]:
        """[B, 3, H, W] in [-1, 1] to latents [B, C, h, w]."""

    def decode(
        self, latents: Tensor, rows: int | None, *, tiling: bool = False, full_precision: bool = False
    ) -> Steps[Decoded]:
        """Latents [B, C, h, w] to pictures: clamped, times 255, truncated.

        Args:
            full_precision: in float32, because half precision overflowed.
        """


@dataclass(frozen=True, kw_only=True)
class Vae:
    """A checkpoint's AutoencoderKL, in a precision of its own. Implements `Autoencoder`.

    Once half precision overflows, it stays in float32 for good, as A1111's does. With a fixed number of rows,
    where no picture may depend on earlier ones, it uses float32 for that picture only.
    """

    #: diffusers' AutoencoderKL, which has no types
    network: Any
    device: torch.device
    #: pixels: pictures with a longer side are processed in tiles of this size; None: never in tiles
    tile: int | None = None
    #: standard deviation of the latents that the denoiser was trained on
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
        """Pixels per latent cell, along each side."""
        return int(2 ** (len(self.network.config.block_out_channels) - 1))

    @cached_property
    def _scale(self) -> float | Tensor:
        """The factor that gives a posterior's mean a variance of about 1: one number, or [1, C, 1, 1]."""
        scale = float(self.network.config.scaling_factor) / self.latent_scale
        deviations = self.network.config.get("latents_std")
        return scale if deviations is None else self._sent(scale / _by_channel(deviations))

    @cached_property
    def _shift(self) -> float | Tensor:
        """What is subtracted from a mean before it is scaled, in the same shapes."""
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

        Nothing in it waits for the device. Whoever sees that half precision overflowed calls it again, with
        `full_precision`.
        """
        is_half = self._is_half and not full_precision
        answers = in_rows(partial(self._decode, tiling=tiling), self.unscaled(latents), rows)
        if full_precision:
            answers = self._in_full_precision(answers, stays=rows is None)
        return to_pictures((yield from answers))._replace(is_half=is_half)

    def mean(self, image: Tensor, rows: int | None, *, tiling: bool = False) -> Steps[Tensor]:
        """The posterior's mean, neither shifted nor scaled, of [B, 3, H, W] in [-1, 1].

        Computed again in float32 where half precision overflows.
        """

        def run(piece: Tensor) -> Steps[Tensor]:
            is_half = self._is_half
            mean = yield from self._mean(piece, tiling=tiling)
            if not is_half or (yield from read_flag(mean.isfinite().all())):
                return mean
            return (yield from self._in_full_precision(self._mean(piece, tiling=tiling), stays=rows is None))

        return in_rows(run, image, rows)

    def scaled(self, mean: Tensor, *, shifts: bool = True) -> Tensor:
        """A posterior's mean as a latent.

        Args:
            shifts: False: only scaled, as some control networks were trained.
        """
        return (mean - self._shift if shifts else mean) * self._scale

    def unscaled(self, latents: Tensor) -> Tensor:
        """The posterior's mean that a latent was made from."""
        return latents / self._scale + self._shift

    def _sent(self, values: Tensor) -> Tensor:
        """Copy to the device, and wait for it: more than one stream uses the copy."""
        return values.to(self.device)

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.network.decoder.conv_in.weight.dtype
        return dtype

    @property
    def _is_half(self) -> bool:
        return self._dtype != torch.float32

    def _in_full_precision(self, work: Steps[T], *, stays: bool) -> Steps[T]:
        """Do `work` in float32.

        Args:
            stays: whether the network stays in float32; else all of `work` is done at once.
        """
        dtype = self._dtype
        self._convert(torch.float32)
        if stays:
            return (yield from work)
        try:
            return run_now(work)
        finally:
            self._convert(dtype)

    def _convert(self, dtype: torch.dtype) -> None:
        """Convert the weights to `dtype`, once no stream uses them."""
        if self._dtype == dtype:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        nn.Module.to(self.network, dtype)  # diffusers' own `to` logs a warning that is not about this one
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
            return (yield from self._run_layers(layers, batch, tiling=tiling))
        # tiles do not wrap around, the whole picture does: it is extended by as much as tiles overlap
        edge = min(tile // 4, *(side // before for side in batch.shape[-2:])) if tiling else 0
        batch = F.pad(batch, [edge * before] * 4, mode="circular")
        norms = [module for module in self.network.modules() if isinstance(module, nn.GroupNorm)]
        answer = yield from in_tiles(
            lambda piece: run_now(self._run_layers(layers, piece, tiling=False)),
            batch,
            tile=tile,
            before=before,
            after=after,
            norms=norms,
        )
        rows, columns = (slice(edge * after, side - edge * after) for side in answer.shape[-2:])
        return answer[..., rows, columns]

    def _run_layers(self, layers: Sequence[Layer], given: Tensor, *, tiling: bool) -> Steps[Tensor]:
        """Run the layers one after the other, yielding after large ones; the output is float32."""
        hold_weights(self.network, self.device)
        answer = given
        for layer in layers:
            # for each layer: between two of them others use the network, and may convert it to float32
            self._padding.apply(circular=tiling)
            answer = layer(answer.to(self._dtype))
            if answer.numel() >= LARGE:
                yield
        return answer.float()


def hold_weights(network: nn.Module, device: torch.device) -> None:
    """Keep the weights' memory from being reused before the current stream is done, if they are dropped."""
    if device.type == "cuda":
        stream = torch.cuda.current_stream(device)
        for weight in network.parameters():
            weight.record_stream(stream)


def _by_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)


def to_unit(pixels: Tensor, device: torch.device) -> Tensor:
    """uint8 [B, H, W, 3] to [B, 3, H, W] in [-1, 1], on `device`."""
    # contiguous: with channels last, rounding errors of a CPU's group norm spoil flat pictures
    image = pixels.to(device).permute(0, 3, 1, 2).contiguous().float() / 255
    return image * 2 - 1


def to_pictures(answers: Tensor) -> Decoded:
    """A network's output [B, 3, H, W] in [-1, 1] as uint8 pictures; it is clamped and truncated."""
    pixels = ((answers + 1) / 2).clamp(0, 1) * 255
    return Decoded(
        pixels=pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous(),
        answers=answers,
        is_finite=answers.isfinite().flatten(1).all(1),
    )


def in_rows(network: Callable[[Tensor], Steps[Tensor]], batch: Tensor, rows: int | None) -> Steps[Tensor]:
    """``network(batch)``, called with exactly `rows` rows each time (None: with all of them at once).

    A device picks its kernels by the number of rows, so a result's last bits depend on it.
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
