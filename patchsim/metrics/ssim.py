"""ssim: structural similarity of the whole patch and template, with the usual constants.

Wang, Bovik, Sheikh and Simoncelli, Image quality assessment, IEEE TIP 13 (2004), eq. 13, with means
and (population) variances over all channels and pixels of the window. In −1 … 1.
"""

import math
from typing import Any

from patchsim.metrics.base import Statistic, clamp
from patchsim.metrics.product import PRODUCT


def _similarity(m: Any) -> Any:
    """Luminance times contrast and structure (Coq: ``ssim_sums``)."""
    p, k = m.p / m.total, m.k / m.total
    covariance = m.pk / m.total - p * k
    variances = (m.pp + m.kk) / m.total - p * p - k * k
    c1, c2 = (0.01 * m.range) ** 2, (0.03 * m.range) ** 2
    luminance = (2 * p * k + c1) / (p * p + k * k + c1)
    structure = (2 * covariance + c2) / (clamp(variances, 0, math.inf) + c2)
    return clamp(luminance * structure, -1, 1)


METRIC = Statistic(name="ssim", summed=PRODUCT, similarity=_similarity, bounded=True)
