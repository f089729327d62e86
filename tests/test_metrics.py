import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score, jaccard_score, matthews_corrcoef, precision_score, recall_score

from segqa import metrics
from segqa.errors import InputError

EVEN = settings(max_examples=80, deadline=None)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=8))
    masks = hnp.arrays(bool, shape)
    return draw(masks), draw(masks)


def surface_points(mask: np.ndarray) -> np.ndarray:
    """Look at every neighbour of every voxel, one by one."""
    points = []
    for point in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                other = point.copy()
                other[axis] += step
                outside = other[axis] < 0 or other[axis] >= mask.shape[axis]
                if outside or not mask[tuple(other)]:
                    points.append(tuple(point))
    return np.array(sorted(set(points)), dtype=float)


def brute_force(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    """All-pairs distances between the two surfaces."""
    start, end = (surface_points(mask) * np.array(spacing) for mask in (pred, truth))
    table = np.sqrt(((start[:, None] - end[None]) ** 2).sum(-1))
    there, back = table.min(1), table.min(0)
    return {
        "hd": max(there.max(), back.max()),
        "hd95": max(np.percentile(there, 95), np.percentile(back, 95)),
        "hd95_pooled": np.percentile(np.concatenate([there, back]), 95),
    }


def blob(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A random ellipsoid with some noise, never empty."""
    grid = np.indices(shape)
    centre = [rng.uniform(0, size) for size in shape]
    radius = [rng.uniform(1, size / 2 + 1) for size in shape]
    inside = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius, strict=True)) < 1
    mask = inside ^ (rng.random(shape) < rng.choice([0.0, 0.02, 0.3]))
    mask[tuple(rng.integers(size) for size in shape)] = True
    return mask


@pytest.mark.parametrize("shape", [(24, 24), (17, 5), (1, 30), (10, 10, 10), (1, 6, 9)])
def test_distances_equal_all_pairs_distances(shape):
    rng = np.random.default_rng(0)
    for _ in range(25):
        pred, truth = blob(rng, shape), blob(rng, shape)
        spacing = tuple(rng.choice([0.5, 1.0, 2.5], size=len(shape)))
        expected = brute_force(pred, truth, spacing)
        found = metrics.all_metrics(pred, truth, spacing=spacing)
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("most_pairs", [0, metrics.MOST_PAIRS])
@pytest.mark.parametrize("shape", [(24, 24), (10, 10, 10)])
def test_distances_equal_all_pairs_distances_with_a_tree_and_with_a_table(monkeypatch, most_pairs, shape):
    monkeypatch.setattr(metrics, "MOST_PAIRS", most_pairs)
    rng = np.random.default_rng(1)
    for _ in range(25):
        pred, truth = blob(rng, shape), blob(rng, shape)
        expected = brute_force(pred, truth, (1.0,) * len(shape))
        found = metrics.all_metrics(pred, truth)
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_table_of_distances_is_exact_up_to_its_largest_size(ndim):
    """Sums of squares stay integers that single precision holds."""
    rng = np.random.default_rng(0)
    corners = metrics.MOST_EXACT - 1 - rng.integers(0, 3, (40, ndim))
    here, there = (np.unique(points, axis=0) for points in (corners, metrics.MOST_EXACT - 1 - corners))
    expected = np.sqrt(((here[:, None] - there[None]) ** 2).sum(-1)).min(1)

    (found, more_zeros), _ = metrics._nearest_of_all(here.astype(np.float32), there.astype(np.float32))

    assert more_zeros == 0
    assert found.tolist() == expected.tolist()


def test_distances_in_a_picture_too_long_for_the_table_are_exact():
    """In single precision the sum of squares would be off by one, and the distance by 1e-4."""
    pred, truth = np.zeros((2, 1, 6 * metrics.MOST_EXACT), bool)
    pred[0, 0] = truth[0, -1] = True
    assert metrics.hd(pred, truth) == 6 * metrics.MOST_EXACT - 1


def test_distances_of_a_batch_equal_one_by_one():
    rng = np.random.default_rng(4)
    preds, truths = (np.stack([blob(rng, (16, 12)) for _ in range(9)]) for _ in range(2))
    preds[:2] = truths[1:3] = False

    many = metrics.all_metrics_many(preds, truths, spacing=(2.0, 0.5))

    for row, (pred, truth) in enumerate(zip(preds, truths, strict=True)):
        one = metrics.all_metrics(pred, truth, spacing=(2.0, 0.5))
        np.testing.assert_array_equal([many[name][row] for name in metrics.METRICS], list(one.values()))


@given(pairs())
@EVEN
def test_overlaps_equal_those_of_scikit_learn(pair):
    pred, truth = pair
    if not pred.any() and not truth.any():
        return
    flat = truth.ravel(), pred.ravel()
    zero = {"zero_division": 0}
    assert metrics.dice(pred, truth) == pytest.approx(f1_score(*flat, **zero))
    assert metrics.jaccard(pred, truth) == pytest.approx(jaccard_score(*flat, **zero))
    assert metrics.precision(pred, truth) == pytest.approx(precision_score(*flat, **zero))
    assert metrics.recall(pred, truth) == pytest.approx(recall_score(*flat, **zero))
    if not (pred.all() and truth.all()):
        assert metrics.pixel_correlation(pred, truth) == pytest.approx(matthews_corrcoef(*flat), abs=1e-12)


@given(pairs())
@EVEN
def test_ranges_and_relations_hold(pair):
    pred, truth = pair
    found = metrics.all_metrics(pred, truth)
    if math.isnan(found["dice"]):
        assert all(math.isnan(value) for value in found.values())
        return
    assert all(0 <= found[name] <= 1 for name in ("dice", "jaccard", "precision", "recall"))
    assert -1 <= found["pixel_correlation"] <= 1
    assert found["jaccard"] == pytest.approx(found["dice"] / (2 - found["dice"]))
    assert 0 <= found["hd95"] <= found["hd"]
    assert 0 <= found["hd95_pooled"] <= found["hd"]


@given(pairs())
@EVEN
def test_all_metrics_equals_the_single_functions(pair):
    found = metrics.all_metrics(*pair)
    single = {name: getattr(metrics, name)(*pair) for name in metrics.METRICS}
    assert found == pytest.approx(single, nan_ok=True)


@given(pairs())
@EVEN
def test_a_mask_agrees_with_itself(pair):
    mask = pair[0].copy()
    mask.flat[0] = True
    found = metrics.all_metrics(mask, mask)
    assert [found[name] for name in metrics.OVERLAP_METRICS] == pytest.approx([1.0] * 5)
    assert [found[name] for name in metrics.DISTANCE_METRICS] == [0.0] * 3


@given(pairs())
@EVEN
def test_symmetric_metrics_do_not_care_which_is_which(pair):
    pred, truth = pair
    there, back = metrics.all_metrics(pred, truth), metrics.all_metrics(truth, pred)
    there["precision"], there["recall"] = there["recall"], there["precision"]
    assert there == pytest.approx(back, nan_ok=True)


@given(pairs(), st.integers(0, 3), st.integers(0, 3))
@EVEN
def test_background_around_and_moving_both_change_nothing(pair, before, after):
    padded = [np.pad(mask, (before, after)) for mask in pair]
    found, expected = metrics.all_metrics(*padded), metrics.all_metrics(*pair)
    for frame_dependent in (found, expected):
        del frame_dependent["pixel_correlation"]
    assert found == pytest.approx(expected, nan_ok=True)


@given(pairs(), st.integers(0, 2))
@EVEN
def test_flips_and_transposition_change_nothing(pair, axis):
    expected = metrics.all_metrics(*pair)
    flipped = [np.flip(mask, axis % mask.ndim) for mask in pair]
    assert metrics.all_metrics(*flipped) == pytest.approx(expected, nan_ok=True)
    assert metrics.all_metrics(*(mask.T for mask in pair)) == pytest.approx(expected, nan_ok=True)


@given(pairs(), st.floats(0.01, 100))
@EVEN
def test_distances_scale_with_the_spacing(pair, scale):
    pred, truth = pair
    found = metrics.all_metrics(pred, truth, spacing=[scale] * pred.ndim)
    expected = metrics.all_metrics(pred, truth)
    for name in metrics.DISTANCE_METRICS:
        assert found[name] == pytest.approx(scale * expected[name], nan_ok=True)


def test_two_empty_masks_are_undefined():
    empty = np.zeros((5, 6), bool)
    assert all(math.isnan(value) for value in metrics.all_metrics(empty, empty).values())


@pytest.mark.parametrize("swap", [False, True])
def test_one_empty_mask_is_the_worst_failure(swap):
    empty, some = np.zeros((5, 6), bool), np.eye(5, 6, dtype=bool)
    pair = (some, empty) if swap else (empty, some)
    found = metrics.all_metrics(*pair)
    assert [found[name] for name in metrics.OVERLAP_METRICS] == [0.0] * 5
    assert [found[name] for name in metrics.DISTANCE_METRICS] == [math.inf] * 3


def test_one_empty_mask_against_a_full_frame_is_the_worst_failure_too():
    found = metrics.all_metrics(np.zeros((4, 4), bool), np.ones((4, 4), bool))
    assert found["pixel_correlation"] == 0.0
    assert found["hd95"] == math.inf


def test_a_full_frame_has_a_surface_at_the_border():
    full, square = np.ones((100, 100), bool), np.zeros((100, 100), bool)
    square[40:60, 40:60] = True
    assert metrics.hd(full, square) == pytest.approx(math.hypot(40, 40))
    assert metrics.all_metrics(full, square) == pytest.approx(
        metrics.all_metrics(full, square) | brute_force(full, square, (1, 1))
    )


def test_two_full_frames_agree_perfectly():
    full = np.ones((4, 4), bool)
    assert metrics.pixel_correlation(full, full) == 1.0
    assert metrics.hd95(full, full) == 0.0


def test_a_full_frame_does_not_correlate_with_a_part():
    full, part = np.ones((4, 4), bool), np.eye(4, dtype=bool)
    assert metrics.pixel_correlation(full, part) == 0.0


def test_pixel_correlation_of_opposite_masks_is_minus_one():
    mask = np.eye(4, dtype=bool)
    assert metrics.pixel_correlation(mask, ~mask) == pytest.approx(-1.0)


def test_pixel_correlation_of_a_large_picture_leaves_no_integer_behind():
    pred, truth = np.zeros((2, 1500, 1500), bool)
    pred[:, :700], truth[:, 300:1000] = True, True
    expected = np.corrcoef(pred.ravel(), truth.ravel())[0, 1]
    assert metrics.pixel_correlation(pred, truth) == pytest.approx(expected)


def test_spacing_is_row_then_column():
    left, right = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    left[4, 2], right[4, 5] = True, True
    assert metrics.hd(left, right, spacing=(10, 2)) == 6.0
    assert metrics.hd(left.T, right.T, spacing=(10, 2)) == 30.0


@pytest.mark.parametrize("name", metrics.OVERLAP_METRICS)
def test_batches_equal_one_by_one(name):
    rng = np.random.default_rng(1)
    preds, truths = rng.random((2, 20, 7, 9)) < rng.random((2, 20, 1, 1))
    preds[0] = truths[0] = preds[1] = truths[2] = False
    preds[3] = truths[3] = True
    single, many = getattr(metrics, name), getattr(metrics, f"{name}_many")
    expected = [single(pred, truth) for pred, truth in zip(preds, truths, strict=True)]
    np.testing.assert_allclose(many(preds, truths), expected)
    np.testing.assert_allclose(metrics.all_metrics_many(preds, truths)[name], expected)


def test_a_batch_may_share_one_reference():
    rng = np.random.default_rng(2)
    preds, truth = rng.random((4, 5, 6)) < 0.5, rng.random((5, 6)) < 0.5
    np.testing.assert_allclose(metrics.dice_many(preds, truth), [metrics.dice(pred, truth) for pred in preds])


def test_a_worse_prediction_never_improves_the_mean_distance():
    rng = np.random.default_rng(3)
    truths = np.stack([blob(rng, (16, 16)) for _ in range(6)])
    preds = np.stack([blob(rng, (16, 16)) for _ in range(6)])
    missed = preds.copy()
    missed[2] = False

    def mean(masks: np.ndarray) -> float:
        values = metrics.all_metrics_many(masks, truths)["hd95"]
        return float(np.mean([metrics.finite_distance(value, (16, 16)) for value in values]))

    assert mean(missed) > mean(preds)


def test_tables_show_the_diagonal_instead_of_infinity():
    assert metrics.finite_distance(math.inf, (3, 4)) == 5.0
    assert metrics.finite_distance(math.inf, (3, 4), (2.0, 2.0)) == 10.0
    assert metrics.finite_distance(1.5, (3, 4)) == 1.5
    assert math.isnan(metrics.finite_distance(math.nan, (3, 4)))


@pytest.mark.parametrize("name", metrics.METRICS)
def test_masks_of_different_shapes_are_refused(name):
    with pytest.raises(InputError, match=r"\(2, 3\).*\(3, 2\)"):
        getattr(metrics, name)(np.ones((2, 3), bool), np.ones((3, 2), bool))


def test_masks_that_are_not_bool_are_refused():
    with pytest.raises(InputError, match=r"reference mask.*uint8.*mask > 0"):
        metrics.dice(np.ones((2, 2), bool), np.ones((2, 2), np.uint8))
    with pytest.raises(InputError, match="predicted mask"):
        metrics.dice_many(np.ones((1, 2, 2)), np.ones((1, 2, 2), bool))


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, math.nan), (1.0, -2.0), (1.0, 1.0, 1.0)])
def test_a_spacing_that_does_not_fit_is_refused(spacing):
    mask = np.ones((2, 2), bool)
    with pytest.raises(InputError, match="2 positive numbers"):
        metrics.hd95(mask, mask, spacing=spacing)


def test_importing_metrics_is_light():
    heavy = ("polars", "scipy.spatial", "torch")
    code = f"import sys, segqa.metrics; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
