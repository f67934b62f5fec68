"""l4: mean of the difference's fourth power; outliers count even more than in l2."""

from math import comb

from patchsim.metrics.base import Expansion, Metric, Scalar


def even_power(exponent: int) -> Metric:
    """Make the metric (p − k)ⁿ for an even n.

    By the binomial theorem its expansion has n + 1 terms, of which n − 1 cost a cross-correlation
    (Coq: ``even_power_expansion``).
    """
    if exponent < 2 or exponent % 2:
        raise ValueError(f"`exponent` must be even and positive, got {exponent}")

    def power(n: int) -> Scalar | None:
        return (lambda x: x**n) if n else None

    terms = (
        ((-1) ** i * comb(exponent, i), power(exponent - i), power(i)) for i in range(exponent + 1)
    )
    return Metric(
        name=f"l{exponent}",
        pointwise=lambda p, k: (p - k) ** exponent,
        expansion=Expansion.of(*terms),
        # (|p| + |k|)ⁿ ≤ 2ⁿ⁻¹·(|p|ⁿ + |k|ⁿ)
        majorant=lambda x: 2 ** (exponent - 1) * x**exponent,
        degree=exponent,
        roundings=2 * exponent - 1,
    )


METRIC = even_power(4)
