import numpy as np
import pytest

from segqa.quality.nesting import LEAST_SHARE, nest


def disc(side=96, radius=26):
    rows, columns = np.ogrid[:side, :side]
    labels = ((rows - side / 2) ** 2 + (columns - side / 2) ** 2 < radius**2).astype(np.uint8)
    labels[:8] = 2  # a neighbour that touches nothing
    return np.random.default_rng(0).integers(90, 110, size=(side, side, 3), dtype=np.uint8), labels


@pytest.mark.parametrize("seed", range(60))
def test_parts_make_up_the_object_or_the_object_and_its_wall(seed):
    image, labels = disc()
    before = image.copy(), labels.copy()
    painted, result = nest(image, labels, np.random.default_rng(seed))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])
    np.testing.assert_array_equal(result == 2, labels == 2)
    whole = (result == 1) | (result == 3)
    assert whole[labels == 1].all()
    assert (result == 1).any()
    if (result == 3).any():
        assert (result == 3).sum() >= LEAST_SHARE * whole.sum()
    far = ~whole & (np.abs(painted.astype(int) - image).max(axis=2) > 0)
    assert far.mean() < 0.25  # only what lies at the boundary of a painted part


def test_some_are_rings_some_cores_some_wholes_and_the_boundary_can_be_seen():
    image, labels = disc()
    kinds, contrasts = set(), []
    for seed in range(60):
        painted, result = nest(image, labels, np.random.default_rng(seed))
        own, other = result == 1, result == 3
        if other.any():
            kinds.add("wall" if (own | other).sum() > (labels == 1).sum() else "inside")
            kinds.add("core" if own[48, 48] else "ring")
            contrasts.append(abs(painted[own].mean() - painted[other].mean()))
        else:
            kinds.add("whole")
    assert kinds == {"wall", "inside", "core", "ring", "whole"}
    assert np.median(contrasts) > 15


def test_a_speck_stays_as_it_is():
    image, labels = disc()
    labels = np.where(labels == 2, labels, 0).astype(np.uint8)
    labels[40, 40] = 1
    kept = 0
    for seed in range(20):
        painted, result = nest(image, labels, np.random.default_rng(seed))
        if (result == labels).all():
            np.testing.assert_array_equal(painted, image)
            kept += 1
        else:  # a wall around it
            whole = (result == 1) | (result == 3)
            assert min(whole.sum() - 1, 1) >= LEAST_SHARE * whole.sum()
    assert kept > 5
    full = labels.copy()
    full[0, 0] = 255  # no value is left for another part
    painted, result = nest(image, full, np.random.default_rng(1))
    np.testing.assert_array_equal(result, full)
