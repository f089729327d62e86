import math

import numpy as np
import polars as pl
import pytest

from segqa.decisions.ranking import rank, selection_table
from segqa.errors import InputError


def scores(rows, *columns) -> pl.DataFrame:
    names = ["case", "model", "predicted_dice", *columns]
    frame = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
    frame = frame.with_columns(object=pl.lit("1"), label=pl.lit("1"))
    absent = [name for name in ("lower", "upper") if name not in columns]
    return frame.with_columns(pl.lit(None, pl.Float64).alias(name) for name in absent)


def test_the_highest_predicted_dice_is_chosen_with_its_margin():
    frame = scores([("b", "x", 0.5), ("a", "x", 0.9), ("b", "y", 0.8), ("a", "y", 0.7), ("b", "z", 0.6)])
    chosen = rank(frame).to_dicts()
    assert [(row["case"], row["model"], row["runner_up"]) for row in chosen] == [("b", "y", "z"), ("a", "x", "y")]
    assert [row["margin"] for row in chosen] == pytest.approx([0.2, 0.2])
    assert [row["n_scored"] for row in chosen] == [3, 2]


def test_equal_scores_go_to_the_first_name_in_any_order_of_rows():
    frame = scores([("a", "y", 0.5), ("a", "x", 0.5)])
    assert rank(frame)["model"].to_list() == rank(frame[::-1])["model"].to_list() == ["x"]


def test_intervals_that_overlap_are_told():
    rows = [
        ("a", "x", 0.9, 0.8, 1.0),
        ("a", "y", 0.7, 0.6, 0.79),
        ("b", "x", 0.9, 0.8, 1.0),
        ("b", "y", 0.7, 0.6, 0.8),
    ]
    assert rank(scores(rows, "lower", "upper"))["intervals_overlap"].to_list() == [False, True]


def test_an_object_without_any_score_stays_without_a_choice():
    chosen = rank(scores([("a", "x", None), ("a", "y", None), ("b", "x", 0.5)])).to_dicts()
    assert [row["model"] for row in chosen] == [None, "x"]
    assert (chosen[0]["n_scored"], chosen[0]["n_unscored"]) == (0, 2)
    assert chosen[1]["runner_up"] is None
    assert chosen[1]["margin"] is None


def test_a_score_that_is_nan_is_none():
    (row,) = rank(scores([("a", "x", math.nan), ("a", "y", 0.5)])).to_dicts()
    assert (row["model"], row["n_scored"], row["n_unscored"]) == ("y", 1, 1)


def test_a_file_that_could_not_be_read_is_no_object():
    frame = scores([("a", "x", None), ("a", "y", 0.5), ("b", "x", None)])
    lost = pl.col("predicted_dice").is_null()
    frame = frame.with_columns(object=pl.when(lost).then(pl.lit("")).otherwise("object"))
    chosen = rank(frame)
    assert chosen.select("case", "model", "n_scored", "n_unscored").rows() == [("a", "y", 1, 1), ("b", None, 0, 2)]


def test_an_empty_table_has_no_choice():
    assert rank(scores([("a", "x", 0.5)]).clear()).is_empty()


def test_selection_is_compared_with_oracle_one_model_and_chance():
    rows = [
        ("a", "x", 0.9, 0.8),
        ("a", "y", 0.5, 0.6),
        ("b", "x", 0.9, 0.2),
        ("b", "y", 0.5, 0.6),
        ("c", "x", 0.1, 0.4),
        ("c", "y", 0.9, 0.4),
        ("d", "x", 0.1, 0.4),
        ("d", "y", 0.9, None),
    ]
    table = selection_table(scores(rows, "true_dice"))
    found = {row["strategy"]: row for row in table.to_dicts()}
    assert found["predicted"]["accuracy"] == pytest.approx(2 / 3)
    assert found["predicted"]["mean_true_dice"] == pytest.approx((0.8 + 0.2 + 0.4) / 3)
    assert found["predicted"]["regret"] == pytest.approx(0.4 / 3)
    assert (found["oracle"]["accuracy"], found["oracle"]["regret"]) == (1.0, 0.0)
    assert found["oracle"]["mean_true_dice"] == pytest.approx(0.6)
    assert found["always x"]["mean_true_dice"] == pytest.approx(1.4 / 3)
    assert found["always y"]["accuracy"] == pytest.approx(2 / 3)
    assert found["random"]["mean_true_dice"] == pytest.approx((0.7 + 0.4 + 0.4) / 3)
    assert found["random"]["accuracy"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert table["strategy"][0] == "oracle"
    assert set(table["n"]) == {3}
    assert set(table["n_incomplete"]) == {1}


def test_the_means_of_many_objects_have_the_same_digits_each_time():
    rng = np.random.default_rng(0)
    rows = [(f"c{n}", model, rng.uniform(), rng.uniform()) for n in range(3000) for model in "xyz"]
    tables = [selection_table(scores(rows, "true_dice")).write_csv() for _ in range(8)]
    assert set(tables) == {tables[0]}


def test_a_mask_that_is_not_there_leaves_its_objects_incomplete():
    frame = scores([("a", "x", 0.9, 0.8), ("a", "y", 0.5, 0.6), ("b", "x", 0.9, 0.8)], "true_dice")
    lost = frame.tail(1).with_columns(
        pl.lit("y").alias("model"), pl.lit("").alias("object"), pl.lit(None, pl.Float64).alias("predicted_dice")
    )
    table = selection_table(pl.concat([frame, lost]))
    assert set(table["n"]) == {1}
    assert set(table["n_incomplete"]) == {1}


def test_one_model_leaves_nothing_to_choose():
    with pytest.raises(InputError, match="two models"):
        selection_table(scores([("a", "x", 0.5, 0.5)], "true_dice"))


def test_without_complete_objects_nothing_is_defined():
    table = selection_table(scores([("a", "x", 0.5, 0.5), ("b", "y", 0.5, 0.5)], "true_dice"))
    assert set(table["n"]) == {0}
    assert set(table["mean_true_dice"]) == {None}
