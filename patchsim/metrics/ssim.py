"""ssim: structural similarity of the whole patch and template, with the usual constants.

Wang, Bovik, Sheikh and Simoncelli, Image quality assessment, IEEE TIP 13 (2004), eq. 13, with means
and (population) variances over all channels and pixels of the window. In −1 … 1.
"""

from torch import Tensor

from patchsim.metrics.base import Moments, Statistic
from patchsim.metrics.l2 import METRIC as L2


def _similarity(m: Moments) -> Tensor:
    """Luminance times contrast and structure (Coq: ``ssim_sums``)."""
    total = m.total.sum(1)
    p, k = m.p.sum(2) / total, m.k.sum(1) / total
    covariance = m.pk / total - p * k
    variances = (m.pp + m.kk) / total - p * p - k * k
    c1, c2 = (0.01 * m.range) ** 2, (0.03 * m.range) ** 2
    luminance = (2 * p * k + c1) / (p * p + k * k + c1)
    return (luminance * (2 * covariance + c2) / (variances.clamp(min=0) + c2)).clamp(-1, 1)


METRIC = Statistic(name="ssim", summed=L2, similarity=_similarity)
