"""UniPC, data prediction: Zhao et al. (2023), arXiv:2302.04867, algorithms 5 to 8.

Written in variance-exploding terms: both sides of the paper's updates divided by alpha.
"""

from math import expm1, factorial, log

import numpy as np

from img2img_worker.sampling.levels import Array
from img2img_worker.sampling.ode import combined
from img2img_worker.sampling.vectors import Model, Noise, Vector


def uni_pc(
    model: Model,
    x: Vector,
    sigmas: Array,
    _noise: Noise,
    *,
    variant: str = "bh1",
    order: int = 3,
    lower_order_final: bool = True,
) -> Vector:
    """UniPC's predictor and corrector, of lower order at the start and, if wanted, at the end.

    The last step has no corrector, so each sigma but the last costs one call of the model.

    Args:
        variant: "bh1" is B(h) = h, "bh2" B(h) = exp(h) - 1, "vary_coeff" the coefficients of appendix C.
        order: at most the number of steps.
    """
    steps = len(sigmas) - 1
    weights = _varied if variant == "vary_coeff" else _by_b1 if variant == "bh1" else _by_b2
    answers = [model(x, sigmas[0])]  # newest first
    for i in range(1, steps + 1):
        at_end = steps + 1 - i if lower_order_final else order
        p = i if i < order else min(order, at_end)
        h = log(sigmas[i - 1] / sigmas[i])
        r = np.array([log(sigmas[i - 1] / sigmas[i - 1 - k]) / h for k in range(1, p)])
        differences = [(answers[k] - answers[0]) / r[k - 1] for k in range(1, p)]
        start = sigmas[i] / sigmas[i - 1] * x - expm1(-h) * answers[0]
        predicted: Vector = start + combined(weights(r, h, corrects=False), differences)
        if i == steps:
            break
        answer = model(predicted, sigmas[i])
        all_weights = weights(np.append(r, 1.0), h, corrects=True)
        x = start + combined(all_weights, [*differences, answer - answers[0]])
        answers = [answer, *answers[: order - 1]]
    return predicted


def _by_b1(r: Array, h: float, *, corrects: bool) -> Array:  # noqa: ARG001 (the same for both)
    return h * _solved(r, h, -h)


def _by_b2(r: Array, h: float, *, corrects: bool) -> Array:  # noqa: ARG001
    return -expm1(-h) * _solved(r, h, expm1(-h))


def _solved(r: Array, h: float, b: float) -> Array:
    """Weights of the scaled differences at r: solves the paper's order conditions, R(h) a = phi(h) / B(h).

    One weight alone is 1/2, which the conditions meet up to O(h).
    """
    if len(r) == 1:
        return np.array([0.5])
    phi = _phi(len(r), h)
    conditions = [phi[k] * factorial(k) / b for k in range(1, len(r) + 1)]
    weights: Array = np.linalg.solve(np.vander(r, increasing=True).T, np.array(conditions))
    return weights


def _varied(r: Array, h: float, *, corrects: bool) -> Array:
    """Weights by the inverse of the matrix C, as in the published code.

    There, the weight of a corrector's newest difference comes from the last but one row of the inverse only.
    """
    if len(r) == 0:
        return r
    columns = [r**k / factorial(k + 1) for k in range(len(r))]
    inverse: Array = np.linalg.inv(np.stack(columns, axis=1))
    phi = _phi(len(r), h)
    if not corrects:
        return np.asarray(-np.array(phi[1:]) @ inverse)
    older = -np.array(phi[1:-1]) @ inverse[:-1, :-1]
    return np.append(older, -phi[-1] * inverse[max(len(r) - 2, 0), -1])


def _phi(n: int, h: float) -> list[float]:
    """h phi_1, ..., h phi_(n+1) of -h, by their recursion."""
    phi = [expm1(-h)]
    for k in range(1, n + 1):
        phi.append(phi[-1] / -h - 1 / factorial(k))
    return phi
