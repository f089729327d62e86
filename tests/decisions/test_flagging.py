import math

import numpy as np
import polars as pl
import pytest

from segqa.decisions.flagging import flag
from segqa.errors import InputError
from segqa.schema import SCORE_SCHEMA


def scores(dice, **columns) -> pl.DataFrame:
    n = len(dice)
    given = {"case": [f"case_{i:07}" for i in range(n)], "object": ["1"] * n, "label": ["1"] * n, "model": ["m"] * n}
    return pl.DataFrame(given | {"predicted_dice": dice} | columns, schema_overrides={"lower": pl.Float64}).pipe(
        lambda frame: frame.with_columns(
            pl.lit(None, dtype).alias(name) for name, dtype in SCORE_SCHEMA.items() if name not in frame.columns
        )
    )


@pytest.mark.parametrize(
    ("n", "percentile", "expected"),
    [
        (100, 5, 5),
        (101, 5, 6),
        (19, 5, 1),
        (1, 5, 1),
        (10, 30, 3),
        (10, 0, 0),
        (10, 100, 10),
        (1000, 0.1, 1),
        (1000, 16.1, 161),
    ],
)
def test_a_percentile_flags_so_many_rounded_up(n, percentile, expected):
    dice = np.random.default_rng(0).permutation(n) / n
    flags = flag(scores(dice.tolist()), percentile=percentile)
    assert flags["predicted_dice"].to_list() == sorted(dice)[:expected]


def test_five_percent_is_the_default():
    assert flag(scores([i / 40 for i in range(40)])).height == 2


def test_objects_equal_to_the_last_flagged_are_flagged_too():
    flags = flag(scores([0.9, 0.5, 0.5, 0.5, 0.8] * 4), percentile=5)
    assert flags["predicted_dice"].to_list() == [0.5] * 12


def test_the_order_of_the_rows_does_not_matter():
    frame = scores([0.5, 0.1, 0.5, 0.9, None, 0.1], reason=["", "", "", "", "broken", ""])
    expected = flag(frame, percentile=20)
    assert flag(frame[::-1], percentile=20).equals(expected)


def test_a_threshold_flags_what_is_below_and_not_what_equals_it():
    assert flag(scores([0.7, 0.69, 0.71]), threshold=0.7)["predicted_dice"].to_list() == [0.69]


def test_what_could_not_be_scored_comes_first_with_its_reason():
    frame = scores([0.1, None, 0.9, math.nan], reason=[None, "truncated file", None, None])
    flags = flag(frame, threshold=0.5)
    assert flags["case"].to_list() == ["case_0000001", "case_0000003", "case_0000000"]
    assert flags["why"][0] == "not scored: truncated file"
    assert flags["why"][1] == "not scored: no score in the table"
    assert flags["why"][2] == "predicted Dice 0.1 below 0.5"


def test_unscored_objects_do_not_use_up_the_percentile():
    assert flag(scores([None] * 50 + [0.1, 0.2]), percentile=5).height == 51


def test_the_lower_bound_can_be_used():
    frame = scores([0.5, 0.6], lower=[0.4, 0.1])
    flags = flag(frame, percentile=5, use="lower")
    assert flags["case"].to_list() == ["case_0000001"]
    assert flags["why"][0] == "lower bound 0.1 among the lowest 5 %"


def test_without_any_lower_bound_it_says_so():
    with pytest.raises(InputError, match="no row has a lower bound"):
        flag(scores([0.5]), use="lower")


def test_the_percentile_can_be_taken_per_model():
    frame = scores([0.1, 0.2, 0.8, 0.9], model=["bad", "bad", "good", "good"])
    assert flag(frame, percentile=50)["model"].to_list() == ["bad", "bad"]
    assert flag(frame, percentile=50, per="model")["model"].to_list() == ["bad", "good"]


@pytest.mark.parametrize("rule", [{"percentile": 5}, {"threshold": 0.5}, {"use": "lower"}])
def test_an_empty_table_has_no_flags(rule):
    flags = flag(scores([0.5]).clear(), **rule)
    assert flags.is_empty()
    assert "why" in flags.columns


@pytest.mark.parametrize(
    "rule",
    [{"percentile": 5, "threshold": 0.5}, {"percentile": 101}, {"percentile": math.nan}, {"threshold": -0.1}],
)
def test_a_bad_rule_is_refused(rule):
    with pytest.raises(InputError):
        flag(scores([0.5]), **rule)
