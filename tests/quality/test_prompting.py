import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from segqa.data.boxes import Box
from segqa.quality.prompting import WRONG_IOU, jitter_box, wrong_box


@st.composite
def boxes_in_images(draw):
    height, width = draw(st.integers(2, 200)), draw(st.integers(2, 200))
    x0, y0 = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
    box = Box(x0, y0, draw(st.integers(x0 + 2, width)), draw(st.integers(y0 + 2, height)))
    return box, height, width, draw(st.integers(0, 2**32 - 1))


@settings(max_examples=60, deadline=None)
@given(boxes_in_images(), st.floats(0, 0.5))
def test_each_edge_moves_by_at_most_the_share_and_stays_in_the_image(scene, share):
    box, height, width, seed = scene
    moved = jitter_box(box, share, height=height, width=width, rng=np.random.default_rng(seed))
    assert moved == moved.clip(height, width)
    assert min(moved.width, moved.height) >= 2
    for ours, theirs, side in (
        (moved.x0, box.x0, box.width),
        (moved.x1, box.x1, box.width),
        (moved.y0, box.y0, box.height),
        (moved.y1, box.y1, box.height),
    ):
        assert abs(ours - theirs) <= share * side + 0.5


def test_no_share_means_no_movement():
    box = Box(3, 4, 30, 40)
    assert jitter_box(box, 0.0, height=50, width=50, rng=np.random.default_rng(0)) == box


@settings(max_examples=60, deadline=None)
@given(boxes_in_images())
def test_a_wrong_box_is_in_the_image_not_tiny_and_elsewhere(scene):
    box, height, width, seed = scene
    wrong = wrong_box(box, height=height, width=width, rng=np.random.default_rng(seed))
    assume(wrong is not None)
    assert wrong == wrong.clip(height, width)
    assert wrong.area >= box.area / 8
    assert wrong.iou(box) < WRONG_IOU


def test_an_image_without_room_has_no_wrong_box():
    tiny = Box(0, 0, 1, 1)
    assert wrong_box(tiny, height=1, width=1, rng=np.random.default_rng(0)) is None


def test_wrong_boxes_lie_near_by_and_far_away():
    box = Box(240, 240, 260, 260)
    drawn = [wrong_box(box, height=500, width=500, rng=np.random.default_rng(seed)) for seed in range(100)]
    distances = [abs(one.x0 - box.x0) + abs(one.y0 - box.y0) for one in drawn if one is not None]
    assert len(distances) > 90
    assert sum(distance < 60 for distance in distances) > 20
    assert sum(distance > 100 for distance in distances) > 20
