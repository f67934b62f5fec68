"""Sliding patch similarity: the answer of a loop over patches, exactly, without the loop."""

from patchsim import options
from patchsim.api import Variant, distance, error_bound, find, plan, similarity, variants
from patchsim.backends import Backend, Work
from patchsim.backends.lowrank import lowrank
from patchsim.matcher import Matcher
from patchsim.metrics import Expansion, Metric, Statistic
from patchsim.metrics.base import clamp, inverse_root, ratio, sign
from patchsim.registry import register
from patchsim.search.matches import Match, Matches, Skipped

__all__ = [
    "Backend",
    "Expansion",
    "Match",
    "Matcher",
    "Matches",
    "Metric",
    "Skipped",
    "Statistic",
    "Variant",
    "Work",
    "clamp",
    "distance",
    "error_bound",
    "find",
    "inverse_root",
    "lowrank",
    "options",
    "plan",
    "ratio",
    "register",
    "sign",
    "similarity",
    "variants",
]
__version__ = "0.1.0"


def _named() -> dict[str, Variant]:
    """List all variants by name, those of registered metrics and backends included."""
    return {str(variant): variant for variant in variants()}


def __getattr__(name: str) -> Variant:
    """Serve every variant by its name, such as ``l2_conv2d``."""
    found = _named().get(name) if "_" in name and not name.startswith("_") else None
    if found is None:
        raise AttributeError(f"module 'patchsim' has no attribute {name!r}")
    return found


def __dir__() -> list[str]:
    return [*globals(), *_named()]
