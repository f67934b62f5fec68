"""ncc: normalised cross-correlation, Σp·k / √(Σp²·Σk²), OpenCV's TM_CCORR_NORMED.

In −1 … 1. A black window or template correlates to 0.
"""

from typing import Any

from patchsim.metrics.base import Statistic, clamp, inverse_root, unless_positive
from patchsim.metrics.product import PRODUCT


def _similarity(m: Any) -> Any:
    """Σp·k / √(Σp²·Σk²) (Coq: ``ncc_sums``)."""
    # What rounding could have made of 0 counts as 0.
    return clamp(m.pk * inverse_root(m.pp, m.flat) * inverse_root(m.kk, 0), -1, 1)


def _spread(m: Any, off: Any, change: Any) -> Any:
    """As that of zncc, whose variances are energies here."""
    sure = m.pp - 2 * change - m.flat
    inverse = inverse_root(sure, 0)
    own = inverse_root(m.kk, 0)
    return off * inverse * own + change * inverse * inverse + unless_positive(sure)


METRIC = Statistic(
    name="ncc",
    summed=PRODUCT,
    similarity=_similarity,
    spread=_spread,
    scalable=True,
    bounded=True,
    monotone=True,
)
