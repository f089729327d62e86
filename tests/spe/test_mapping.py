from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import Ridge

from segqa.errors import InputError
from segqa.spe.mapping import KINDS, PENALTY, RANGES, SPE_METRICS, fit_mapping

RNG = np.random.default_rng(0)
X = np.sort(RNG.uniform(0.3, 0.95, 20))


def column(values):
    return np.asarray(values, dtype=np.float64).reshape(-1, 1)


def fit(x, y, kind="linear", metric="dice", spread=0.0, n_test=50):
    return fit_mapping(
        column(x), y, spread=np.full(len(x), spread), n_test=np.full(len(x), float(n_test)), metric=metric, kind=kind
    )


def test_linear_is_the_least_squares_line():
    y = 0.1 + 0.8 * X + RNG.normal(0, 0.02, 20)

    found = fit(X, y).predict(column([0.4, 0.6]))

    np.testing.assert_allclose(found, np.polyval(np.polyfit(X, y, 1), [0.4, 0.6]), atol=5e-4)


def test_log_is_a_line_between_logarithms_of_distances():
    x = np.geomspace(2, 80, 15)
    y = np.expm1(0.3 + 0.7 * np.log1p(x))

    mapping = fit(x, y, "log", "hd95")

    np.testing.assert_allclose(mapping.predict(column([5, 40])), np.expm1(0.3 + 0.7 * np.log1p([5, 40])), rtol=5e-3)


def test_models_with_the_same_measurement_stand_for_their_mean():
    x, y = np.array([0, 0, 0, 0.3, 0.5, 0.8]), np.array([0, 0.05, 0.3, 0.35, 0.5, 0.8])

    mapping = fit(x, y, "isotonic")

    assert mapping.predict(column([0]))[0] == pytest.approx(y[:3].mean())
    np.testing.assert_allclose(mapping.predict(column(x[3:])), IsotonicRegression().fit_transform(x, y)[3:])


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.booleans())
def test_a_better_measurement_never_makes_a_worse_estimate(kind, seed, is_distance):
    rng = np.random.default_rng(seed)
    high, metric = (100.0, "hd95") if is_distance else (1.0, "dice")
    inputs, real = rng.uniform(0, high, (6, 2)), rng.uniform(0, high, 6)
    nothing, some = np.zeros(6), np.full(6, 9.0)
    mapping = fit_mapping(inputs, real, spread=nothing, n_test=some, metric=metric, kind=kind)
    start = rng.uniform(-0.2, 1.2, (200, 2)) * high

    for step in ((0.1, 0), (0, 0.1)):
        assert (mapping.predict(start + np.multiply(step, high)) >= mapping.predict(start) - 1e-9).all()


def test_isotonic_agrees_with_scikit_learn_at_the_blocks_and_never_decreases():
    y = np.clip(X + RNG.normal(0, 0.1, 20), 0, 1)
    expected = IsotonicRegression().fit_transform(X, y)

    found = fit(X, y, "isotonic").predict(column(np.linspace(0, 1, 300)))

    assert (np.diff(found) >= 0).all()
    assert found[0] == pytest.approx(expected[0])
    assert found[-1] == pytest.approx(expected[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_is_that_of_models_the_mapping_has_not_seen(kind):
    y = 0.2 + 0.7 * X + RNG.normal(0, 0.03, 20)
    mapping = fit(X, y, kind)

    by_hand = []
    for i in range(20):
        rest = np.arange(20) != i
        by_hand.append(fit(X[rest], y[rest], kind).predict(column(X[i]))[0])

    np.testing.assert_allclose(mapping.leave_one_out, by_hand)
    assert mapping.error == pytest.approx(np.abs(np.array(by_hand) - y).mean())


def test_with_two_inputs_linear_is_a_ridge_on_standardised_columns():
    inputs = np.stack([X, X**2 + RNG.normal(0, 0.02, 20)], axis=1)
    y = 0.1 + 0.3 * inputs[:, 0] + 0.5 * inputs[:, 1]
    scaled = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    ridge = Ridge(alpha=PENALTY * 20).fit(scaled, y)

    mapping = fit_mapping(inputs, y, spread=np.zeros(20), n_test=np.full(20, 9.0), metric="dice", kind="linear")

    np.testing.assert_allclose(mapping.predict(inputs), ridge.predict(scaled))


def test_quadratic_follows_a_parabola():
    y = 0.2 + 0.9 * (X - 0.2) ** 2

    found = fit(X, y, "quadratic").predict(column([0.4, 0.8]))

    np.testing.assert_allclose(found, 0.2 + 0.9 * np.array([0.2, 0.6]) ** 2, atol=2e-3)


def test_with_two_inputs_isotonic_is_the_mean_of_both_curves():
    inputs = np.stack([X, X + RNG.normal(0, 0.05, 20)], axis=1)
    y = np.clip(X + RNG.normal(0, 0.1, 20), 0, 1)

    both = fit_mapping(inputs, y, spread=np.zeros(20), n_test=np.full(20, 9.0), metric="dice", kind="isotonic").predict(
        inputs
    )

    alone = [fit(each, y, "isotonic").predict(column(each)) for each in inputs.T]
    np.testing.assert_allclose(both, np.mean(alone, axis=0))


def test_an_input_that_is_the_same_for_all_models_changes_nothing():
    y = 0.2 + 0.7 * X
    inputs = np.stack([X, np.full(20, 0.3)], axis=1)

    for kind in KINDS:
        mapping = fit_mapping(inputs, y, spread=np.zeros(20), n_test=np.full(20, 9.0), metric="dice", kind=kind)
        if kind != "isotonic":
            np.testing.assert_allclose(mapping.predict(inputs), fit(X, y, kind).predict(column(X)))
        assert np.isfinite(mapping.predict(inputs)).all()


def test_auto_takes_the_kind_that_made_the_points():
    x = np.geomspace(1, 90, 25)
    curved = np.expm1(0.1 + 0.5 * np.log1p(x)) * (1 + RNG.normal(0, 0.01, 25))
    straight = 5 + 0.8 * x + RNG.normal(0, 0.2, 25)

    assert fit(x, curved, "auto", "hd95").kind == "log"
    assert fit(x, straight, "auto", "hd95").kind == "linear"


@settings(deadline=None)
@example("hd95", "linear", [0.0, 1.0, 6e-159, -1.0], 0.0)  # without the second, inputs differ by rounding only
@given(
    st.sampled_from(SPE_METRICS),
    st.sampled_from(KINDS),
    st.lists(st.floats(-1, 1), min_size=3, max_size=8, unique=True),
    st.floats(-1, 200),
)
def test_estimates_and_intervals_stay_in_the_metric_s_range(metric, kind, points, at):
    low, high = RANGES[metric]
    x = np.clip(np.array(points), low, high)
    if len(np.unique(x)) < 3:
        return
    found = fit(x, x[::-1].copy(), kind, metric, spread=0.3).estimate(np.array([at]), n_groups=5)

    assert low <= found.lower <= found.value <= found.upper <= high


def test_intervals_hold_new_models_and_new_images_as_often_as_they_say():
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(400):
        x = rng.uniform(0.3, 0.9, 21)
        population = 0.1 + 0.8 * x + rng.normal(0, 0.02, 21)
        # The same images are behind every model's mean: their difficulty moves all of them together.
        on_test = population + rng.normal(0, 0.1 / np.sqrt(40))
        on_new = population[20] + rng.normal(0, 0.1 / np.sqrt(25))
        mapping = fit(x[:20], on_test[:20], spread=0.1, n_test=40)
        found = mapping.estimate(x[20:], n_groups=25, level=0.9)
        inside.append(found.lower <= on_new <= found.upper)

    assert 0.86 <= np.mean(inside) <= 0.95


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_intervals_hold_as_often_when_few_images_have_the_label(share):
    """Where neither mask has the label the metric is undefined, and such images say nothing of its mean."""
    rng = np.random.default_rng(4)
    quality, inside = np.linspace(0.5, 0.85, 8), []
    for _ in range(300):
        n_test, n_new = rng.binomial(200, share, 2)
        on_test = quality + rng.normal(0, 0.12 / np.sqrt(n_test))
        on_new = quality[5] + rng.normal(0, 0.12 / np.sqrt(n_new))
        found = fit(quality, on_test, spread=0.12, n_test=n_test).estimate(quality[5:6], n_groups=n_new, level=0.9)
        inside.append(found.lower <= on_new <= found.upper)

    assert np.mean(inside) >= 0.86


def test_the_spread_is_that_of_models_which_are_about_as_good():
    spread = np.linspace(0.3, 0.02, 20)
    mapping = fit_mapping(column(X), X, spread=spread, n_test=np.full(20, 50.0), metric="dice", kind="linear")

    bad, good = (mapping.estimate(X[[row]], n_groups=10) for row in (2, 17))

    assert bad.value - bad.lower > 3 * (good.value - good.lower)


def test_more_images_and_a_lower_level_give_a_narrower_interval():
    mapping = fit(X, 0.2 + 0.7 * X + RNG.normal(0, 0.01, 20), spread=0.1)

    def width(**given):
        found = mapping.estimate(np.array([0.6]), **given)
        return found.upper - found.lower

    assert width(n_groups=100) < width(n_groups=10)
    assert width(n_groups=10, level=0.5) < width(n_groups=10, level=0.95)


def test_the_interval_without_image_noise_follows_from_the_leave_one_out_errors():
    y = 0.2 + 0.7 * X + RNG.normal(0, 0.01, 20)
    mapping = fit(X, y)

    found = mapping.estimate(np.array([0.6]), n_groups=10, level=0.9)

    rms = np.sqrt(np.mean((mapping.leave_one_out - y) ** 2))
    # What a line takes over from its points: 1/K and the squared distance from their middle, but for the small penalty.
    at, own = (1 / 20 + (x - X.mean()) ** 2 / ((X - X.mean()) ** 2).sum() for x in (0.6, X))
    expected = stats.t.ppf(0.95, 18) * rms * np.sqrt((1 + at) / (1 + own.mean()))
    assert found.upper - found.value == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("at", "outside"), [(0.1, True), (0.6, False), (0.99, True), (X[0], False)])
def test_leaving_the_fitted_range_is_told(at, outside):
    assert fit(X, X).estimate(np.array([at]), n_groups=10).extrapolates is outside


@pytest.mark.parametrize("kind", ["linear", "quadratic", "isotonic"])
def test_beyond_the_worst_model_the_interval_is_open_so_that_no_gate_is_passed(kind):
    x = np.linspace(0.75, 0.92, 10)
    y = x + RNG.normal(0, 0.005, 10)

    assert fit(x, y, kind).estimate(np.array([0.6]), n_groups=20).lower == 0
    assert fit(x, y, kind).estimate(np.array([0.8]), n_groups=20).lower > 0.7
    assert fit(x, y, kind).estimate(np.array([1.0]), n_groups=20).lower > 0.7
    assert fit(100 * x, 100 * y, kind, "hd95").estimate(np.array([120.0]), n_groups=20).upper == np.inf


def test_intervals_hold_models_beyond_the_fitted_ones():
    rng = np.random.default_rng(5)
    inside = []
    for _ in range(300):
        x = rng.uniform(0.75, 0.92, 10)
        y = 0.1 + 0.8 * x + rng.normal(0, 0.02, 10)
        found = fit(x, y).estimate(np.array([1.02]), n_groups=20)
        inside.append(found.lower <= 0.1 + 0.8 * 1.02 + rng.normal(0, 0.02) <= found.upper)

    assert np.mean(inside) >= 0.85


def test_an_input_that_rounding_alone_moves_decides_nothing():
    """Where an engine finds nothing, every model's agreement is the diagonal, but for the last bits of its mean."""
    diagonal = float(np.hypot(128, 128))
    inputs = np.stack([np.linspace(5, 40, 8), np.full(8, diagonal)], axis=1)
    inputs[::2, 1] = np.nextafter(diagonal, 1000)
    given = {"spread": np.zeros(8), "n_test": np.full(8, 9.0), "metric": "hd95", "largest_distance": 360.0}
    for kind in KINDS:
        mapping = fit_mapping(inputs, 1.2 * inputs[:, 0], kind=kind, **given)
        exact = mapping.estimate(np.array([20, diagonal]), n_groups=9)
        found = mapping.estimate(np.array([20, diagonal + 1e-13]), n_groups=9)
        assert found == pytest.approx(exact)
        assert (found.upper < 100, found.extrapolates) == (True, False)


def test_a_distance_is_no_longer_than_the_diagonal():
    x = np.array([5.0, 12, 20, 33, 47, 60, 71, 80])
    mapping = fit_mapping(
        column(x), x**1.2, spread=np.zeros(8), n_test=np.full(8, 9.0), metric="hd95", kind="log", largest_distance=181
    )

    found = mapping.estimate(np.array([300.0]), n_groups=9)

    assert (found.value, found.upper) == (181, 181)
    assert mapping.leave_one_out.max() <= 181


def test_one_measurement_beyond_its_range_is_enough_to_leave_it():
    inputs = np.stack([X, X], axis=1)
    mapping = fit_mapping(inputs, X, spread=np.zeros(20), n_test=np.full(20, 9.0), metric="dice", kind="linear")

    assert mapping.estimate(np.array([0.6, 0.99]), n_groups=10).extrapolates
    assert not mapping.estimate(np.array([0.6, 0.6]), n_groups=10).extrapolates


def test_a_distance_far_beyond_the_range_stays_finite():
    mapping = fit(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1e3, 1e6]), "log", "hd95")

    assert np.isfinite(mapping.predict(column([1e30]))).all()


@pytest.mark.parametrize("x", [[0.5, 0.6], [0.5, 0.5, 0.5, 0.6], [0.5]])
def test_fewer_than_three_distinct_points_are_refused(x):
    with pytest.raises(InputError, match="distinct points"):
        fit(np.array(x), np.linspace(0, 1, len(x)))


def test_an_undefined_point_is_refused():
    with pytest.raises(InputError, match="undefined"):
        fit(np.array([0.1, np.nan, 0.5, 0.7]), np.array([0.1, 0.2, 0.3, 0.4]))
