"""p·k, whose window sums are the cross-correlation, of which ncc, zncc and ssim are made.

It isn't a distance, nor a metric that users name. It is its own expansion (Coq: ``finite_rank``).
"""

import operator

from patchsim.metrics.base import Expansion, Metric, identity

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
