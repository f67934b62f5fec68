"""rmse: root of the mean squared difference; its window sum is the SSD, as for l2."""

import dataclasses

import torch

from patchsim.metrics import l2
from patchsim.metrics.base import root

METRIC = dataclasses.replace(l2.METRIC, name="rmse", finish=root, modulus=torch.sqrt)
