"""rmse: root of the mean squared difference; its window sum is the SSD, as for l2."""

import dataclasses

import torch

from patchsim.metrics import l2


def _root(mean: torch.Tensor) -> torch.Tensor:
    # The root has no derivative at 0; routing zeros past it gives 0 there instead of NaN.
    positive = mean > 0
    return torch.where(positive, torch.where(positive, mean, 1).sqrt(), mean)


METRIC = dataclasses.replace(l2.METRIC, name="rmse", finish=_root, modulus=torch.sqrt)
