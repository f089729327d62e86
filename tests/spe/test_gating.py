import math

import pytest

from segqa.spe.estimating import Estimates, MetricEstimate
from segqa.spe.gating import check_gates
from segqa.spe.mapping import Estimate


@pytest.mark.parametrize(("least", "most", "broken"), [(0.4, 8, False), (0.41, 7.9, True)])
def test_a_gate_is_held_against_the_worse_end_of_the_interval(least, most, broken):
    estimates = {"dice": Estimate(0.5, 0.4, 0.6, extrapolates=False), "hd95": Estimate(5, 3, 8, extrapolates=False)}
    result = Estimates(
        [MetricEstimate("1", name, found, 0.5, 0.5, 0.0, 9) for name, found in estimates.items()], 3, 0.0
    )
    gates = check_gates(result, under={"dice": least}, over={"hd95": most})
    assert [gate.is_broken for gate in gates] == [broken, broken]


def test_an_undefined_estimate_passes_no_gate():
    undefined = Estimate(math.nan, math.nan, math.nan, extrapolates=False)
    result = Estimates(
        [MetricEstimate("1", name, undefined, math.nan, math.nan, math.nan, 0) for name in ("dice", "hd95")], 3, 0.0
    )
    gates = check_gates(result, under={"dice": 0.1}, over={"hd95": 1000})
    assert [gate.is_broken for gate in gates] == [True, True]
    assert result.as_json()["metrics"]["dice"]["estimate"] is None
