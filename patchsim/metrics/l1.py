"""l1: mean absolute difference; its window sum is the SAD (sum of absolute differences)."""

from patchsim.metrics.base import Metric

METRIC = Metric(
    name="l1",
    pointwise=lambda p, k: abs(p - k),
    majorant=abs,
    degree=1,
    roundings=1,
)
