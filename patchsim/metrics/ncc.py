"""ncc: normalised cross-correlation, Σp·k / √(Σp²·Σk²), OpenCV's TM_CCORR_NORMED.

In −1 … 1. A black window or template correlates to 0.
"""

import torch
from torch import Tensor

from patchsim.metrics.base import Moments, Statistic, root
from patchsim.metrics.l2 import METRIC as L2


def _similarity(m: Moments) -> Tensor:
    """Σp·k / √(Σp²·Σk²) (Coq: ``ncc_sums``)."""
    # What rounding could have made of 0 counts as 0.
    norm = root(torch.where(m.pp > m.flat, m.pp, 0)) * root(m.kk)
    return torch.where(norm > 0, m.pk / torch.where(norm > 0, norm, 1), 0).clamp(-1, 1)


METRIC = Statistic(name="ncc", summed=L2, similarity=_similarity)
