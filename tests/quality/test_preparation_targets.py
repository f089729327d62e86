import numpy as np
import pytest

from segqa.data.boxes import Box
from segqa.data.layouts.dataset import TrueObject, Truth
from segqa.data.objects import find_objects
from segqa.data.types import PromptBox
from segqa.quality.targets import choose_targets, predicted_masks


@pytest.fixture
def truth():
    """Label 1 in a large, a middle and a tiny part; label 3 small."""
    labels = np.zeros((80, 80), np.int32)
    labels[2:40, 2:40] = 1
    labels[50:75, 2:30] = 1
    labels[60:62, 40:42] = 1
    labels[5:12, 60:75] = 3
    return Truth(labels)


def choose(truth, **options):
    defaults = {"min_side": 16, "max_objects": 8, "components": False, "rng": np.random.default_rng(0)}
    return choose_targets(truth, **defaults | options)


def test_each_label_is_one_object_and_a_small_one_has_a_reason(truth):
    targets, reasons = choose(truth)

    assert [(target.name, target.label, target.box) for target in targets] == [("1", "1", Box(2, 2, 42, 75))]
    assert reasons == {"3": "too small: 15 x 7 px, at least 16 are needed"}


def test_large_parts_are_objects_of_their_own_when_asked(truth):
    targets, _ = choose(truth, components=True)

    assert [(target.name, target.value) for target in targets] == [("1", 1), ("1.1", 1), ("1.2", 1)]


def test_parts_that_touch_at_a_corner_are_one():
    labels = np.zeros((80, 80), np.int32)
    labels[2:22, 2:22], labels[22:42, 22:42], labels[50:70, 2:22] = 1, 1, 1

    targets, _ = choose(Truth(labels), components=True)

    assert [int(target.truth.sum()) for target in targets] == [1200, 800, 400]


def test_of_too_many_objects_some_are_drawn_and_the_others_have_a_reason(truth):
    targets, reasons = choose(truth, min_side=2, max_objects=1)

    assert len(targets) == 1
    assert set(reasons.values()) == {"not drawn: 1 of 2 objects are taken"}
    assert {target.name for target in targets} | set(reasons) == {"1", "3"}


def test_objects_that_a_layout_knows_are_taken_whole():
    outer, inner = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    outer[2:38, 2:38] = True
    inner[10:30, 10:30] = True
    objects = (TrueObject("a", 5, outer), TrueObject("b", 9, inner), TrueObject("c", 9, inner & False))
    truth = Truth.of_objects(objects, height=40, width=40)

    targets, reasons = choose(truth)

    assert [int(target.truth.sum()) for target in targets] == [36 * 36, 400]
    assert reasons == {"c": "empty in the reference"}


def test_objects_of_one_class_have_the_predicted_masks_that_score_finds_with_their_boxes():
    rng = np.random.default_rng(0)
    prediction = rng.choice([0, 0, 1, 2], (80, 80)).repeat(3, 0).repeat(3, 1)[:80, :80]
    objects = []
    for number, (x, y) in enumerate(rng.integers(0, 60, (12, 2))):
        mask = np.zeros((80, 80), bool)
        mask[y : y + 8 + number, x : x + 20 - number] = True
        objects.append(TrueObject(str(number), 1 + number % 2, mask))
    boxes = [PromptBox(Box.from_mask(one.mask), str(one.value)) for one in objects]
    scored = {found.box: found.mask for found in find_objects(prediction, boxes=tuple(boxes))}

    targets, reasons = choose(Truth.of_objects(objects, height=80, width=80), min_side=12, max_objects=4)

    assert {reason.partition(":")[0] for reason in reasons.values()} == {"too small", "not drawn"}
    for target, mask in zip(targets, predicted_masks(prediction, targets), strict=True):
        assert np.array_equal(mask, scored[target.box])


def test_a_perfect_prediction_has_each_label_whole_and_its_parts_apart(truth):
    targets, _ = choose(truth, components=True, min_side=2)

    masks = list(predicted_masks(truth.labels, targets))

    assert [target.name for target in targets] == ["1", "1.1", "1.2", "3"]
    for target, mask in zip(targets, masks, strict=True):
        assert np.array_equal(mask, target.truth)  # the tiny part is in neither of the large ones
