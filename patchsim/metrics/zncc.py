"""zncc: zero-mean normalised cross-correlation, the correlation coefficient of patch and template.

OpenCV's TM_CCOEFF_NORMED: each channel has a mean of its own. On one channel also scikit-image's
``match_template``. In −1 … 1; a flat window or template correlates to 0.
"""

from typing import Any

from patchsim.metrics.base import Statistic, clamp, inverse_root, unless_positive
from patchsim.metrics.product import PRODUCT


def _similarity(m: Any) -> Any:
    """Covariance over the root of the variances (Coq: ``zncc_sums``)."""
    window, template = m.pp - m.mean_pp, m.kk - m.mean_kk
    # What rounding could have made of 0 counts as 0.
    inverse = inverse_root(window, m.flat) * inverse_root(template, 1e-14 * m.kk)
    return clamp((m.pk - m.mean_pk) * inverse, -1, 1)


def _spread(m: Any, off: Any, change: Any) -> Any:
    """By 1 / √(W − e) ≤ (1 + e / W) / √W for a window's variance W ≥ 2·e, e its change."""
    sure = m.pp - m.mean_pp - 2 * change - m.flat
    inverse = inverse_root(sure, 0)
    own = inverse_root(m.kk - m.mean_kk, 1e-14 * m.kk)
    return off * inverse * own + change * inverse * inverse + unless_positive(sure)


METRIC = Statistic(
    name="zncc",
    summed=PRODUCT,
    similarity=_similarity,
    spread=_spread,
    invariant=True,
    scalable=True,
    bounded=True,
    monotone=True,
)
