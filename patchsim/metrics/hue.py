"""hue: 1 − cosine of the angle between hues, circular: 0 and 1 turn are the same.

A hue is in turns, as scikit-image's ``rgb2hsv`` gives it, or in units of 1 / data_range turns:
OpenCV's 8-bit hues have data_range 180. The similarity is the mean cosine, in −1 … 1.
"""

import dataclasses
import math

import torch
from torch import Tensor

from patchsim.metrics import l2


def turns(hue: Tensor, data_range: float) -> Tensor:
    """Return a hue in −1 … 1 turns, in float64; whole turns are left out before anything rounds."""
    return hue.double().fmod(data_range) / data_range


def _on_the_circle(hue: Tensor, data_range: float) -> Tensor:
    """Turn each channel into two, cosine and sine: half their squared distance is 1 − cos."""
    angle = turns(hue, data_range) * (2 * math.pi)
    return torch.cat([angle.cos(), angle.sin()], -3)


METRIC = dataclasses.replace(l2.METRIC, name="hue", degree=0, roundings=9, prepare=_on_the_circle)
