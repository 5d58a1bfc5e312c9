"""The noise levels that a model was trained on, and conversion between sigmas and timesteps.

Sigmas are computed in single precision, by the operations of torch that A1111 uses: some samplers draw noise
from a Brownian path at a sigma, and it differs at the nearest other number.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import torch

from img2img_shared.errors import Refused

Array = npt.NDArray[np.float64]

#: the part of the signal's variance that A1111 leaves at the last level of zero terminal SNR: with none, its
#: sigma would be infinite
LAST_ALPHA = 4.8973451890853435e-08


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseLevels:
    """A model's discrete noise levels, ascending, and interpolation between them.

    Latents are variance-exploding here: x = z + sigma · noise. An object belongs to one loaded model, and
    compares by identity: it is a key in the cache of compiled plans.

    >>> levels = NoiseLevels.from_alphas_cumprod(np.cumprod(1 - np.linspace(0.03**2, 0.11**2, 1000)))
    >>> round(levels.sigma_to_t(levels.sigma_max))
    999
    """

    #: [N] the part of the signal's variance that is left at each level, descending
    alphas_cumprod: Array
    #: [N] the model's timestep for each level, ascending
    timesteps: Array
    #: what is linear in the timestep between two levels; "nothing": the nearest level's timestep is taken
    between: Literal["log sigma", "log alpha", "nothing"] = "log sigma"
    #: Align Your Steps has one table of noise levels for SDXL and another for the rest
    is_sdxl: bool = False
    #: the lowest and the highest sigma of schedules; None: the model's
    ends: tuple[float, float] | None = None
    #: what sigmas and their logarithms are rounded to
    precision: torch.dtype = torch.float32

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: npt.ArrayLike, *, is_sdxl: bool = False) -> Self:
        """Levels of a model with cumulative products of alpha [N], N = 1000 for all of Stable Diffusion."""
        alphas = np.array(alphas_cumprod, dtype=np.float64)
        return cls(alphas_cumprod=alphas, timesteps=np.arange(float(len(alphas))), is_sdxl=is_sdxl)

    @cached_property
    def sigmas(self) -> Array:
        """[N] the noise's standard deviation at each level, ascending."""
        alphas = torch.tensor(self.alphas_cumprod, dtype=self.precision)
        return np.asarray(((1 - alphas) / alphas).sqrt(), dtype=np.float64)

    @cached_property
    def _log_sigmas(self) -> torch.Tensor:
        return torch.from_numpy(self.sigmas).to(self.precision).log().float()

    @property
    def sigma_min(self) -> float:
        """The last sigma of schedules above 0."""
        return float(self.sigmas[0]) if self.ends is None else self.ends[0]

    @property
    def sigma_max(self) -> float:
        """The first sigma of schedules."""
        return float(self.sigmas[-1]) if self.ends is None else self.ends[1]

    def sigma_to_t(self, sigma: float) -> float:
        """The timestep of a sigma above 0, fractional between two levels, clamped to the first and the last.

        Source: k-diffusion's ``DiscreteSchedule`` without quantisation.
        """
        if self.between == "nothing":
            # in single precision two levels may be equally near; A1111 takes the lower one
            distances = torch.tensor(sigma, dtype=torch.float32).log() - self._log_sigmas
            return float(self.timesteps[int(distances.abs().argmin())])
        rounded = self.precision == torch.float16
        scale = self._log_sigmas.numpy() if rounded else self._scale(self.sigmas)
        return float(np.interp(self._scale(np.asarray(sigma)), scale, self.timesteps))

    def t_to_sigma(self, t: npt.ArrayLike) -> Array:
        """The sigma of each timestep, the inverse of `sigma_to_t`."""
        t = np.asarray(t, dtype=np.float64)
        if self.between == "log alpha":
            return np.asarray(np.sqrt(np.expm1(2 * np.interp(t, self.timesteps, self._scale(self.sigmas)))))
        place = torch.as_tensor(np.interp(t, self.timesteps, np.arange(float(len(self.timesteps))))).float()
        logs = self._log_sigmas
        below, above, part = logs[place.floor().long()], logs[place.ceil().long()], place.frac()
        return np.asarray(((1 - part) * below + part * above).exp(), dtype=np.float64)

    def _scale(self, sigma: Array) -> Array:
        # -log alpha of the variance-preserving process, whose alpha² is 1 / (sigma² + 1)
        return 0.5 * np.log1p(sigma**2) if self.between == "log alpha" else np.log(sigma)

    @property
    def has_whole_timesteps(self) -> bool:
        """Whether the model was trained on whole timesteps, and not on a continuum."""
        return True

    @property
    def scheduled(self) -> "NoiseLevels":
        """The levels in the terms of schedules; `exploding` converts their sigmas back."""
        return self

    def exploding(self, sigmas: Array) -> Array:
        """Sigmas of `scheduled` as those of a variance-exploding latent."""
        return sigmas

    @cached_property
    def zero_terminal_snr(self) -> "NoiseLevels":
        """The levels, shifted and stretched so that the last one is nearly pure noise.

        Source: Lin et al. (2023), arXiv:2305.08891, algorithm 1, with A1111's last level.
        """
        signal = torch.tensor(self.alphas_cumprod, dtype=self.precision).sqrt()
        first, last = signal[0].clone(), signal[-1].clone()
        alphas = ((signal - last) * (first / (first - last))) ** 2
        alphas[-1] = LAST_ALPHA
        return replace(self, alphas_cumprod=np.asarray(alphas, dtype=np.float64))

    @property
    def halved(self) -> "NoiseLevels":
        """The levels rounded to half precision, in which sigmas are then computed."""
        alphas = self.alphas_cumprod.astype(np.float16).astype(np.float64)
        return replace(self, alphas_cumprod=alphas, precision=torch.float16)

    @property
    def quantized(self) -> "NoiseLevels":
        """The same levels, of which the model is told the nearest one's timestep."""
        return replace(self, between="nothing")

    @property
    def in_single_precision(self) -> "NoiseLevels":
        """The same alphas, from which sigmas are computed in single precision."""
        return self if self.precision == torch.float32 else replace(self, precision=torch.float32)

    def log_alpha(self) -> "NoiseLevels":
        """The same levels, log alpha linear between them: the discrete schedule of DPM-Solver and UniPC."""
        return replace(self, between="log alpha")

    def every(self, nth: int) -> "NoiseLevels":
        """Every nth level, the last one included: those on which a latent consistency model was distilled."""
        return replace(
            self,
            alphas_cumprod=self.alphas_cumprod[nth - 1 :: nth],
            timesteps=self.timesteps[nth - 1 :: nth],
            between="nothing",
        )


class _ClosedFormLevels(NoiseLevels):
    """Levels whose sigmas and timesteps are closed forms, and not computed from alphas as A1111 does it.

    So its options that change the alphas, or round to a level, do not apply.
    """

    @property
    def zero_terminal_snr(self) -> NoiseLevels:
        return self

    @property
    def halved(self) -> NoiseLevels:
        return self

    @property
    def quantized(self) -> NoiseLevels:
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class ContinuousLevels(_ClosedFormLevels):
    """Levels of a model that was trained on a continuum of sigmas, with the timestep ``ln(sigma) / 4``.

    A thousand of them, evenly spaced in log sigma, stand for the continuum, as in ComfyUI; interpolation
    between them is exact, since the timestep is linear there. There are no whole timesteps.

    Source: Karras et al. (2022), arXiv:2206.00364, table 1.
    """

    #: [N] the sigmas, ascending; low ones could not be computed from an abar near 1 in single precision
    of_training: Array

    @classmethod
    def between_sigmas(cls, least: float, most: float, *, latent_scale: float, is_sdxl: bool) -> Self:
        """Levels of a model that was trained on latents with a standard deviation of `latent_scale`.

        The levels are in units of that scale, so that latents have a variance of 1, as all others do.

        Raises:
            ValueError: 0 < least < most < infinity does not hold.
        """
        if not 0 < least < most < np.inf:
            raise ValueError(f"sigmas from {least} to {most}")
        sigmas = np.geomspace(least, most, 1000)
        scaled = sigmas / latent_scale
        return cls(
            alphas_cumprod=1 / (1 + scaled**2),
            timesteps=np.log(sigmas) / 4,
            of_training=scaled,
            is_sdxl=is_sdxl,
        )

    @cached_property
    def sigmas(self) -> Array:
        return self.of_training

    @property
    def has_whole_timesteps(self) -> bool:
        return False


#: largest fraction of noise of a flow: 1 would be an infinite sigma
_MOST = 1 - 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowLevels(_ClosedFormLevels):
    """A flow's levels, whose latent is ``(1 - f) z + f noise`` with a fraction f of noise in 0..1.

    Divided by ``1 - f`` it is the variance-exploding latent of all other models, with the sigma
    ``s = f / (1 - f)``. The model's timestep is ``t = 1000 f``. Both conversions are closed forms, so the
    timestep is exact for any sigma.

    What that means for samplers: Euler, and others that follow straight lines from an x to a denoised latent
    (DDIM, LCM), visit the same latents in s as in f, in which A1111 and diffusers step. Heun, DPM2, LMS and
    the DPM++ multistep methods combine several such lines: in s with weights by the log SNR, as in their
    papers and in diffusers' DPM-Solver for flows. A1111 computes these weights in f, which differs by the
    methods' own error. With noise that samplers add (eta, churn, ancestral and SDE ones), the latent stays
    one of the flow; A1111 adds it in f as if that were variance-exploding, and leaves the flow.
    `extra_noise` is relative to z; `s_tmin`, `s_tmax` and `s_min_uncond` are compared with s.

    Schedules are computed in f (`scheduled`), as in A1111: on 1000 levels of f, log-linear between them.
    """

    @cached_property
    def sigmas(self) -> Array:
        return self.t_to_sigma(self.timesteps)

    def sigma_to_t(self, sigma: float) -> float:
        """1000 times the fraction of noise."""
        return float(1000 * sigma / (1 + sigma))

    def t_to_sigma(self, t: npt.ArrayLike) -> Array:
        return self.exploding(np.asarray(t, dtype=np.float64) / 1000)

    @cached_property
    def scheduled(self) -> NoiseLevels:
        return _Shares.from_alphas_cumprod(1 / (1 + (self.timesteps / 1000) ** 2))

    def exploding(self, sigmas: Array) -> Array:
        """As in `NoiseLevels`.

        Raises:
            Refused: fractions above 1, which only Align Your Steps has.
        """
        if sigmas.max() > 1:
            raise Refused(
                "scheduler",
                "Align Your Steps",
                "a flow model has no such noise levels; choose another scheduler",
            )
        shares = np.minimum(sigmas, _MOST)
        return np.asarray(shares / (1 - shares))


class _Shares(NoiseLevels):
    """A flow's fractions of noise, as if they were sigmas."""

    @cached_property
    def sigmas(self) -> Array:
        # rounded to single precision only here: in it, the smallest alpha could hardly be told from 1
        return np.asarray(np.sqrt(1 / self.alphas_cumprod - 1), dtype=np.float32).astype(np.float64)


@lru_cache(maxsize=1024)
def flow_levels(shift: float) -> FlowLevels:
    """The levels of a flow, shifted towards noise by `shift`; the same object for the same shift.

    Source: Esser et al. (2024), arXiv:2403.03206, equation 23.
    """
    even = np.arange(1, 1001) / 1000
    shares = shift * even / (1 + (shift - 1) * even)
    sigmas = np.minimum(shares, _MOST) / (1 - np.minimum(shares, _MOST))
    return FlowLevels(alphas_cumprod=1 / (1 + sigmas**2), timesteps=1000 * shares)
