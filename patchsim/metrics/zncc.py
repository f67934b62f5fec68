"""zncc: zero-mean normalised cross-correlation, the correlation coefficient of patch and template.

OpenCV's TM_CCOEFF_NORMED: each channel has a mean of its own. On one channel also scikit-image's
``match_template``. In −1 … 1; a flat window or template correlates to 0.
"""

import torch
from torch import Tensor

from patchsim.metrics.base import Moments, Statistic, inverse_root
from patchsim.metrics.l2 import METRIC as L2


def _similarity(m: Moments) -> Tensor:
    """Covariance over the root of the variances (Coq: ``zncc_sums``)."""
    total = torch.where(m.total > 0, m.total, 1)
    covariance = m.pk - _over_channels(m.p, m.k / total)
    window = m.pp - _over_channels(m.p * m.p, 1 / total)
    template = m.kk - (m.k.square() / total).sum(1)
    # What rounding could have made of 0 counts as 0.
    inverse = inverse_root(window, m.flat) * inverse_root(template, 1e-14 * m.kk)
    return (covariance * inverse).clamp(-1, 1)


def _over_channels(maps: Tensor, factors: Tensor) -> Tensor:
    """Sum (B, N or 1, C, Ho, Wo) times (N, C, 1, 1) over the channels."""
    total = maps[:, :, 0] * factors[:, 0]
    for c in range(1, len(factors[0])):
        total = total + maps[:, :, c] * factors[:, c]
    return total


METRIC = Statistic(name="zncc", summed=L2, similarity=_similarity, invariant=True)
