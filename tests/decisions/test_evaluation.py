import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from segqa.data.boxes import Box
from segqa.data.objects import UNKNOWN_LABEL, find_objects
from segqa.data.types import PromptBox
from segqa.decisions.evaluation import evaluate_cases, evaluate_masks, find_evaluated
from segqa.errors import InputError
from segqa.metrics import all_metrics, dice, jaccard

BOXES = (PromptBox(Box(0, 0, 8, 16)), PromptBox(Box(8, 0, 16, 16)))


def squares(*corners, size=4, label=1, onto=None):
    labels = np.zeros((16, 16), np.int32) if onto is None else onto.copy()
    for y, x in corners:
        labels[y : y + size, x : x + size] = label
    return labels


def brief(rows):
    return [
        (row["object"], row["label"], None if row["true_dice"] is None else round(row["true_dice"], 3)) for row in rows
    ]


def test_a_binary_mask_is_one_object_with_its_dice():
    pred, truth = squares((2, 2)), squares((2, 4))
    (row,) = evaluate_masks(pred, truth)
    assert row["true_dice"] == pytest.approx(dice(pred > 0, truth > 0))
    assert (row["object"], row["label"], row["status"]) == ("1", "1", "ok")


def test_labels_are_compared_with_the_same_label():
    pred = squares((8, 8), label=3, onto=squares((0, 0)))
    truth = squares((8, 8), label=3, onto=squares((0, 2)))
    assert brief(evaluate_masks(pred, truth)) == [("1", "1", 0.5), ("1", "3", 1.0)]


def test_a_label_that_was_missed_is_a_row_of_its_own():
    rows = evaluate_masks(squares((0, 0)), squares((8, 8), label=3, onto=squares((0, 0))))
    assert brief(rows) == [("1", "1", 1.0), ("1", "3", 0.0)]
    assert rows[1]["reason"].startswith("nothing predicted")
    assert rows[1]["true_hd95_px"] == pytest.approx(np.hypot(16, 16))


def test_a_label_that_the_reference_lacks_has_dice_zero():
    rows = evaluate_masks(squares((8, 8), label=3, onto=squares((0, 0))), squares((0, 0)))
    assert brief(rows) == [("1", "1", 1.0), ("1", "3", 0.0)]
    assert rows[1]["reason"] == "the reference has no object there"


def test_objects_of_boxes_are_compared_with_the_truth_of_the_same_box():
    pred, truth = squares((0, 0), (8, 10)), squares((0, 0), (8, 8))
    assert brief(evaluate_masks(pred, truth, boxes=BOXES)) == [("1", "1", 1.0), ("2", "1", 0.5)]


def test_a_box_without_prediction_keeps_its_number():
    pred, truth = squares((8, 8)), squares((0, 0), (8, 8))
    assert brief(evaluate_masks(pred, truth, boxes=BOXES)) == [("1", "1", 0.0), ("2", "1", 1.0)]


def test_components_go_to_those_they_overlap_most():
    pred = squares((0, 0), (0, 8), (10, 10))
    truth = squares((0, 6), (0, 1), (10, 0))
    rows = evaluate_masks(pred, truth, objects="components")
    assert [(number, value) for number, _, value in brief(rows)] == [
        ("1", 0.75),
        ("2", 0.5),
        ("3", 0.0),
        ("4", 0.0),
    ]


@pytest.mark.parametrize("objects", ["labels", "components"])
def test_nothing_against_nothing_is_undefined_and_kept(objects):
    (row,) = evaluate_masks(squares(), squares(), objects=objects)
    assert row["true_dice"] is None
    assert row["true_hd95_px"] is None
    assert row["status"] == "warning"


@pytest.mark.parametrize("spacing", [(0.5, 0.5), (0.5, 2.0)])
def test_distances_are_also_in_mm_where_the_file_tells_the_size_of_a_pixel(spacing):
    pred, truth = squares((2, 2)), squares((4, 5))
    (row,) = evaluate_masks(pred, truth, spacing=spacing)
    expected = all_metrics(pred > 0, truth > 0, spacing=spacing)
    assert (row["true_hd_mm"], row["true_hd95_mm"]) == pytest.approx((expected["hd"], expected["hd95"]))
    assert evaluate_masks(pred, truth)[0]["true_hd95_mm"] is None
    (missed,) = evaluate_masks(squares(), truth, spacing=spacing)
    assert missed["true_hd95_mm"] == pytest.approx(np.hypot(16 * spacing[0], 16 * spacing[1]))


def test_the_size_of_a_pixel_is_read_from_the_reference(tmp_path):
    nib = pytest.importorskip("nibabel")
    for name, shift in (("pred", 0), ("truth", 3)):
        voxels = np.zeros((20, 20, 2), np.uint8)
        voxels[4 + shift : 12 + shift, 5:15] = 1  # nibabel's first axis is x
        (tmp_path / name).mkdir()
        nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 0.5, 3.0, 1.0])), tmp_path / name / "a.nii")
    table = evaluate_cases(find_evaluated(tmp_path / "pred", tmp_path / "truth"))
    assert table.select("true_hd_px", "true_hd_mm").rows() == [(3.0, 6.0)] * 2


def test_an_empty_prediction_is_the_worst_failure():
    (row,) = evaluate_masks(squares(), squares((0, 0)))
    assert row["true_dice"] == 0.0
    assert row["true_hd_px"] == pytest.approx(np.hypot(16, 16))


def test_a_missed_label_with_its_box_is_one_row():
    boxes = (PromptBox(Box(0, 0, 4, 4), "1"), PromptBox(Box(8, 8, 12, 12), "2"))
    rows = evaluate_masks(squares((0, 0)), squares((8, 8), label=2, onto=squares((0, 0))), boxes=boxes)
    assert brief(rows) == [("1", "1", 1.0), ("1", "2", 0.0)]


def test_only_chosen_labels_are_looked_at():
    truth = squares((8, 8), label=3, onto=squares((0, 0)))
    assert brief(evaluate_masks(truth, truth, labels=[3])) == [("1", "3", 1.0)]


def match_by_masks(pred, truth, boxes, objects):
    """Return the true Dice of each row as they follow from the definition: an IoU of whole masks for each pair."""
    ours, theirs = (list(find_objects(each, boxes=boxes, objects=objects)) for each in (pred, truth))
    partner = {}
    for index, one in enumerate(ours):
        for other_index, other in enumerate(theirs):
            same_label = one.label == other.label or UNKNOWN_LABEL in (one.label, other.label)
            if one.box is not None and one.box == other.box and same_label and other_index not in partner.values():
                partner[index] = other_index
                break
    for label in {one.label for one in ours}:
        mine = [i for i, one in enumerate(ours) if one.label == label and i not in partner]
        free = [i for i, one in enumerate(theirs) if one.label == label and i not in partner.values()]
        overlap = np.array([[np.nan_to_num(jaccard(ours[i].mask, theirs[j].mask)) for j in free] for i in mine])
        if overlap.size:
            for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
                if overlap[row, column] > 0 or objects == "labels":
                    partner[mine[row]] = free[column]
    nothing = np.zeros(pred.shape, bool)
    pairs = [(one.mask, theirs[partner[i]].mask if i in partner else nothing) for i, one in enumerate(ours)]
    pairs += [(nothing, one.mask) for i, one in enumerate(theirs) if i not in partner.values() and one.mask.any()]
    return [dice(*pair) for pair in pairs]


def blobs(rng, n_labels, side=48):
    level = ndimage.gaussian_filter(rng.normal(size=(side, side)), 2)
    labels = ndimage.zoom(rng.integers(1, n_labels + 1, (4, 4)), side // 4, order=0)
    return np.where(level > 0.03, labels, 0).astype(np.int32)


@pytest.mark.parametrize("objects", ["labels", "components"])
@pytest.mark.parametrize("boxed", ["without boxes", "free boxes", "boxes of labels"])
def test_the_pairs_are_those_of_the_masks_themselves(objects, boxed):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        pred, truth = blobs(rng, 1 + seed % 3), blobs(rng, 1 + seed % 3)
        truth = np.where(rng.random(truth.shape) < 0.7, pred, truth) if seed % 2 else truth
        corners = rng.integers(0, 24, (4, 2))
        boxes = tuple(
            PromptBox(Box(x, y, x + 20, y + 20), "1" if boxed == "boxes of labels" else None)
            for x, y in corners.tolist()
        )
        boxes = () if boxed == "without boxes" else boxes
        found = [row["true_dice"] for row in evaluate_masks(pred, truth, boxes=boxes, objects=objects)]
        expected = match_by_masks(pred, truth, boxes, objects)
        assert found == [None if np.isnan(value) else value for value in expected]


def test_hundreds_of_cells_are_paired_in_seconds_and_little_memory():
    cells = np.zeros((512, 512), np.int32)
    for y in range(4, 512, 32):
        for x in range(4, 512, 32):
            cells[y : y + 20, x : x + 20] = 1
    tracemalloc.start()
    start = time.process_time()
    rows = evaluate_masks(cells, np.roll(cells, 3, axis=1), objects="components")
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [round(row["true_dice"], 3) for row in rows] == [0.85] * 256
    assert seconds < 10  # a pass over the image for each pair of cells takes over 20
    assert peak < 256 * cells.size / 4  # the masks of all cells take eight times as much


def save(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


def test_models_in_sub_folders_have_rows_of_their_own(tmp_path):
    for model, x in (("good", 2), ("bad", 4)):
        save(tmp_path / "masks" / model / "a.png", squares((2, x)))
    save(tmp_path / "truth" / "a.png", squares((2, 2)))
    table = evaluate_cases(find_evaluated(tmp_path / "masks", tmp_path / "truth"))
    assert {(row["case"], row["model"], row["true_dice"]) for row in table.to_dicts()} == {
        ("a", "bad", 0.5),
        ("a", "good", 1.0),
    }


def test_a_slice_that_was_missed_altogether_counts(tmp_path):
    truth, pred = np.zeros((2, 16, 16, 6), np.uint8)
    truth[2:6, 2:6, 1:3] = 1
    pred[2:6, 2:6, 1] = 1
    for name, labels in (("truth", truth), ("pred", pred)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", labels)
    table = evaluate_cases(find_evaluated(tmp_path / "pred", tmp_path / "truth"))
    assert table.select("case", "true_dice").rows() == [("a:1", 1.0), ("a:2", 0.0)]


def test_masks_of_another_size_are_refused(tmp_path):
    save(tmp_path / "pred" / "a.png", squares((2, 2))[:8])
    save(tmp_path / "truth" / "a.png", squares((2, 2)))
    with pytest.raises(InputError, match="16 x 8"):
        evaluate_cases(find_evaluated(tmp_path / "pred", tmp_path / "truth"))


def test_masks_that_lie_elsewhere_than_their_reference_have_a_remark(tmp_path):
    nib = pytest.importorskip("nibabel")
    mask = np.zeros((8, 8, 3), np.uint8)
    mask[1:4, 2:6, 1] = 1
    for name, affine in (("truth", np.eye(4)), ("pred", np.diag([-1, 1, 1, 1]))):
        (tmp_path / name).mkdir()
        nib.save(nib.Nifti1Image(mask, affine), tmp_path / name / "a.nii")
    cases = find_evaluated(tmp_path / "pred", tmp_path / "truth")
    (row,) = evaluate_cases(cases).to_dicts()
    assert (row["true_dice"], row["status"]) == (1.0, "warning")
    assert row["reason"] == (
        "affine-mismatch: voxels of image and mask are up to 14 mm apart; the mask is stored as LAS, the image as RAS"
    )
