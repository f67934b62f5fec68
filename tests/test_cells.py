"""Cells of maps, against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchsim.search import cells
from patchsim.search.cells import Cells

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@pytest.mark.parametrize("room", [4, 10**4])
@given(SHAPES, st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(0, 999), st.booleans())
def test_values_up_to_a_limit(room, shape, size, seed, single):
    random = np.random.default_rng(seed)
    values = random.integers(0, 20, shape).astype(np.float32 if single else np.float64)
    values[random.random(shape) < 0.1] = np.nan
    limit, spared = float(random.integers(0, 20)), random.random(shape) < 0.5
    own, near = Cells(values, size), values <= limit
    assert own.count(limit) == near.sum()
    assert min(own.count(limit, 5), 6) == min(near.sum(), 6)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cells, "EXPECTED", room)
        assert (own.below(limit) == np.flatnonzero(near)).all()
        assert (own.below(limit, lambda _: None) == np.flatnonzero(near)).all()
        seen = []
        wanted = np.flatnonzero(near & ~spared)
        assert (own.below(limit, lambda places: seen.extend(places) or spared) == wanted).all()
        assert seen == list(np.flatnonzero(near)[:room])
