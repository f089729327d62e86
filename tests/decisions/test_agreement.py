import math

import polars as pl
import pytest

from segqa.decisions import agreement
from segqa.errors import InputError
from segqa.schema import KEY_COLUMNS


def frame(**columns) -> pl.DataFrame:
    keys = {"case": ["a", "b", "c", "a", "b"], "object": "1", "label": "1", "model": ["m", "m", "m", "k", "k"]}
    scores = {"predicted_dice": [0.1, 0.2, None, 0.4, 0.5]}
    return pl.DataFrame(keys | scores | columns)


def test_the_table_has_a_row_per_model_and_one_for_all():
    table = agreement.agreement_table(frame(true_dice=[0.2, 0.4, 0.5, 0.4, None]))
    assert table["model"].to_list() == ["k", "m", "(all)"]
    assert table["n"].to_list() == [1, 2, 3]
    assert table["n_undefined"].to_list() == [1, 1, 2]
    assert table["mae"].to_list() == pytest.approx([0.0, 0.15, 0.1])
    assert table["pearson"].to_list()[:2] == [None, pytest.approx(1.0)]


def test_nan_counts_as_undefined():
    table = agreement.agreement_table(frame(true_dice=[0.2, math.nan, 0.5, 0.4, 0.6]))
    assert table["n_undefined"].to_list() == [0, 2, 2]
    assert table["mean_true"].to_list() == pytest.approx([0.5, 0.35, 0.425])


def test_an_empty_table_has_a_row_of_nothing():
    table = agreement.agreement_table(frame(true_dice=0.1).clear())
    assert table["n"].to_list() == [0]
    assert table["mae"].to_list() == [None]


def test_truth_is_joined_by_its_keys_and_rows_stay():
    scores = frame(true_dice=0.0)
    truth = scores.select(KEY_COLUMNS).with_columns(true_dice=pl.Series([0.1, 0.2, 0.3, 0.4, 0.5]))
    joined = agreement.join_truth(scores, truth[[4, 0, 2]])
    assert joined["true_dice"].to_list() == [0.1, None, 0.3, None, 0.5]
    assert joined.select(KEY_COLUMNS).equals(scores.select(KEY_COLUMNS))


def test_a_truth_of_nothing_but_undefined_rows_is_joined():
    truth = frame().select(KEY_COLUMNS).with_columns(true_dice=pl.lit(None, pl.Float64))
    table = agreement.agreement_table(agreement.join_truth(frame(), truth))
    assert table["n"].to_list() == [0, 0, 0]
    assert table["n_undefined"].to_list() == [2, 3, 5]


def test_what_only_the_truth_has_counts_against_its_model():
    scores = frame().filter(model="k")
    truth = frame().select(KEY_COLUMNS).with_columns(true_dice=pl.lit(1.0))
    missed = truth.filter(model="k").with_columns(label=pl.lit("2"), true_dice=pl.lit(0.0))
    joined = agreement.join_truth(scores, pl.concat([missed, truth]))
    assert joined.head(2)["true_dice"].to_list() == [1.0, 1.0]
    assert joined.tail(-2).select(KEY_COLUMNS).equals(missed.select(KEY_COLUMNS))  # and none of model m
    (row, _) = agreement.agreement_table(joined).to_dicts()
    assert (row["n"], row["n_undefined"]) == (2, 2)
    assert (row["mean_predicted"], row["mean_true"]) == (pytest.approx(0.45), 0.5)


def test_a_lost_file_is_the_objects_that_others_have_there():
    rows = [("a", "", "x"), ("a", "1", "y"), ("a", "2", "y"), ("b", "", "x")]
    table = pl.DataFrame(rows, schema=["case", "object", "model"], orient="row")
    assert agreement.without_lost(table).rows() == rows[1:]


def test_a_lost_volume_is_the_objects_that_others_have_in_its_slices():
    rows = [("v", "", "x"), ("v:1", "1", "y"), ("v:2", "", "y"), ("w", "", "x"), ("u:1", "1", "y")]
    table = pl.DataFrame(rows, schema=["case", "object", "model"], orient="row")
    assert agreement.without_lost(table).rows() == rows[1:]


def test_the_join_is_the_same_whether_or_not_the_rows_stand_in_one_order():
    scores = frame()
    truth = scores.select("case", "object", "label", "model").with_columns(true_dice=pl.int_range(pl.len()) / 10)
    joined = agreement.join_truth(scores, truth)
    assert joined.equals(agreement.join_truth(scores, truth[::-1]))
    assert joined.equals(agreement.join_truth(scores, pl.concat([truth, truth.with_columns(true_dice=pl.lit(0.0))])))


def test_truth_of_other_masks_is_refused_with_an_example():
    truth = frame(true_dice=0.5).with_columns(model=pl.lit("x"))
    with pytest.raises(InputError, match=r"\(a, 1, 1, m\).*\(a, 1, 1, x\)"):
        agreement.join_truth(frame(), truth)


def test_truth_of_other_cases_is_refused_though_it_has_the_same_models():
    truth = frame(true_dice=0.5).with_columns(pl.format("case_{}", "case"))
    with pytest.raises(InputError, match=r"no score has a true value.*\(a, 1, 1, m\).*\(case_a, 1, 1, m\)"):
        agreement.join_truth(frame(), truth)


def test_a_truth_without_rows_is_refused():
    truth = frame(true_dice=0.5)
    with pytest.raises(InputError, match="the truth has no row"):
        agreement.join_truth(frame(), truth.clear())
    assert agreement.join_truth(frame().clear(), truth.clear()).is_empty()


def test_the_order_curve_has_a_row_for_each_model_and_beta():
    table = agreement.order_curve(frame(true_dice=[0.2, 0.4, 0.5, 0.4, None]))
    assert table["model"].to_list() == ["k"] * 6 + ["m"] * 6
    assert table.filter(model="m")["n_pairs"].to_list() == [1, 1, 1, 1, 0, 0]
    assert table.filter(model="m")["right_order"].to_list() == [1.0] * 4 + [None] * 2


def test_the_order_of_the_models_is_compared_with_the_true_order():
    table = pl.DataFrame(
        {"model": ["a", "b", "c", "(all)"], "mean_predicted": [0.1, 0.2, 0.3, 0.2], "mean_true": [0.2, 0.1, 0.5, 0.3]}
    )
    assert agreement.model_order(table) == pytest.approx(1 / 3)


def test_a_model_without_a_mean_is_left_out_of_the_order():
    table = pl.DataFrame(
        {"model": ["a", "b", "c", "(all)"], "mean_predicted": [0.1, 0.2, None, 0.2], "mean_true": [0.1, 0.3, 0.5, 0.3]}
    )
    assert agreement.model_order(table) == 1
