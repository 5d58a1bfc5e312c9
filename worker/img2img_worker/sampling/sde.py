"""Samplers that add noise at each step: ancestral ones, DPM-Solver++ (SDE), DDIM with eta, LCM.

Each takes model, first latent, descending sigmas and noise, and returns the last latent. Formulas and options
are k-diffusion's, as AUTOMATIC1111 1.10 calls them, unless a line says otherwise.
"""

from itertools import pairwise
from math import exp, expm1, log, sqrt

import torch

from img2img_worker.sampling.levels import Array
from img2img_worker.sampling.ode import midpoint_step, slope
from img2img_worker.sampling.vectors import Model, Noise, Vector


def ancestral(sigma: float, sigma_next: float, eta: float = 1.0) -> tuple[float, float]:
    """(down, up): go down to `down`, then add noise of `up`, to be at `sigma_next`. eta 0 adds none."""
    up = min(sigma_next, eta * sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
    return sqrt(sigma_next**2 - up**2), up


def euler_ancestral(
    model: Model, x: Vector, sigmas: Array, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Vector:
    """Ancestral sampling with Euler steps."""
    for sigma, sigma_next in pairwise(sigmas):
        down, up = ancestral(sigma, sigma_next, eta)
        x = x + (down - sigma) * slope(x, sigma, model(x, sigma))
        if sigma_next > 0:
            x = x + s_noise * up * noise(sigma, sigma_next)
    return x


def dpm_2_ancestral(
    model: Model, x: Vector, sigmas: Array, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Vector:
    """Ancestral sampling with DPM-Solver-2 steps."""
    for sigma, sigma_next in pairwise(sigmas):
        down, up = ancestral(sigma, sigma_next, eta)
        x = midpoint_step(model, x, sigma, down)
        if down > 0:
            x = x + s_noise * up * noise(sigma, sigma_next)
    return x


def dpmpp_2s_ancestral(
    model: Model, x: Vector, sigmas: Array, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Vector:
    """Ancestral sampling with DPM-Solver++(2S) steps: Lu et al. (2022), arXiv:2211.01095, algorithm 1."""
    for sigma, sigma_next in pairwise(sigmas):
        down, up = ancestral(sigma, sigma_next, eta)
        denoised = model(x, sigma)
        if down > 0:
            middle = sqrt(sigma * down)
            halfway = toward(denoised, x, middle / sigma)
            denoised = model(halfway, middle)
        x = toward(denoised, x, down / sigma)
        if sigma_next > 0:
            x = x + s_noise * up * noise(sigma, sigma_next)
    return x


def toward(denoised: Vector, x: Vector, ratio: float) -> Vector:
    """The exponential integrator's step: `ratio` of x, and the rest of the denoised latent."""
    return ratio * x + (1 - ratio) * denoised


def dpmpp_sde(
    model: Model,
    x: Vector,
    sigmas: Array,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r: float = 0.5,
) -> Vector:
    """DPM-Solver++ (SDE, 2S), with the inner step at the fraction r of the way in log sigma."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = model(x, sigma)
        if sigma_next == 0:
            x = denoised
            continue
        start, middle, end = _places_in_log_sigma(sigma, sigma_next, r)
        down, up = ancestral(sigma, middle, eta)
        inner = toward(denoised, x, down / sigma) + s_noise * up * noise(start, middle)
        blend = denoised + (model(inner, middle) - denoised) / (2 * r)
        down, up = ancestral(sigma, sigma_next, eta)
        x = toward(blend, x, down / sigma) + s_noise * up * noise(start, end)
    return x


def _places_in_log_sigma(sigma: float, sigma_next: float, r: float) -> tuple[float, float, float]:
    """The sigmas at which noise is drawn: both, and the one at the fraction r between them.

    Computed by k-diffusion's operations in single precision, with their rounding errors, because of the
    Brownian path (see `levels`).
    """
    t, t_next = -torch.tensor([sigma, sigma_next], dtype=torch.float32).log()
    start, middle, end = torch.stack([t, t + (t_next - t) * r, t_next]).neg().exp().tolist()
    return start, middle, end


def dpmpp_2m_sde(
    model: Model,
    x: Vector,
    sigmas: Array,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver_type: str = "midpoint",
) -> Vector:
    """DPM-Solver++(2M) SDE, as a "midpoint" or as a "heun" method."""
    previous, h_last = None, 0.0
    for sigma, sigma_next in pairwise(sigmas):
        denoised = model(x, sigma)
        if sigma_next == 0:
            return denoised
        h = log(sigma / sigma_next)
        h_eta = h * (1 + eta)
        x = toward(denoised, x, exp(-h_eta))
        if previous is not None:
            weight = 1 + expm1(-h_eta) / h_eta if solver_type == "heun" else -expm1(-h_eta) / 2
            x = x + weight * h / h_last * (denoised - previous)
        x = x + s_noise * sigma_next * sqrt(-expm1(-2 * h * eta)) * noise(sigma, sigma_next)
        previous, h_last = denoised, h
    return x


def dpmpp_3m_sde(
    model: Model, x: Vector, sigmas: Array, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Vector:
    """DPM-Solver++(3M) SDE: finite differences of the last three answers in log sigma."""
    answers: list[Vector] = []  # newest first, as are the step sizes `widths`
    widths: list[float] = []
    for sigma, sigma_next in pairwise(sigmas):
        denoised = model(x, sigma)
        if sigma_next == 0:
            return denoised
        answers, h = [denoised, *answers[:2]], log(sigma / sigma_next)
        h_eta = h * (1 + eta)
        phi_2 = 1 + expm1(-h_eta) / h_eta
        phi_3 = phi_2 / h_eta - 0.5
        x = toward(denoised, x, exp(-h_eta))
        if len(answers) == 3:
            r_0, r_1 = widths[0] / h, widths[1] / h
            d_0, d_1 = (answers[0] - answers[1]) / r_0, (answers[1] - answers[2]) / r_1
            bend = (d_0 - d_1) / (r_0 + r_1)
            x = x + phi_2 * (d_0 + r_0 * bend) - phi_3 * bend
        elif len(answers) == 2:
            x = x + phi_2 * (answers[0] - answers[1]) * h / widths[0]
        x = x + s_noise * sigma_next * sqrt(-expm1(-2 * h * eta)) * noise(sigma, sigma_next)
        widths = [h, *widths[:1]]
    return x


def ddim(model: Model, x: Vector, sigmas: Array, noise: Noise, *, eta: float = 0.0) -> Vector:
    """Song et al. (2021), arXiv:2010.02502, equations 12 and 16.

    The paper's latent is variance-preserving, sqrt(alpha) of ours.
    """
    for sigma, sigma_next in pairwise(sigmas):
        kept, fresh = _ddim_shares(sigma, sigma_next, eta)
        denoised = model(x, sigma)
        x = denoised + kept * slope(x, sigma, denoised) + fresh * noise(sigma, sigma_next)
    return x


def ddim_cfg_pp(model: Model, x: Vector, sigmas: Array, noise: Noise, *, eta: float = 0.0) -> Vector:
    """DDIM with CFG++: Chung et al. (2024), arXiv:2406.08070, algorithm 2.

    It continues in the direction of the negative prompt's noise. As all is linear in the two answers, that is
    a DDIM step with another guidance scale: DDIM's step contains the guidance term with the factor
    ``(sigma - kept) / sigma``, CFG++'s with 1.
    """
    for sigma, sigma_next in pairwise(sigmas):
        kept, fresh = _ddim_shares(sigma, sigma_next, eta)
        denoised = model(x, sigma, guidance=sigma / (sigma - kept))
        x = denoised + kept * slope(x, sigma, denoised) + fresh * noise(sigma, sigma_next)
    return x


def _ddim_shares(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """How much of the old noise is kept, and how much new noise is added, at `sigma_next`."""
    alpha, alpha_next = 1 / (1 + sigma**2), 1 / (1 + sigma_next**2)
    fresh = eta * sqrt((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next))
    return sqrt((1 - alpha_next - fresh**2) / alpha_next), fresh / sqrt(alpha_next)


def lcm(model: Model, x: Vector, sigmas: Array, noise: Noise) -> Vector:
    """Latent consistency models: Luo et al. (2023), arXiv:2310.04378, algorithm 3.

    The boundary scalings c_skip and c_out are left out: they differ from 0 and 1 by less than 1e-5 at all
    timesteps that are used.
    """
    for sigma, sigma_next in pairwise(sigmas):
        x = model(x, sigma)
        if sigma_next > 0:
            x = x + sigma_next * noise(sigma, sigma_next)
    return x
