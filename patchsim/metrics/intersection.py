"""intersection: histogram intersection Σmin(p, k) / Σk, for values that are not negative.

Swain and Ballard, Color indexing, IJCV 7 (1991). 1 where the window holds at least the template's
counts everywhere; 0 for a template without any. Negative values are refused.
By min(p, k) = (p + k − |p − k|) / 2 (Coq: ``l1_min``) it is a function of the SAD.
"""

import math
from typing import Any

from patchsim.metrics.base import Statistic, clamp, ratio
from patchsim.metrics.l1 import METRIC as L1


def _similarity(m: Any) -> Any:
    return clamp(ratio((m.p + m.k - m.sums) / 2, m.k), -math.inf, 1)


METRIC = Statistic(
    name="intersection", summed=L1, similarity=_similarity, of_counts=True, monotone=True
)
