"""l2: mean squared difference; its window sum is the SSD (sum of squared differences).

Its expansion is p² − 2pk + k² (Coq: ``l2_expansion``).
"""

from patchsim.metrics.base import Expansion, Metric, identity, square

METRIC = Metric(
    name="l2",
    pointwise=lambda p, k: (p - k) ** 2,
    # (p − k)² and p² + 2|p·k| + k² are both at most 2p² + 2k² (Coq: ``l2_majorant``,
    # ``l2_terms_majorant``).
    majorant=lambda x: 2 * x * x,
    degree=2,
    roundings=3,
    expansion=Expansion.of((1, square, None), (-2, identity, identity), (1, None, square)),
)
