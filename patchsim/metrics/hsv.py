"""hsv: squared distance in the HSV cone, where black is one point whatever its hue.

Channels are hue (turns), saturation and value in units of the data range, as scikit-image's
``rgb2hsv`` gives them. The distance is 0 … 1: opposite saturated hues at full value are 1 apart.
"""

import dataclasses
import math

import torch
from torch import Tensor

from patchsim.metrics import l2
from patchsim.metrics.hue import turns


def _in_the_cone(colour: Tensor, data_range: float) -> Tensor:
    """Turn (h, s, v) into s·v·(cos h, sin h) and v (Smith, Color gamut transform pairs, 1978)."""
    if colour.shape[-3] != 3:
        raise ValueError(
            f"hsv compares images of 3 channels, hue, saturation and value; got "
            f"{colour.shape[-3]} channels"
        )
    hue, saturation, value = colour.double().unbind(-3)
    saturation, value = saturation / data_range, value / data_range
    angle, chroma = 2 * math.pi * turns(hue, data_range), saturation * value
    return torch.stack([chroma * angle.cos(), chroma * angle.sin(), value], -3)


def _of_three_channels(mean: Tensor) -> Tensor:
    return 0.75 * mean


METRIC = dataclasses.replace(
    l2.METRIC,
    name="hsv",
    degree=0,
    roundings=10,
    prepare=_in_the_cone,
    # A pixel's distance is the sum over channels, at most 4.
    finish=_of_three_channels,
    modulus=_of_three_channels,
)
