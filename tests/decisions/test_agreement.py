import math

import numpy as np
import polars as pl
import pytest
import scipy.stats
import sklearn.metrics

from segqa.decisions import agreement
from segqa.errors import InputError


@pytest.fixture(params=[1, 15], ids=["many ties", "no ties"])
def pair(request):
    rng = np.random.default_rng(0)
    true = np.round(rng.random(200), request.param)
    return np.round(np.clip(true + rng.normal(0, 0.2, 200), 0, 1), request.param), true


def test_numbers_equal_those_of_scipy_and_scikit_learn(pair):
    assert agreement.pearson(*pair) == pytest.approx(scipy.stats.pearsonr(*pair).statistic)
    assert agreement.spearman(*pair) == pytest.approx(scipy.stats.spearmanr(*pair).statistic)
    assert agreement.kendall(*pair) == pytest.approx(scipy.stats.kendalltau(*pair).statistic)
    assert agreement.mae(*pair) == pytest.approx(sklearn.metrics.mean_absolute_error(*pair))
    assert agreement.rmse(*pair) == pytest.approx(sklearn.metrics.root_mean_squared_error(*pair))
    predicted, true = pair
    assert agreement.auroc(predicted, true) == pytest.approx(sklearn.metrics.roc_auc_score(true < 0.7, -predicted))


def test_aurc_is_the_mean_risk_over_all_orders_of_ties():
    predicted, true = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([1.0, 0.2, 0.6, 0.9, 0.0])
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(4000):
        order = np.lexsort((rng.random(5), -predicted))
        loss = 1 - true[order]
        areas.append(np.mean([loss[: kept + 1].mean() for kept in range(5)]))
    assert agreement.aurc(predicted, true) == pytest.approx(np.mean(areas), abs=2e-3)


def test_perfect_order_has_the_least_aurc(pair):
    predicted, true = pair
    assert agreement.aurc(true, true) <= agreement.aurc(predicted, true)
    coverage, risk = agreement.risk_coverage(predicted, true)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(1 - true.mean())


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5, 0.5]])
def test_what_is_not_defined_is_nan(values):
    array = np.array(values)
    numbers = (agreement.pearson, agreement.spearman, agreement.kendall, agreement.auroc)
    assert all(math.isnan(number(array, array)) for number in numbers)
    assert math.isnan(agreement.mae(array, array)) == (not values)


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


def test_an_empty_table_has_a_row_of_nothing():
    table = agreement.agreement_table(frame(true_dice=0.1).clear())
    assert table["n"].to_list() == [0]
    assert table["mae"].to_list() == [None]


def test_truth_is_joined_by_its_keys_and_rows_stay():
    scores = frame(true_dice=0.0)
    truth = scores.select(agreement.KEYS).with_columns(true_dice=pl.Series([0.1, 0.2, 0.3, 0.4, 0.5]))
    joined = agreement.join_truth(scores, truth[[4, 0, 2]])
    assert joined["true_dice"].to_list() == [0.1, None, 0.3, None, 0.5]
    assert joined.select(agreement.KEYS).equals(scores.select(agreement.KEYS))


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
