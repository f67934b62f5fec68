"""hamming: share of the values that differ. For labels: integers, or floats that hold integers."""

from patchsim.metrics.base import Metric

METRIC = Metric(
    name="hamming",
    # Twice min(|p − k|, 1).
    pointwise=lambda p, k: abs(p - k) + 1 - abs(abs(p - k) - 1),
    majorant=lambda x: 2 + 0 * x,
    degree=0,
    roundings=4,
    unit=2,
)
