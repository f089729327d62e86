from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from segqa.data.boxes import Box
from segqa.data.objects import find_objects, object_remarks, share_components
from segqa.data.types import ObjectMask, PromptBox
from segqa.errors import InputError


def blocks(**labels):
    """Return a 60 x 60 map with a 10 x 10 block a label, by `l<label>_<n>=(x, y)`."""
    label_map = np.zeros((60, 60), np.int32)
    for name, (x, y) in labels.items():
        label_map[y : y + 10, x : x + 10] = int(name[1:].split("_")[0])
    return label_map


def at(x, y, size=10, label=None):
    return PromptBox(Box(x, y, x + size, y + size), label)


def summary(found):
    return [(one.object, one.label, int(one.mask.sum()), one.box) for one in found]


def test_each_label_is_an_object_in_order():
    label_map = blocks(l7=(0, 0), l2=(20, 0), l2_b=(40, 40))
    assert summary(find_objects(label_map)) == [("1", "2", 200, None), ("1", "7", 100, None)]


def test_components_split_each_label_with_diagonal_neighbours_together():
    label_map = blocks(l7=(0, 0), l2=(20, 0), l2_b=(30, 10), l2_c=(45, 45))
    found = list(find_objects(label_map, objects="components"))
    assert summary(found) == [("1", "2", 200, None), ("2", "2", 100, None), ("1", "7", 100, None)]


def test_one_box_and_one_label_belong_together_even_apart():
    box = at(40, 40)
    assert summary(find_objects(blocks(l1=(0, 0), l1_b=(20, 20)), boxes=(box,))) == [("1", "1", 200, box.box)]


def test_boxes_of_a_binary_mask_share_its_components():
    label_map = blocks(l1=(0, 0), l1_b=(40, 0), l1_c=(45, 45))
    boxes = (at(38, 0, 14), at(0, 0, 12), at(20, 20))
    found = list(find_objects(label_map, boxes=boxes))
    assert summary(found) == [
        ("1", "1", 100, boxes[0].box),
        ("2", "1", 100, boxes[1].box),
        ("3", "1", 100, boxes[2].box),  # the component at (45, 45) is in no box and nearest to this one
    ]
    assert found[2].mask[50, 50]


def test_a_component_in_two_boxes_goes_to_the_smaller():
    boxes = (at(0, 0, 50), at(0, 0, 15))
    assert [one.mask.sum() for one in find_objects(blocks(l1=(0, 0), l1_b=(30, 30)), boxes=boxes)] == [
        100,
        100,
    ]


def test_a_box_that_the_segmenter_missed_is_an_empty_object():
    boxes = (at(0, 0), at(40, 40))
    found = list(find_objects(blocks(l1=(0, 0)), boxes=boxes))
    assert summary(found) == [("1", "1", 100, boxes[0].box), ("2", "1", 0, boxes[1].box)]


def test_labelled_boxes_go_to_their_label():
    label_map = blocks(l1=(0, 0), l2=(40, 40))
    boxes = (at(0, 0, label="2"), at(40, 40, label="1"))
    assert [(one.label, one.box) for one in find_objects(label_map, boxes=boxes)] == [
        ("1", boxes[1].box),
        ("2", boxes[0].box),
    ]


def test_a_labelled_box_of_an_absent_label_is_an_empty_object():
    box = at(40, 40, label="5")
    assert summary(find_objects(blocks(l1=(0, 0)), boxes=(box,))) == [
        ("1", "1", 100, None),
        ("1", "5", 0, box.box),
    ]


def test_names_match_through_label_names_only():
    label_map = blocks(l1=(0, 0), l2=(40, 40))
    boxes = (at(0, 0, label="liver"), at(40, 40, label="spleen"))
    named = find_objects(label_map, boxes=boxes, label_names={1: "spleen", 2: "liver"})
    assert [(one.label, one.box) for one in named] == [("spleen", boxes[1].box), ("liver", boxes[0].box)]
    unnamed = find_objects(label_map, boxes=boxes)
    assert [(one.label, one.box) for one in unnamed] == [("1", boxes[0].box), ("2", boxes[1].box)]


def test_boxes_among_labels_are_assigned_by_overlap_and_leftovers_kept():
    label_map = blocks(l1=(0, 0), l2=(8, 0), l3=(45, 45))
    boxes = (at(6, 0, 11), at(0, 0, 11), at(25, 25))
    assert summary(find_objects(label_map, boxes=boxes)) == [
        ("1", "1", 80, boxes[1].box),
        ("1", "2", 100, boxes[0].box),
        ("1", "3", 100, None),
        ("1", "unknown", 0, boxes[2].box),
    ]


def test_a_left_over_box_is_numbered_behind_a_label_that_is_called_unknown():
    boxes = (at(0, 0), at(40, 40), at(20, 40))
    found = find_objects(blocks(l1=(0, 0), l2=(40, 40)), boxes=boxes, label_names={1: "unknown"})
    assert [(one.object, one.label) for one in found] == [("1", "unknown"), ("1", "2"), ("2", "unknown")]


def test_a_missed_label_and_a_left_over_box_belong_together():
    boxes = (at(0, 0), at(40, 40))
    found = list(find_objects(blocks(l1=(0, 0)), boxes=boxes, labels=[2, 1]))
    assert summary(found) == [("1", "2", 0, boxes[1].box), ("1", "1", 100, boxes[0].box)]


def test_a_missed_label_is_given_none_of_two_left_over_boxes():
    boxes = (at(0, 0), at(40, 40), at(20, 40))
    assert summary(find_objects(blocks(l1=(0, 0)), boxes=boxes, labels=[2, 1])) == [
        ("1", "2", 0, None),
        ("1", "1", 100, boxes[0].box),
        ("1", "unknown", 0, boxes[1].box),
        ("2", "unknown", 0, boxes[2].box),
    ]


def test_an_empty_mask_is_one_empty_object():
    empty = np.zeros((5, 6), np.int32)
    assert summary(find_objects(empty)) == [("1", "1", 0, None)]
    assert summary(find_objects(empty, labels=[3])) == [("1", "3", 0, None)]
    assert summary(find_objects(empty, objects="components")) == [("1", "1", 0, None)]
    boxes = (at(0, 0, 2), at(2, 2, 2))
    assert [one.box for one in find_objects(empty, boxes=boxes)] == [box.box for box in boxes]


def test_chosen_labels_come_in_their_order_and_absent_ones_empty():
    assert summary(find_objects(blocks(l1=(0, 0), l2=(20, 20)), labels=[4, 2])) == [
        ("1", "4", 0, None),
        ("1", "2", 100, None),
    ]


def test_the_background_is_no_label():
    with pytest.raises(InputError, match="background"):
        list(find_objects(blocks(l1=(0, 0)), labels=[0]))


maps = arrays(np.int32, (12, 12), elements=st.sampled_from([0, 0, 0, 1, 2, 3]))
small = st.integers(0, 9)
some_boxes = st.lists(
    st.builds(
        lambda x, y, w, h, label: PromptBox(Box(x, y, x + w + 1, y + h + 1), label),
        *(small, small, small, small),
        st.sampled_from([None, None, "1", "2", "5", "x"]),
    ),
    max_size=5,
).map(tuple)


@settings(max_examples=200)
@given(maps, some_boxes, st.sampled_from(["labels", "components"]))
def test_every_pixel_and_every_box_is_in_exactly_one_object(label_map, boxes, objects):
    found = list(find_objects(label_map, boxes=boxes, objects=objects))
    total = np.sum([one.mask for one in found], axis=0)
    assert np.array_equal(total, label_map > 0)
    assert sorted(map(repr, (one.box for one in found if one.box))) == sorted(repr(box.box) for box in boxes)
    for label in {one.label for one in found}:
        numbers = [one.object for one in found if one.label == label]
        assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


@settings(max_examples=60)
@given(maps, st.lists(st.tuples(small, small, small, small), min_size=2, max_size=3))
def test_the_assignment_has_the_largest_sum_of_iou(label_map, corners):
    label_map[0, 0], label_map[11, 11] = 1, 2
    boxes = tuple(PromptBox(Box(x, y, x + w + 1, y + h + 1)) for x, y, w, h in corners)
    found = list(find_objects(label_map, boxes=boxes))
    own = {one.label: Box.from_mask(one.mask) for one in found if one.label != "unknown"}
    reached = sum(one.box.iou(own[one.label]) for one in found if one.box and one.label in own)
    padded = [*own.values(), *[None] * len(boxes)]
    best = max(
        sum(box.box.iou(other) for box, other in zip(boxes, order, strict=False) if other)
        for order in itertools.permutations(padded, len(boxes))
    )
    assert reached == pytest.approx(best)


@settings(max_examples=200)
@given(maps, st.lists(st.tuples(small, small, small, small), min_size=1, max_size=5))
def test_a_component_goes_to_the_box_that_holds_most_of_it_or_else_to_the_nearest(label_map, corners):
    boxes = [Box(x, y, x + w + 1, y + h + 1) for x, y, w, h in corners]
    components, count = ndimage.label(label_map > 0, np.ones((3, 3)))
    expected = np.full(label_map.shape, -1)
    for number in range(1, count + 1):
        mask = components == number
        rows, columns = np.nonzero(mask)
        rank = []
        for index, box in enumerate(boxes):
            y, x = (box.y0 + box.y1 - 1) / 2, (box.x0 + box.x1 - 1) / 2
            distance = (rows.mean() - y) ** 2 + (columns.mean() - x) ** 2
            held = mask[box.slices].sum()
            rank.append((-held, 0 if held else round(distance, 9), box.area, index))
        expected[mask] = min(rank)[-1]
    assert np.array_equal(share_components(label_map > 0, boxes), expected)


def test_thousands_of_boxes_and_components_are_shared_in_the_memory_of_a_few_images():
    mask = np.zeros((800, 800), bool)
    mask[::16, ::16] = True
    boxes = [Box(x, y, x + 2, y + 2) for y in range(0, 800, 16) for x in range(0, 800, 16)]  # a table is 48 MiB
    tracemalloc.start()
    owners = share_components(mask, boxes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(owners[mask], np.arange(2500))
    assert peak < 2**24


def test_a_mask_outside_of_its_box_is_remarked():
    mask = blocks(l1=(0, 0)) > 0
    assert object_remarks(ObjectMask("1", "1", mask, Box(30, 30, 50, 50))) == ["mask-outside-box"]
    assert object_remarks(ObjectMask("1", "1", mask, Box(0, 0, 12, 12))) == []
    assert object_remarks(ObjectMask("1", "1", mask, None)) == []


def test_a_mask_around_its_box_is_outside_of_it():
    mask = blocks(l1=(0, 0), l1_b=(50, 50)) > 0
    assert object_remarks(ObjectMask("1", "1", mask, Box(20, 20, 40, 40))) == ["mask-outside-box"]


def test_a_box_in_xywh_is_suspected():
    mask = np.zeros((100, 100), bool)
    mask[40:90, 40:90] = True
    assert object_remarks(ObjectMask("1", "1", mask, Box(40, 40, 50, 50))) == ["is-this-xywh"]


def test_a_box_that_overlaps_its_mask_is_not_suspected_though_xywh_would_overlap_more():
    mask = np.zeros((100, 100), bool)
    mask[40:90, 40:90] = True
    assert object_remarks(ObjectMask("1", "1", mask, Box(40, 40, 70, 70))) == []


def test_a_small_mask_in_a_large_box_is_no_suspicion():
    mask = np.zeros((100, 100), bool)
    mask[10:12, 10:12] = True
    assert object_remarks(ObjectMask("1", "1", mask, Box(0, 0, 90, 90))) == []


@pytest.mark.parametrize("objects", ["labels", "components"])
def test_the_masks_of_many_objects_are_not_kept(objects):
    label_map = np.zeros((512, 512), np.int32)
    label_map[::16, ::16] = np.arange(1, 32 * 32 + 1).reshape(32, 32)  # their masks together take 256 MiB
    tracemalloc.start()
    count = sum(1 for _ in find_objects(label_map, objects=objects))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 32 * 32
    assert peak < 2**24
