"""What of a test's parameters `make test` leaves to `make test-all`."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch

#: What most images are.
USUAL = (torch.float32, torch.uint8)
FLOATS_AND_BYTES = (torch.uint8, torch.float32, torch.float64)


def deep_unless(keep: Callable[[Any], bool], values: Iterable[Any]) -> list[Any]:
    """Mark the values that needn't be tried each time: theirs are kernels of their own."""
    return [v if keep(v) else pytest.param(v, marks=pytest.mark.deep) for v in values]


def usual(variant: Any) -> bool:
    """Tell whether a variant is of a metric that most people ask for."""
    return variant.metric in ("l1", "l2", "zncc")
