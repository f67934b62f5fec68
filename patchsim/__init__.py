"""Sliding patch similarity: the answer of a loop over patches, exactly, without the loop."""

from patchsim import options
from patchsim.api import Variant, distance, error_bound, find, plan, similarity, variants
from patchsim.backends.lowrank import lowrank
from patchsim.matcher import Matcher
from patchsim.metrics import Expansion, Metric, Statistic, register
from patchsim.search.matches import Match, Matches, Skipped

__all__ = [
    "Expansion",
    "Match",
    "Matcher",
    "Matches",
    "Metric",
    "Skipped",
    "Statistic",
    "Variant",
    "distance",
    "error_bound",
    "find",
    "lowrank",
    "options",
    "plan",
    "register",
    "similarity",
    "variants",
]
__version__ = "0.1.0"

_VARIANTS = {str(variant): variant for variant in variants()}


def __getattr__(name: str) -> Variant:
    """Serve every variant by its name, such as ``l2_conv2d``."""
    try:
        return _VARIANTS[name]
    except KeyError:
        raise AttributeError(f"module 'patchsim' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return [*globals(), *_VARIANTS]
