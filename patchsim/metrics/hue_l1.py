"""hue_l1: circular absolute difference of hues, 0 for the same and 1 for opposite ones.

A hue is in turns or, with data_range, in units of 1 / data_range turns, as for ``hue``.
"""

from torch import Tensor

from patchsim.metrics.base import Metric
from patchsim.metrics.hue import turns


def _positive_turns(hue: Tensor, data_range: float) -> Tensor:
    """Return a hue in 0 … 1 turns."""
    return turns(hue, data_range).remainder(1)


METRIC = Metric(
    name="hue_l1",
    # Twice the shorter way round.
    pointwise=lambda p, k: 1 - abs(2 * abs(p - k) - 1),
    majorant=lambda x: 2 + 0 * x,
    degree=0,
    roundings=4,
    invariant=False,
    prepare=_positive_turns,
)
