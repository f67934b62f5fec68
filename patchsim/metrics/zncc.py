"""zncc: zero-mean normalised cross-correlation, the correlation coefficient of patch and template.

OpenCV's TM_CCOEFF_NORMED: each channel has a mean of its own. On one channel also scikit-image's
``match_template``. In −1 … 1; a flat window or template correlates to 0.
"""

import torch
from torch import Tensor

from patchsim.metrics.base import Moments, Statistic, root
from patchsim.metrics.l2 import METRIC as L2


def _similarity(m: Moments) -> Tensor:
    """Covariance over the root of the variances (Coq: ``zncc_sums``)."""
    total = torch.where(m.total > 0, m.total, 1)
    covariance = m.pk - (m.p * m.k / total).sum(2)
    window = m.pp - (m.p.square() / total).sum(2)
    template = m.kk - (m.k.square() / total).sum(1)
    # What rounding could have made of 0 counts as 0.
    window = torch.where(window > m.flat, window, 0)
    template = torch.where(template > 1e-14 * m.kk, template, 0)
    norm = root(window) * root(template)
    return torch.where(norm > 0, covariance / torch.where(norm > 0, norm, 1), 0).clamp(-1, 1)


METRIC = Statistic(name="zncc", summed=L2, similarity=_similarity, invariant=True)
