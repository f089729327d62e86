import math

from segqa.spe.estimating import Result, Row
from segqa.spe.gating import check_gates
from segqa.spe.mapping import Estimate


def test_an_undefined_estimate_passes_no_gate():
    undefined = Estimate(math.nan, math.nan, math.nan, extrapolates=False)
    result = Result([Row("1", name, undefined, math.nan, math.nan, math.nan, 0) for name in ("dice", "hd95")], 3, 0.0)
    gates = check_gates(result, under={"dice": 0.1}, over={"hd95": 1000})
    assert [gate.is_broken for gate in gates] == [True, True]
    assert result.as_json()["metrics"]["dice"]["estimate"] is None
