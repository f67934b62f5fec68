"""ncc: normalised cross-correlation, Σp·k / √(Σp²·Σk²), OpenCV's TM_CCORR_NORMED.

In −1 … 1. A black window or template correlates to 0.
"""

from typing import Any

from patchsim.metrics.base import Statistic, clamp, inverse_root
from patchsim.metrics.product import PRODUCT


def _similarity(m: Any) -> Any:
    """Σp·k / √(Σp²·Σk²) (Coq: ``ncc_sums``)."""
    # What rounding could have made of 0 counts as 0.
    return clamp(m.pk * inverse_root(m.pp, m.flat) * inverse_root(m.kk, 0), -1, 1)


METRIC = Statistic(
    name="ncc",
    summed=PRODUCT,
    similarity=_similarity,
    scalable=True,
    bounded=True,
    monotone=True,
)
