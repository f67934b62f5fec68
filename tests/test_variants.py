"""Every variant against the original loop in exact arithmetic."""

import pytest
from hypothesis import given

from patchsim.backends import BACKENDS
from patchsim.metrics import METRICS
from patchsim.problem import DTYPES
from patchsim.testing import Case, cases, check, expect

ids = {"ids": str}


def check_all(case: Case, metric) -> None:
    expected = expect(case, metric)
    for backend in BACKENDS.values():
        if metric.terms or backend.name not in ("conv2d", "fft"):
            check(case, expected, metric, backend)


@pytest.mark.parametrize("dtype", DTYPES, **ids)
@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_variants_agree_with_the_loop(metric, dtype):
    @given(cases(dtype))
    def run(case):
        check_all(case, metric)

    run()
