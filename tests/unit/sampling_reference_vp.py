"""DDIM and UniPC step by step in variance-preserving terms, written apart from the ones under test."""

import math
from collections.abc import Callable

import numpy as np

from tests.unit.sampling_reference import Latent, Picture

#: (x, timestep, alpha, sigma of the variance-preserving latent) -> blended denoised latent
Predict = Callable[[Latent, float, float, float], Latent]


def predictor(picture: Picture) -> Predict:
    def predict(x: Latent, t: float, alpha: float, sigma: float) -> Latent:
        return picture.blend((x - sigma * picture.epsilon(x, t)) / alpha)

    return predict


def ddim(picture: Picture, abar: Latent, steps: int, start: int, eta: float) -> Latent:
    ts = [min(t + 1, 999) for t in range(0, 1000, 1000 // steps)]
    predict = predictor(picture)
    x = math.sqrt(abar[ts[start]]) * picture.z0 + math.sqrt(1 - abar[ts[start]]) * picture.draw(0)
    for i in range(start, -1, -1):
        a, a_prev = abar[ts[i]], abar[ts[i - 1]] if i else abar[0]
        x0 = predict(x, ts[i], math.sqrt(a), math.sqrt(1 - a))
        e = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
        s = eta * math.sqrt((1 - a_prev) / (1 - a) * (1 - a / a_prev))
        noise = picture.draw(start - i + 1)
        x = math.sqrt(a_prev) * x0 + math.sqrt(1 - a_prev - s**2) * e + s * noise
    return x


def unipc(picture: Picture, abar: Latent, steps: int, start: int) -> Latent:
    """B(h) = h, third order, data prediction, timesteps uniform in time: the published code's arithmetic."""
    ts = [min(t + 1, 999) for t in range(0, 1000, 1000 // steps)][: start + 1]
    grid = 1000 * np.linspace((ts[-1] + 1) / 1000, 1 / 1000, len(ts) + 1) - 1
    log_alpha = np.interp(grid, np.arange(1000), 0.5 * np.log(abar))
    alpha, sigma = np.exp(log_alpha), np.sqrt(1 - np.exp(2 * log_alpha))
    lam = np.log(alpha) - np.log(sigma)
    predict = predictor(picture)
    x = alpha[0] * picture.z0 + sigma[0] * picture.draw(0)
    models = [predict(x, grid[0], alpha[0], sigma[0])]
    n = len(ts)
    for i in range(1, n + 1):
        order = min(3, i, n + 1 - i)
        h = lam[i] - lam[i - 1]
        rks = [(lam[i - 1 - k] - lam[i - 1]) / h for k in range(1, order)]
        d1s = [(models[-1 - k] - models[-1]) / rk for k, rk in enumerate(rks, 1)]
        rks.append(1.0)
        hh = -h
        phi, b, factorial = math.expm1(hh) / hh - 1, [], 1
        for k in range(1, order + 1):
            b.append(phi * factorial / hh)
            factorial *= k + 1
            phi = phi / hh - 1 / factorial
        matrix = np.array([[rk**row for rk in rks] for row in range(order)])
        base = sigma[i] / sigma[i - 1] * x - alpha[i] * math.expm1(hh) * models[-1]
        rhos = [0.5] if order == 2 else np.linalg.solve(matrix[:-1, :-1], b[:-1]) if order > 1 else []
        x_pred = base - alpha[i] * hh * sum((r * d for r, d in zip(rhos, d1s, strict=True)), np.zeros(1))
        if i == n:
            return np.asarray(x_pred)
        new = predict(x_pred, grid[i], alpha[i], sigma[i])
        rhos = [0.5] if order == 1 else np.linalg.solve(matrix, b)
        corrected = sum((r * d for r, d in zip(rhos[:-1], d1s, strict=True)), rhos[-1] * (new - models[-1]))
        x = base - alpha[i] * hh * corrected
        models.append(new)
    raise AssertionError
