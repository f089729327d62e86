import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segqa.data.boxes import Box
from segqa.data.types import PromptBox
from segqa.quality.prompting import centre_point, match_boxes

NAMES = [{"1", "liver"}, {"2", "spleen"}]
LEFT, RIGHT = Box(0, 0, 10, 10), Box(20, 0, 30, 10)


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any))
def test_the_centre_point_lies_on_the_object(mask):
    x, y = centre_point(mask)

    assert mask[int(y), int(x)]


def test_the_centre_of_a_box_is_its_middle_pixel():
    mask = np.zeros((20, 30), bool)
    mask[5:10, 10:21] = True

    assert centre_point(mask) == (15.5, 7.5)


def test_the_centre_of_a_ring_is_on_the_ring():
    rows, columns = np.mgrid[:41, :41]
    radius = np.hypot(rows - 20, columns - 20)
    ring = (radius > 10) & (radius < 15)

    x, y = centre_point(ring)

    assert 10 < np.hypot(y - 20.5, x - 20.5) < 15


def test_each_object_gets_the_box_that_overlaps_it_most():
    prompts = [PromptBox(Box(19, 0, 30, 11)), PromptBox(Box(1, 1, 12, 12))]

    assert match_boxes(prompts, [LEFT, RIGHT], NAMES) == [Box(1, 1, 12, 12), Box(19, 0, 30, 11)]


def test_a_box_with_a_label_goes_to_that_label_only():
    prompts = [PromptBox(Box(1, 0, 10, 10), "spleen"), PromptBox(Box(5, 5, 15, 15), "1")]

    assert match_boxes(prompts, [LEFT, RIGHT], NAMES) == [Box(5, 5, 15, 15), None]


def test_a_box_is_given_once():
    assert match_boxes([PromptBox(LEFT)], [LEFT, LEFT], NAMES).count(None) == 1


def test_without_boxes_no_object_has_one():
    assert match_boxes([], [LEFT, RIGHT], NAMES) == [None, None]


def test_a_box_of_coco_goes_to_the_label_of_its_number_or_of_its_name():
    prompts = [PromptBox(LEFT, "7", name="liver"), PromptBox(RIGHT, "2", name="kidney")]
    assert match_boxes(prompts, [LEFT, RIGHT], [{"1", "liver"}, {"2", "spleen"}]) == [LEFT, RIGHT]
