import numpy as np
import pytest

from segqa.decisions.pairs import BETAS, beta_relative_accuracy


def by_looking_at_every_pair(predicted, true, beta):
    right = total = 0
    for i in range(len(true)):
        for j in range(len(true)):
            if true[i] > true[j] and true[i] - true[j] >= beta - 1e-12:
                total += 1
                right += predicted[i] > predicted[j]
    return (right / total if total else np.nan), total


@pytest.mark.parametrize("digits", [1, 12])
def test_it_equals_looking_at_every_pair(digits):
    rng = np.random.default_rng(digits)
    for n in (1, 2, 3, 7, 30, 64):
        true = np.round(rng.random(n), digits)
        predicted = np.round(true + rng.normal(0, 0.2, n), digits)
        shares, numbers = beta_relative_accuracy(predicted, true)
        expected = [by_looking_at_every_pair(predicted, true, beta) for beta in BETAS]
        np.testing.assert_allclose(shares, [share for share, _ in expected])
        assert numbers.tolist() == [number for _, number in expected]


def test_equal_predictions_are_wrong():
    shares, numbers = beta_relative_accuracy(np.array([0.5, 0.5]), np.array([0.1, 0.9]), [0.0])
    assert (shares[0], numbers[0]) == (0.0, 1)


def test_equal_true_scores_are_no_pair():
    shares, numbers = beta_relative_accuracy(np.array([0.1, 0.5]), np.array([0.9, 0.9]), [0.0])
    assert np.isnan(shares[0])
    assert numbers[0] == 0


def test_a_difference_of_exactly_beta_counts():
    _, numbers = beta_relative_accuracy(np.array([0.1, 0.5]), np.array([0.1, 0.3]), [0.2])
    assert numbers[0] == 1


def test_without_objects_nothing_is_defined():
    shares, numbers = beta_relative_accuracy(np.array([]), np.array([]))
    assert np.isnan(shares).all()
    assert not numbers.any()
