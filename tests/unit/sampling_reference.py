"""Samplers step by step, written apart from the ones under test: by their papers' formulas in log-SNR time,
with a nonlinear model and mask blending."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import integrate

Latent = np.ndarray[Any, np.dtype[np.float64]]
#: (x, sigma) -> blended denoised latent
Denoise = Callable[[Latent, float], Latent]
#: (sigma, sigma_next) -> noise
Draw = Callable[[float, float], Latent]
Options = dict[str, float]

SIZE, CHANNELS = 12, 4


class Picture:
    """One image's constants: initial latent, mask, noises, and a nonlinear model of epsilon [C, n]."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.z0 = rng.normal(size=(CHANNELS, SIZE))
        self.mask = (rng.random((1, SIZE)) > 0.4).astype(np.float64)
        self.mix = rng.normal(size=(CHANNELS, CHANNELS)) * 0.6
        self.draws = rng.normal(size=(400, CHANNELS, SIZE))
        self.waves = rng.normal(size=(2, CHANNELS, SIZE)) * 0.3

    def epsilon(self, x: Latent, t: float) -> Latent:
        """The model: x is variance-preserving, t a timestep."""
        return np.asarray(np.tanh(self.mix @ x + 0.3 * np.sin(0.01 * t)))

    def blend(self, denoised: Latent) -> Latent:
        return denoised * self.mask + self.z0 * (1 - self.mask)

    def draw(self, position: int) -> Latent:
        return np.asarray(self.draws[position])

    def increment(self, sigma: float, sigma_next: float) -> Latent:
        """A stand-in for a Brownian increment: any function of the two sigmas will do here."""
        return np.asarray(1.5 * np.sin(self.waves[0] * sigma + self.waves[1] * sigma_next + self.draws[0]))


def log_time(sigma: float) -> float:
    return -float(np.log(sigma)) if sigma > 0 else float("inf")


def derivative(x: Latent, sigma: float, denoised: Latent) -> Latent:
    return (x - denoised) / sigma


def with_churn(x: Latent, i: int, sigmas: Latent, draw: Draw, o: Options) -> tuple[Latent, float]:
    inside = o.get("s_tmin", 0.0) <= sigmas[i] <= o.get("s_tmax", np.inf)
    gamma = min(o.get("s_churn", 0.0) / (len(sigmas) - 1), 2**0.5 - 1) if inside else 0.0
    eps = draw(sigmas[i], sigmas[i + 1]) * o.get("s_noise", 1.0)
    hat = sigmas[i] * (gamma + 1)
    return (x + eps * (hat**2 - sigmas[i] ** 2) ** 0.5 if gamma > 0 else x), hat


def euler(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    for i in range(len(sigmas) - 1):
        x, hat = with_churn(x, i, sigmas, draw, o)
        x = x + derivative(x, hat, model(x, hat)) * (sigmas[i + 1] - hat)
    return x


def heun(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    for i in range(len(sigmas) - 1):
        x, hat = with_churn(x, i, sigmas, draw, o)
        d, dt = derivative(x, hat, model(x, hat)), sigmas[i + 1] - hat
        if sigmas[i + 1] > 0:
            x_2 = x + d * dt
            d = (d + derivative(x_2, sigmas[i + 1], model(x_2, sigmas[i + 1]))) / 2
        x = x + d * dt
    return x


def dpm2(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    for i in range(len(sigmas) - 1):
        x, hat = with_churn(x, i, sigmas, draw, o)
        d = derivative(x, hat, model(x, hat))
        if sigmas[i + 1] > 0:
            mid = float(np.exp((np.log(hat) + np.log(sigmas[i + 1])) / 2))
            x_2 = x + d * (mid - hat)
            d = derivative(x_2, mid, model(x_2, mid))
        x = x + d * (sigmas[i + 1] - hat)
    return x


def lms(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    ds: list[Latent] = []
    for i in range(len(sigmas) - 1):
        ds.append(derivative(x, sigmas[i], model(x, sigmas[i])))
        order = min(i + 1, 4)
        for j in range(order):

            def basis(tau: float, i: int = i, j: int = j, order: int = order) -> float:
                others = [sigmas[i - k] for k in range(order) if k != j]
                return float(np.prod([(tau - other) / (sigmas[i - j] - other) for other in others]))

            weight, _ = integrate.quad(basis, sigmas[i], sigmas[i + 1], epsrel=1e-10)
            x = x + weight * ds[i - j]
    return x


def ancestral(sigma: float, to: float, eta: float) -> tuple[float, float]:
    if not eta:
        return to, 0.0
    up = min(to, eta * (to**2 * (sigma**2 - to**2) / sigma**2) ** 0.5)
    return (to**2 - up**2) ** 0.5, up


def euler_a(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    for sigma, to in pairwise(sigmas):
        down, up = ancestral(sigma, to, o.get("eta", 1.0))
        x = x + derivative(x, sigma, model(x, sigma)) * (down - sigma)
        if to > 0:
            x = x + draw(sigma, to) * o.get("s_noise", 1.0) * up
    return x


def dpm2_a(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    for sigma, to in pairwise(sigmas):
        down, up = ancestral(sigma, to, o.get("eta", 1.0))
        d = derivative(x, sigma, model(x, sigma))
        if down == 0:
            x = x - d * sigma
        else:
            mid = float(np.exp(0.5 * np.log(sigma) + 0.5 * np.log(down)))
            x_2 = x + d * (mid - sigma)
            x = x + derivative(x_2, mid, model(x_2, mid)) * (down - sigma)
            x = x + draw(sigma, to) * o.get("s_noise", 1.0) * up
    return x


def dpmpp_2s_a(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    for sigma, to in pairwise(sigmas):
        denoised = model(x, sigma)
        down, up = ancestral(sigma, to, o.get("eta", 1.0))
        if down == 0:
            x = x + derivative(x, sigma, denoised) * (down - sigma)
        else:
            t, t_next = log_time(sigma), log_time(down)
            h = t_next - t
            s = t + h / 2
            x_2 = np.exp(t - s) * x - np.expm1(-h / 2) * denoised
            x = np.exp(t - t_next) * x - np.expm1(-h) * model(x_2, float(np.exp(-s)))
        if to > 0:
            x = x + draw(sigma, to) * o.get("s_noise", 1.0) * up
    return x


def dpmpp_2m(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    old = None
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i])
        t, t_next = log_time(sigmas[i]), log_time(sigmas[i + 1])
        h = t_next - t
        d = denoised
        if old is not None and sigmas[i + 1] > 0:
            r = (t - log_time(sigmas[i - 1])) / h
            d = (1 + 1 / (2 * r)) * denoised - (1 / (2 * r)) * old
        x = sigmas[i + 1] / sigmas[i] * x - np.expm1(-h) * d
        old = denoised
    return x


def dpmpp_sde(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    eta, s_noise = o.get("eta", 1.0), o.get("s_noise", 1.0)
    for sigma, to in pairwise(sigmas):
        denoised = model(x, sigma)
        if to == 0:
            x = x + derivative(x, sigma, denoised) * (to - sigma)
            continue
        t, t_next = log_time(sigma), log_time(to)
        mid = float(np.exp(-(t + (t_next - t) / 2)))
        sd, su = ancestral(sigma, mid, eta)
        x_2 = sd / sigma * x - np.expm1(t - log_time(sd)) * denoised + draw(sigma, mid) * s_noise * su
        denoised_2 = model(x_2, mid)
        sd, su = ancestral(sigma, to, eta)
        x = sd / sigma * x - np.expm1(t - log_time(sd)) * denoised_2 + draw(sigma, to) * s_noise * su
    return x


def dpmpp_2m_sde(
    model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options, heun: bool = False
) -> Latent:
    eta, s_noise, old, h_last = o.get("eta", 1.0), o.get("s_noise", 1.0), None, 0.0
    for sigma, to in pairwise(sigmas):
        denoised = model(x, sigma)
        if to == 0:
            x = denoised
            continue
        h = log_time(to) - log_time(sigma)
        eh = eta * h
        x = to / sigma * np.exp(-eh) * x - np.expm1(-h - eh) * denoised
        if old is not None:
            r = h_last / h
            factor = -np.expm1(-h - eh) / (-h - eh) + 1 if heun else -0.5 * np.expm1(-h - eh)
            x = x + factor * (1 / r) * (denoised - old)
        if eta:
            x = x + draw(sigma, to) * to * (-np.expm1(-2 * eh)) ** 0.5 * s_noise
        old, h_last = denoised, h
    return x


def dpmpp_2m_sde_heun(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    return dpmpp_2m_sde(model, x, sigmas, draw, o, heun=True)


def dpmpp_3m_sde(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    eta, s_noise = o.get("eta", 1.0), o.get("s_noise", 1.0)
    den_1: Latent | None = None
    den_2: Latent | None = None
    h_1 = h_2 = 0.0
    for sigma, to in pairwise(sigmas):
        den = model(x, sigma)
        if to == 0:
            x = den
            continue
        h = log_time(to) - log_time(sigma)
        he = h * (eta + 1)
        x = np.exp(-he) * x - np.expm1(-he) * den
        phi_2 = np.expm1(-he) / he + 1
        if den_1 is not None and den_2 is not None:
            r0, r1 = h_1 / h, h_2 / h
            d1_0, d1_1 = (den - den_1) / r0, (den_1 - den_2) / r1
            d1 = d1_0 + (d1_0 - d1_1) * r0 / (r0 + r1)
            d2 = (d1_0 - d1_1) / (r0 + r1)
            x = x + phi_2 * d1 - (phi_2 / he - 0.5) * d2
        elif den_1 is not None:
            x = x + phi_2 * (den - den_1) / (h_1 / h)
        if eta:
            x = x + draw(sigma, to) * to * (-np.expm1(-2 * h * eta)) ** 0.5 * s_noise
        den_1, den_2, h_1, h_2 = den, den_1, h, h_1
    return x


def lcm(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    for sigma, to in pairwise(sigmas):
        x = model(x, sigma)
        if to > 0:
            x = x + to * draw(sigma, to)
    return x


def karras(n: int, low: float, high: float) -> list[float]:
    return [(high ** (1 / 7) + i / (n - 1) * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(n)]


def restart(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    steps = len(sigmas) - 1
    visits: list[tuple[float, float]] = []
    length, times = 9, 1
    if steps >= 36:
        length, times = steps // 4, 2
    if steps < 20:
        visits = list(pairwise(sigmas))
    else:
        path = np.array([*karras(steps - length * times, sigmas[-2], sigmas[0]), 0.0])
        back = int(np.argmin(abs(path - 0.1)))
        up = int(np.argmin(abs(path - 2)))
        for i in range(len(path) - 1):
            visits.append((path[i], path[i + 1]))
            if i + 1 == back and up < back:
                visits += list(pairwise(karras(length + 1, path[back], path[up]))) * times
    last = visits[0][0]
    for sigma, to in visits:
        if sigma > last * (1 + 1e-9):
            x = x + draw(last, sigma) * (sigma**2 - last**2) ** 0.5
        d = derivative(x, sigma, model(x, sigma))
        if to > 0:
            ahead = x + d * (to - sigma)
            d = (d + derivative(ahead, to, model(ahead, to))) / 2
        x, last = x + d * (to - sigma), to
    return x


def dpm_fast(model: Denoise, x: Latent, sigmas: Latent, draw: Draw, o: Options) -> Latent:
    nfe, end = len(sigmas) - 1, log_time(sigmas[-1])
    m = nfe // 3 + 1
    ts = np.linspace(log_time(sigmas[0]), end, m + 1)
    orders = [*([3] * (m - 2)), 2, 1] if nfe % 3 == 0 else [*([3] * (m - 1)), nfe % 3]
    for order, (t, t_next) in zip(orders, pairwise(ts), strict=True):
        sd, _ = ancestral(np.exp(-t), np.exp(-t_next), o.get("eta", 1.0))
        to = min(end, log_time(sd))
        su = max(np.exp(-2 * t_next) - np.exp(-2 * to), 0.0) ** 0.5
        h = to - t

        def eps(x: Latent, t: float) -> Latent:
            return derivative(x, np.exp(-t), model(x, np.exp(-t)))

        e = eps(x, t)
        last = x - np.exp(-to) * np.expm1(h) * e
        if order == 2:
            u1 = x - np.exp(-(t + h / 2)) * np.expm1(h / 2) * e
            last = last - np.exp(-to) * np.expm1(h) * (eps(u1, t + h / 2) - e)
        elif order == 3:
            r1, r2 = 1 / 3, 2 / 3
            u1 = x - np.exp(-(t + r1 * h)) * np.expm1(r1 * h) * e
            e1 = eps(u1, t + r1 * h)
            s2 = np.exp(-(t + r2 * h))
            bent = s2 * (r2 / r1) * (np.expm1(r2 * h) / (r2 * h) - 1) * (e1 - e)
            e2 = eps(x - s2 * np.expm1(r2 * h) * e - bent, t + r2 * h)
            last = last - np.exp(-to) / r2 * (np.expm1(h) / h - 1) * (e2 - e)
        x = last + su * o.get("s_noise", 1.0) * draw(np.exp(-t), np.exp(-t_next))
    return x


REFERENCES: dict[str, Callable[[Denoise, Latent, Latent, Draw, Options], Latent]] = {
    "Euler": euler,
    "Euler a": euler_a,
    "LMS": lms,
    "Heun": heun,
    "DPM++ 2M": dpmpp_2m,
    "DPM++ SDE": dpmpp_sde,
    "DPM++ 2S a": dpmpp_2s_a,
    "DPM++ 2M SDE": dpmpp_2m_sde,
    "DPM++ 2M SDE Heun": dpmpp_2m_sde_heun,
    "DPM++ 3M SDE": dpmpp_3m_sde,
    "DPM2": dpm2,
    "DPM2 a": dpm2_a,
    "DPM fast": dpm_fast,
    "LCM": lcm,
    "Restart": restart,
}
