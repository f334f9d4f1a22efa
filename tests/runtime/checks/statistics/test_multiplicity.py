from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scanflow_serve.runtime.checks.statistics.multiplicity import benjamini_hochberg, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@settings(deadline=None)
@given(p=P_VALUES)
def test_q_values_are_scipys(p: list[float]) -> None:
    assert benjamini_hochberg(np.array(p)) == pytest.approx(
        stats.false_discovery_control(p, method="bh")
    )


@settings(deadline=None)
@given(p=P_VALUES, level=st.floats(0.001, 0.999))
def test_holm_refuses_what_stepping_down_refuses(p: list[float], level: float) -> None:
    stepped = np.zeros(len(p), bool)
    for step, place in enumerate(np.argsort(p, kind="stable")):
        if p[place] * (len(p) - step) > level:
            break
        stepped[place] = True
    assert np.array_equal(holm(np.array(p)) <= level, stepped)
