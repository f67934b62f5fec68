"""|x − y| on 0 … 1 by R products, fitted to be off by little in the worst case.

A(x) + A(y) − Σ_r f_r(x)·f_r(y), with A and f_r linear between N + 1 nodes i / N, is found by
the alternating direction method of multipliers: in turn the sum is brought nearest to a matrix in
mean square, which the eigenvectors of the greatest eigenvalues do (Eckart and Young 1936), and the
matrix to one that is off by no more than is aimed at. In mean square no sum is off by less than
(2 / π²)·√(Σ_{j>R} 1 / j⁴), so that in the worst case none is either, and the best possible error
falls as R^(−3/2) (Kashin 1977).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

Array = np.ndarray

#: Products beyond which fitting would take more than a few seconds.
MOST = 128

#: Nodes are so many times the products, and so many more: with fewer, lines between them are too
#: long for |x − y|, and with more, fitting takes longer.
NODES = 8, 32

#: Steps of the method, or fewer for many products, of which each takes long.
STEPS = 256

#: Of the least error so far, what is aimed at first and last. The first steps should move far, the
#: last ones not miss what can just be reached.
AIMS = 0.8, 0.98

#: Steps go this far beyond what they aim at, which takes fewer of them.
RELAXATION = 1.6


@dataclass(frozen=True)
class Fit:
    """A(x) + A(y) − Σ_r f_r(x)·f_r(y), by values at nodes.

    Attributes
    ----------
    alone : array, shape (N + 1,)
        A.
    factors : array, shape (R, N + 1)
        The f_r.
    error : float
        How far it is off |x − y| at most, on all of 0 … 1.
    """

    alone: Array
    factors: Array
    error: float


def products_for(error: float) -> int:
    """Return about how many products leave that error, rather too few than too many."""
    return math.ceil(math.pow(0.128 / error, 0.87))


@lru_cache(maxsize=64)
def fit(number: int) -> Fit:
    """Fit so many products: O(N²·R) operations a step, which are 40 ms for 16, 0.6 s for 64."""
    nodes = NODES[0] * number + NODES[1]
    places = np.arange(nodes + 1, dtype=np.float32) / np.float32(nodes)
    distance = np.abs(places[:, None] - places)
    # Neighbours are treated as one place: see `_range`.
    beside = (np.eye(nodes + 1, k=1) + np.eye(nodes + 1, k=-1)).astype(np.float32) / nodes
    spanned = np.cos(np.outer(places, np.arange(1, number + 1, dtype=np.float32) * np.pi))
    wanted, behind = distance, np.zeros_like(distance)
    least, best = math.inf, (places, spanned, spanned)
    for aim in np.linspace(*AIMS, min(STEPS, 2**14 // number), dtype=np.float32):
        nearest = _nearest(wanted, spanned)
        means, spanned, core = nearest
        found = _sum(means, spanned, core)
        found -= distance
        low, high = _range(found)
        if (high - low) / 2 < least:
            least, best = (high - low) / 2, nearest
        found *= RELAXATION
        found += behind
        limited = np.clip(found, -aim * least, aim * least - beside)
        np.subtract(found, RELAXATION * limited, out=behind)
        wanted = distance + (2 * limited - found)
    return _of(*best)


def _nearest(matrix: Array, spanned: Array) -> tuple[Array, Array, Array]:
    """Find a, Q and S for which aᵢ + aₖ + (Q·S·Qᵀ)ᵢₖ is near a symmetric matrix.

    Less the means of its rows and columns, the matrix is what Q·S·Qᵀ has to be near. One step of
    the power method suffices, as Q begins where the last matrix left it.
    """
    means = matrix.mean(1)
    means -= means.mean() / 2

    def rest(columns: Array) -> Array:
        product: Array = matrix @ columns
        product -= np.outer(means, columns.sum(0))
        product -= means @ columns
        return product

    spanned = np.linalg.qr(rest(spanned))[0]
    return means, spanned, spanned.T @ rest(spanned)


def _sum(means: Array, spanned: Array, core: Array) -> Array:
    """Return a + aᵀ + Q·S·Qᵀ."""
    ones = np.ones_like(means)
    left = np.column_stack([spanned @ core, means, ones])
    total: Array = left @ np.column_stack([spanned, ones, means]).T
    return total


def _range(errors: Array) -> tuple[float, float]:
    """Return the least and greatest error of a sum that is linear between the nodes.

    So are the errors, but for the kink at x = y. There the sum itself is the error, which between
    two nodes is at most the greatest of its values there and at the pair of both (Coq:
    ``nodes_error``).
    """
    beside = max(np.diagonal(errors, 1).max(), np.diagonal(errors, -1).max()) + 1 / (
        len(errors) - 1
    )
    return float(errors.min()), float(max(errors.max(), beside))


def _of(means: Array, spanned: Array, core: Array) -> Fit:
    """Make the products, in float64; move the errors to both sides of 0 and measure them."""
    values, vectors = np.linalg.eigh(core.astype(np.float64))
    factors = spanned @ vectors * np.sqrt(np.maximum(-values, 0))
    alone, places = means.astype(np.float64), np.linspace(0, 1, len(means))
    total = _sum(alone, factors, -np.eye(len(values)))
    low, high = _range(total - np.abs(places[:, None] - places))
    return Fit(alone - (low + high) / 4, factors.T, (high - low) / 2)
