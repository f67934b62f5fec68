"""intersection: histogram intersection Σmin(p, k) / Σk, for values that are not negative.

Swain and Ballard, Color indexing, IJCV 7 (1991). 1 where the window holds at least the template's
counts everywhere; 0 for a template without any. By min(p, k) = (p + k − |p − k|) / 2 (Coq:
``l1_min``) it is a function of the SAD.
"""

import torch
from torch import Tensor

from patchsim.metrics.base import Moments, Statistic
from patchsim.metrics.l1 import METRIC as L1


def _similarity(m: Moments) -> Tensor:
    windows, templates = m.p.sum(2), m.k.sum(1)
    common = (windows + templates - m.sums) / 2
    return torch.where(templates > 0, common / torch.where(templates > 0, templates, 1), 0)


METRIC = Statistic(name="intersection", summed=L1, similarity=_similarity)
