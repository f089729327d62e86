import numpy as np
import pytest

from segqa.quality.novelty import COMPONENTS, fit_novelty, fit_reference


@pytest.fixture
def embeddings():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(40, 40)) * np.linspace(3, 0.1, 40)[:, None]
    return (rng.normal(size=(600, 40)) @ mixing + 5).astype(np.float32)


def test_the_distance_is_that_of_mahalanobis_when_every_axis_is_kept(embeddings):
    few = embeddings[:, :COMPONENTS]
    covariance = np.cov(few.T, bias=True).astype(np.float64)
    centred = few - few.mean(axis=0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred) / COMPONENTS)
    np.testing.assert_allclose(fit_reference(few).distances(few), expected, rtol=1e-3)


def test_the_reference_is_small(embeddings):
    reference = fit_reference(embeddings)
    assert reference.axes.shape == (COMPONENTS, 40)
    along = (embeddings - reference.centre) @ reference.axes.T
    np.testing.assert_allclose(np.cov(along.T, bias=True), np.eye(COMPONENTS), atol=1e-3)


def test_novelty_is_the_share_of_calibration_inputs_that_are_nearer(embeddings):
    reference = fit_reference(embeddings[:300])
    distances = reference.distances(embeddings[300:])
    novelty = fit_novelty(reference, distances).of(embeddings[300:])
    expected = [(distances < distance).mean() for distance in distances]
    np.testing.assert_allclose(novelty, expected, atol=0.01)


def test_novelty_grows_with_the_distance_up_to_1(embeddings):
    reference = fit_reference(embeddings)
    novelty = fit_novelty(reference, reference.distances(embeddings))
    centre = reference.centre
    away = np.stack([centre + step * (embeddings[0] - centre) for step in (0, 0.5, 1, 2, 10)]).astype(np.float32)
    shares = novelty.of(away)
    assert (np.diff(shares) >= 0).all()
    assert shares[0] == 0
    assert shares[-1] == 1


def test_a_last_bit_of_the_embedding_hardly_matters(embeddings):
    reference = fit_reference(embeddings[:300])
    novelty = fit_novelty(reference, reference.distances(embeddings[300:]))
    noise = np.random.default_rng(1).uniform(-1e-5, 1e-5, embeddings.shape).astype(np.float32)
    np.testing.assert_allclose(novelty.of(embeddings), novelty.of(embeddings + noise), atol=1e-4)


def test_directions_that_are_rounding_errors_are_none():
    rng = np.random.default_rng(2)
    flat = (rng.normal(size=(600, 3)) @ rng.normal(size=(3, 40)) + 5).astype(np.float32)
    assert fit_reference(flat).axes.shape == (3, 40)


def test_embeddings_that_are_all_alike_have_no_direction():
    same = np.ones((20, 8), np.float32)
    np.testing.assert_array_equal(fit_reference(same).distances(same + 1), np.zeros(20))
