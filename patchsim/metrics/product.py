"""p·k and p², whose window sums ncc, zncc and ssim are made of: cross-correlation and energy.

They are no distances, nor metrics that users name, and their own expansions (Coq: ``finite_rank``).
"""

import operator

from patchsim.metrics.base import Expansion, Metric, identity, square

PRODUCT = Metric(
    name="product",
    pointwise=operator.mul,
    expansion=Expansion.of((1, identity, identity)),
    # |p·k| ≤ p²/2 + k²/2, by the inequality of the means.
    majorant=lambda x: x * x / 2,
    degree=2,
    roundings=1,
    invariant=False,
)

SQUARE = Metric(
    name="square",
    pointwise=lambda p, k: p * p,
    expansion=Expansion.of((1, square, None)),
    majorant=square,
    degree=2,
    roundings=1,
    invariant=False,
)
