import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segqa.data.boxes import Box
from segqa.quality.augmentation import apply_symmetry, random_symmetry, recolour_objects, turn_box, vary_picture


@st.composite
def boxes(draw):
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return height, width, Box(x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height)))


@settings(deadline=None)
@given(boxes(), st.integers(0, 3), st.booleans())
def test_a_turned_box_is_where_its_pixels_went(scene, turns, mirror):
    height, width, box = scene
    mask = np.zeros((height, width), bool)
    mask[box.y0 : box.y1, box.x0 : box.x1] = True
    turned = apply_symmetry(mask, (turns, mirror))
    assert turn_box(box, (turns, mirror), height=height, width=width) == Box.from_mask(turned)
    assert turned.sum() == mask.sum()


def test_a_picture_turns_as_its_mask_does():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, size=(5, 8), dtype=np.uint8)
    image = np.repeat(grey[..., None], 3, axis=2)
    for turns in range(4):
        for mirror in (False, True):
            assert (apply_symmetry(image, (turns, mirror))[..., 1] == apply_symmetry(grey, (turns, mirror))).all()


def test_all_eight_symmetries_are_drawn():
    rng = np.random.default_rng(0)
    assert len({random_symmetry(rng) for _ in range(200)}) == 8


def test_a_varied_picture_keeps_shape_and_type_and_depends_on_the_generator_only():
    image = np.random.default_rng(0).integers(0, 256, size=(30, 41, 3), dtype=np.uint8)
    before = image.copy()
    n_changed = 0
    for seed in range(40):
        first, second = (vary_picture(image, np.random.default_rng(seed)) for _ in range(2))
        assert first.shape == image.shape
        assert first.dtype == np.uint8
        assert (first == second).all()
        n_changed += int((first != image).any())
    assert n_changed > 25
    assert (image == before).all()


def test_a_tiny_picture_can_be_varied():
    for seed in range(60):
        assert vary_picture(np.full((1, 1, 3), 200, np.uint8), np.random.default_rng(seed)).shape == (1, 1, 3)


def test_recolouring_changes_the_contrast_of_objects_and_keeps_where_they_meet():
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 20:] = 1
    labels[:, 40:] = 2
    image = np.repeat((60 + 40 * labels)[..., None], 3, axis=2).astype(np.uint8)
    orders = set()
    for seed in range(40):
        first, second = (recolour_objects(image, labels, np.random.default_rng(seed)) for _ in range(2))
        assert first.shape == image.shape
        assert first.dtype == np.uint8
        assert (first == second).all()
        levels = [int(first[20, column, 0]) for column in (8, 30, 52)]
        orders.add(tuple(np.argsort(levels)))
        for start in (0, 20, 40):  # even within each object, away from its edges
            assert np.ptp(first[:, start + 7 : start + 13].astype(int)) <= 6
    assert len(orders) > 3
    assert (image[:, 30] == 100).all()
