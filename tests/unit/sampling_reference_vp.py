"""Samplers with timesteps of their own, step by step in variance-preserving terms as AUTOMATIC1111 runs them,
written apart from the ones under test.

What a mask keeps is laid into what the model sees, unnoised, and the answer is left alone.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.unit.sampling_reference import Latent, Picture

#: (x, timestep) -> the model's prediction of the noise in x
Epsilon = Callable[[Latent, float], Latent]


def epsilon_of(picture: Picture) -> Epsilon:
    return lambda x, t: picture.epsilon(picture.blend(x), t)


def begin(picture: Picture, abar: Latent, steps: int, start: int | None) -> tuple[Latent, list[int]]:
    """The first latent, and the timesteps that are visited, ascending; `start` None: txt2img."""
    ts = [min(t + 1, 999) for t in range(0, 1000, 1000 // steps)]
    if start is None:
        return picture.draw(0), ts
    a = abar[ts[start]]
    return math.sqrt(a) * picture.z0 + math.sqrt(1 - a) * picture.draw(0), ts[:start]


def ddim(
    picture: Picture, abar: Latent, steps: int, start: int | None, eta: float, cfg: float | None = None
) -> Latent:
    """With `cfg`, CFG++: the output for the prompt is one and a half times that for the negative prompt."""
    x, ts = begin(picture, abar, steps, start)
    epsilon = epsilon_of(picture)
    for n, i in enumerate(range(len(ts) - 1, 0, -1)):
        a, a_prev = abar[ts[i]], abar[ts[i - 1]]
        unguided = epsilon(x, ts[i])
        guided = unguided if cfg is None else unguided + cfg / 12.5 * (0.5 * unguided)
        x0 = (x - math.sqrt(1 - a) * guided) / math.sqrt(a)
        s = eta * math.sqrt((1 - a_prev) / (1 - a) * (1 - a / a_prev))
        x = math.sqrt(a_prev) * x0 + math.sqrt(1 - a_prev - s**2) * unguided + s * picture.draw(n + 1)
    return x


def plms(picture: Picture, abar: Latent, steps: int, start: int | None) -> Latent:
    x, ts = begin(picture, abar, steps, start)
    epsilon = epsilon_of(picture)
    old: list[Latent] = []

    def go(x: Latent, e: Latent, i: int) -> Latent:
        a, a_prev = abar[ts[i]], abar[ts[i - 1]]
        x0 = (x - math.sqrt(1 - a) * e) / math.sqrt(a)
        return np.asarray(math.sqrt(a_prev) * x0 + math.sqrt(1 - a_prev) * e)

    for i in range(len(ts) - 1, 0, -1):
        e = epsilon(x, ts[i])
        if len(old) == 0:
            mean = (e + epsilon(go(x, e, i), ts[i - 1])) / 2
        elif len(old) == 1:
            mean = (3 * e - old[-1]) / 2
        elif len(old) == 2:
            mean = (23 * e - 16 * old[-1] + 5 * old[-2]) / 12
        else:
            mean = (55 * e - 59 * old[-1] + 37 * old[-2] - 9 * old[-3]) / 24
        old.append(e)
        x = go(x, mean, i)
    return x


def unipc(
    picture: Picture,
    abar: Latent,
    steps: int,
    start: int | None,
    *,
    order: int = 3,
    variant: str = "bh1",
    skip_type: str = "time_uniform",
    lower_order_final: bool = True,
) -> Latent:
    """Data prediction, in the published code's arithmetic and names."""
    x, ts = begin(picture, abar, steps, start)
    n, first = len(ts), 1.0 if start is None else (ts[-1] + 1) / 1000
    levels = np.arange(1, 1001) / 1000
    log_alphas = 0.5 * np.log(abar)

    def lam_of(log_alpha: Any) -> Any:
        return log_alpha - 0.5 * np.log(1 - np.exp(2 * log_alpha))

    if skip_type == "time_uniform":
        times = np.linspace(first, 1 / 1000, n + 1)
    elif skip_type == "time_quadratic":
        times = np.linspace(first**0.5, (1 / 1000) ** 0.5, n + 1) ** 2
    else:
        lams = np.linspace(lam_of(np.interp(first, levels, log_alphas)), lam_of(log_alphas[0]), n + 1)
        wanted = -0.5 * np.logaddexp(0, -2 * lams)
        times = np.interp(wanted, log_alphas[::-1], levels[::-1])
    log_alpha = np.interp(times, levels, log_alphas)
    alpha, sigma, lam = np.exp(log_alpha), np.sqrt(1 - np.exp(2 * log_alpha)), lam_of(log_alpha)
    epsilon = epsilon_of(picture)

    def predict(x: Latent, i: int) -> Latent:
        return np.asarray((x - sigma[i] * epsilon(x, 1000 * times[i] - 1)) / alpha[i])

    models = [predict(x, 0)]
    update = _vary if variant == "vary_coeff" else _bh
    for i in range(1, n + 1):
        p = i if i < order else min(order, n + 1 - i) if lower_order_final else order
        h = lam[i] - lam[i - 1]
        rks = [(lam[i - 1 - k] - lam[i - 1]) / h for k in range(1, p)]
        d1s = [(models[-1 - k] - models[-1]) / rk for k, rk in enumerate(rks, 1)]
        base = sigma[i] / sigma[i - 1] * x - alpha[i] * math.expm1(-h) * models[-1]
        predicted = base - alpha[i] * update(rks, d1s, None, h, variant)
        if i == n:
            return np.asarray(predicted)
        new = predict(predicted, i)
        x = base - alpha[i] * update(rks, d1s, new - models[-1], h, variant)
        models.append(new)
    raise AssertionError


def _bh(rks: list[float], d1s: list[Latent], d1_t: Latent | None, h: float, variant: str) -> Any:
    order, hh = len(rks) + 1, -h
    b_h = hh if variant == "bh1" else math.expm1(hh)
    phi, b, factorial = math.expm1(hh) / hh - 1, [], 1
    for k in range(1, order + 1):
        b.append(phi * factorial / b_h)
        factorial *= k + 1
        phi = phi / hh - 1 / factorial
    matrix = np.array([[rk**row for rk in [*rks, 1.0]] for row in range(order)])
    if d1_t is None:
        rhos = [0.5] if order == 2 else np.linalg.solve(matrix[:-1, :-1], b[:-1]) if order > 1 else []
        return b_h * sum((r * d for r, d in zip(rhos, d1s, strict=True)), np.zeros(1))
    rhos = [0.5] if order == 1 else np.linalg.solve(matrix, b)
    return b_h * sum((r * d for r, d in zip(rhos[:-1], d1s, strict=True)), rhos[-1] * d1_t)


def _vary(rks: list[float], d1s: list[Latent], d1_t: Latent | None, h: float, _variant: str) -> Any:
    r, hh = np.array([*rks, 1.0]), -h
    size = len(r)
    matrix = np.stack([r**k / math.factorial(k + 1) for k in range(size)], axis=1)
    phis = [math.expm1(hh)]
    for k in range(1, size + 1):
        phis.append(phis[-1] / hh - 1 / math.factorial(k))
    inverse = np.linalg.inv(matrix[:-1, :-1] if d1_t is None else matrix)
    total: Any = np.zeros(1)
    k = 0
    for k in range(size - 1):
        total = total + phis[k + 1] * sum(d * inverse[k][j] for j, d in enumerate(d1s))
    return total if d1_t is None else total + phis[size] * d1_t * inverse[k][-1]
