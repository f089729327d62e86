from fractions import Fraction
from types import SimpleNamespace

import polars as pl
import pytest

from segqa.decisions.gates import check_gate
from segqa.errors import ExitCode, GateError

FLAGS = pl.DataFrame(
    {
        "case": [f"case_{i}" for i in range(7)],
        "object": "1",
        "label": "3",
        "model": "sam",
        "why": "predicted Dice 0.1 below 0.7",
    }
)


@pytest.mark.parametrize("limits", [{}, {"above_count": 7}, {"above_share": 0.7}])
def test_within_the_limits_nothing_happens(limits):
    check_gate(FLAGS, 10, **limits)


def test_too_many_flags_fail_and_name_the_worst_cases():
    named = r"case_0 \(object 1, label 3, sam: .*0\.1.*2 more"
    with pytest.raises(GateError, match=rf"7 of 10 objects are flagged, more than 6: {named}") as e:
        check_gate(FLAGS, 10, above_count=6)
    assert e.value.exit_code == ExitCode.GATE


def test_too_large_a_share_fails():
    with pytest.raises(GateError, match=r"more than a share of 0\.69"):
        check_gate(FLAGS, 10, above_share=0.69)


def test_a_share_is_the_decimal_that_was_typed():
    for n_objects in range(1, 201):
        for count in range(n_objects + 1):
            flags = SimpleNamespace(height=count, head=FLAGS.head(0).head)  # so many rows are slow to make
            for share in (f"{count / n_objects:.6f}", f"{count / n_objects:.2f}"):
                try:
                    check_gate(flags, n_objects, above_share=float(share))
                    passed = True
                except GateError:
                    passed = False
                assert passed == (Fraction(count, n_objects) <= Fraction(share)), (count, n_objects, share)


def test_nothing_flagged_passes_a_limit_of_nothing():
    check_gate(FLAGS.clear(), 0, above_count=0, above_share=0)
