"""ncc: normalised cross-correlation, Σp·k / √(Σp²·Σk²), OpenCV's TM_CCORR_NORMED.

In −1 … 1. A black window or template correlates to 0.
"""

from torch import Tensor

from patchsim.metrics.base import Moments, Statistic, inverse_root
from patchsim.metrics.l2 import METRIC as L2


def _similarity(m: Moments) -> Tensor:
    """Σp·k / √(Σp²·Σk²) (Coq: ``ncc_sums``)."""
    # What rounding could have made of 0 counts as 0.
    return (m.pk * inverse_root(m.pp, m.flat) * inverse_root(m.kk, 0)).clamp(-1, 1)


METRIC = Statistic(name="ncc", summed=L2, similarity=_similarity)
