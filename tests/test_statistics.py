import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from segqa import statistics


@pytest.fixture(params=[1, 15], ids=["many ties", "no ties"])
def pair(request):
    rng = np.random.default_rng(0)
    true = np.round(rng.random(200), request.param)
    return np.round(np.clip(true + rng.normal(0, 0.2, 200), 0, 1), request.param), true


def test_numbers_equal_those_of_scipy_and_scikit_learn(pair):
    assert statistics.pearson(*pair) == pytest.approx(scipy.stats.pearsonr(*pair).statistic)
    assert statistics.spearman(*pair) == pytest.approx(scipy.stats.spearmanr(*pair).statistic)
    assert statistics.kendall(*pair) == pytest.approx(scipy.stats.kendalltau(*pair).statistic)
    assert statistics.mae(*pair) == pytest.approx(sklearn.metrics.mean_absolute_error(*pair))
    assert statistics.rmse(*pair) == pytest.approx(sklearn.metrics.root_mean_squared_error(*pair))
    predicted, true = pair
    assert statistics.auroc(predicted, true) == pytest.approx(sklearn.metrics.roc_auc_score(true < 0.7, -predicted))


def test_aurc_is_the_mean_risk_over_all_orders_of_ties():
    predicted, true = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([1.0, 0.2, 0.6, 0.9, 0.0])
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(4000):
        order = np.lexsort((rng.random(5), -predicted))
        loss = 1 - true[order]
        areas.append(np.mean([loss[: kept + 1].mean() for kept in range(5)]))
    assert statistics.aurc(predicted, true) == pytest.approx(np.mean(areas), abs=2e-3)


def test_perfect_order_has_the_least_aurc(pair):
    predicted, true = pair
    assert statistics.aurc(true, true) <= statistics.aurc(predicted, true)
    coverage, risk = statistics.risk_coverage(predicted, true)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(1 - true.mean())


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5, 0.5]])
def test_what_is_not_defined_is_nan(values):
    array = np.array(values)
    numbers = (statistics.pearson, statistics.spearman, statistics.kendall, statistics.auroc)
    assert all(math.isnan(number(array, array)) for number in numbers)
    assert math.isnan(statistics.mae(array, array)) == (not values)


def test_one_constant_side_has_no_correlation():
    for pair in ((np.ones(4), np.arange(4.0)), (np.arange(4.0), np.ones(4))):
        assert all(
            math.isnan(number(*pair)) for number in (statistics.pearson, statistics.spearman, statistics.kendall)
        )
