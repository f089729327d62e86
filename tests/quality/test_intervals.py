import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segqa.errors import InputError
from segqa.quality.intervals import (
    MAX_WIDENING,
    fit_interval,
    group_weights,
    needed_groups,
    spread,
    weighted_quantile,
)


def draw(rng, *, n_groups, size):
    """Objects of groups that differ in how far their scores are off."""
    names, predicted, true = [], [], []
    for group in range(n_groups):
        n = int(rng.integers(1, size + 1))
        bias, noise = rng.normal(0, 0.1), rng.uniform(0.02, 0.2)
        score = rng.uniform(size=n)
        names += [f"{group}"] * n
        predicted.append(score)
        true.append(np.clip(score + bias + rng.normal(0, noise, n), 0, 1))
    return np.concatenate(predicted), np.concatenate(true), names


def covered(interval, predicted, true, novelty=None):
    lower, upper = interval.around(predicted, novelty)
    return (lower <= true) & (true <= upper)


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_new_objects_of_new_groups_are_covered_as_often_as_theory_says(level):
    rng = np.random.default_rng(0)
    n_groups, shares = 30, []
    for _ in range(300):
        interval = fit_interval(*draw(rng, n_groups=n_groups, size=12), level=level)
        predicted, true, names = draw(rng, n_groups=20, size=12)
        shares.append(group_weights(names) @ covered(interval, predicted, true) * 21 / 20)
    # at least the level, and at most by the weight of one group more
    assert level - 0.01 < np.mean(shares) < level + 1 / (n_groups + 1) + 0.01


def test_without_groups_the_reach_is_the_classic_split_conformal_quantile():
    rng = np.random.default_rng(1)
    predicted, true = rng.uniform(size=57), rng.uniform(size=57)
    interval = fit_interval(predicted, true, [str(i) for i in range(57)], level=0.9)
    residuals = np.sort(np.abs(true - predicted) / spread(predicted))
    assert interval.reach == residuals[int(np.ceil(0.9 * 58)) - 1]
    assert (interval.n_objects, interval.n_groups, interval.widening) == (57, 57, 0.0)


def test_a_group_of_many_objects_does_not_dominate():
    predicted = np.full(1009, 0.5)
    true = np.concatenate([np.linspace(0.5, 0.59, 9), np.full(1000, 1.0)])
    names = [str(i) for i in range(9)] + ["large"] * 1000
    assert fit_interval(predicted, true, names, level=0.5).reach < 0.1
    assert fit_interval(predicted, true, [str(i) for i in range(1009)], level=0.5).reach == 0.5


@pytest.mark.parametrize(("level", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_fewer_groups_than_the_level_needs_are_refused_with_their_number(level, needed):
    assert needed_groups(level) == needed
    predicted, true = np.full(200, 0.5), np.full(200, 0.6)
    names = [str(i % needed) for i in range(200)]
    assert np.isfinite(fit_interval(predicted, true, names, level=level).reach)
    if needed > 1:
        with pytest.raises(InputError, match=rf"200 objects of {needed - 1} groups: .* at least {needed} groups"):
            fit_interval(predicted, true, [str(i % (needed - 1)) for i in range(200)], level=level)


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0, -0.1])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(InputError, match="between 0 and 1"):
        needed_groups(level)


@given(
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 4)), min_size=1, max_size=30),
    st.floats(0.05, 0.99),
)
def test_the_weighted_quantile_is_the_least_value_with_enough_weight_below(pairs, level):
    values = np.array([value for value, _ in pairs])
    weights = group_weights([str(group) for _, group in pairs])
    found = weighted_quantile(values, weights, level)
    if np.isinf(found):
        assert weights.sum() < level
    else:
        assert weights[values <= found].sum() >= level - 1e-8
        assert weights[values < found].sum() < level


def test_data_sets_weigh_alike_whatever_their_number_of_cases():
    groups = ["a1", "a1", "a2", "a3", "b1"]
    weights = group_weights(groups, [name[0] for name in groups])
    # Four groups and the one to come: 4/5, a half for each data set, shared by its groups, shared by their objects.
    np.testing.assert_allclose(weights, [1 / 15, 1 / 15, 2 / 15, 2 / 15, 2 / 5])
    np.testing.assert_allclose(group_weights(groups, ["one"] * 5), group_weights(groups))


def test_a_hard_data_set_of_many_cases_does_not_set_the_interval_alone():
    predicted = np.full(200, 0.5)
    true = predicted + np.r_[np.full(150, 0.4), np.full(50, 0.1)]
    names, data_sets = [str(i) for i in range(200)], ["hard"] * 150 + ["easy"] * 50
    assert fit_interval(predicted, true, names, level=0.45).reach == pytest.approx(0.4)
    assert fit_interval(predicted, true, names, data_sets=data_sets, level=0.45).reach == pytest.approx(0.1)


@given(st.floats(-0.5, 1.5), st.floats(0, 1))
def test_an_interval_lies_in_0_to_1_and_around_its_score(score, novelty):
    rng = np.random.default_rng(2)
    interval = fit_interval(*draw(rng, n_groups=12, size=5), level=0.9)
    (lower,), (upper,) = interval.around(np.array([score]), np.array([novelty]))
    assert 0 <= lower <= min(max(score, 0), 1) <= upper <= 1


def test_intervals_widen_with_novelty_when_errors_do_and_never_shrink():
    rng = np.random.default_rng(3)
    predicted, novelty = rng.uniform(0.2, 0.8, 4000), rng.uniform(size=4000)
    names = [str(i % 100) for i in range(4000)]
    noise = rng.uniform(-0.15, 0.15, 4000) * spread(predicted)
    growing = fit_interval(predicted, predicted + noise * (1 + novelty), names, novelty=novelty)
    shrinking = fit_interval(predicted, predicted + noise * (2 - novelty), names, novelty=novelty)
    assert growing.widening == pytest.approx(1, abs=0.15)
    assert shrinking.widening == 0
    steps = [np.diff(growing.around(np.array([0.5]), np.array([n])), axis=0).item() for n in (0.0, 0.4, 0.8, 1.0)]
    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(steps[0] * (1 + growing.widening))


@pytest.mark.parametrize("error_at_0", [0.05, -0.2])
def test_intervals_widen_fourfold_more_at_most_however_small_the_errors_of_what_is_known(error_at_0):
    rng = np.random.default_rng(5)
    predicted, novelty = rng.uniform(0.3, 0.7, 2000), rng.uniform(size=2000)
    true = predicted + 0.2 * np.clip(novelty + error_at_0, 0, None)
    interval = fit_interval(predicted, true, [str(i % 100) for i in range(2000)], novelty=novelty)
    assert interval.widening == MAX_WIDENING == 4


def test_widening_with_novelty_is_narrower_at_the_same_coverage():
    rng = np.random.default_rng(4)
    predicted, novelty = rng.uniform(0.3, 0.7, 4000), rng.uniform(size=4000)
    true = predicted + rng.normal(0, 0.02, 4000) * (1 + 4 * novelty)
    names = [str(i % 200) for i in range(4000)]
    widths, shares = [], []
    for known in (None, novelty):
        interval = fit_interval(predicted, true, names, novelty=known)
        widths.append(np.mean(np.diff(interval.around(predicted, known), axis=0)))
        shares.append(covered(interval, predicted, true, known).mean())
    assert widths[1] < widths[0]
    assert min(shares) >= 0.9
