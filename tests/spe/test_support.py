from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segqa.spe.support import LADDER, MIN_PIXELS, choose_support, draw_orders, support_sizes


def masks_of(areas):
    masks = np.zeros((len(areas), 128, 128), bool)
    for mask, area in zip(masks, areas, strict=True):
        mask.flat[:area] = True
    return masks


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 64), st.integers(0, 5))
def test_a_support_set_has_only_usable_masks_and_as_many_as_it_may(areas, size, seed):
    order = draw_orders(len(areas), repeats=1, seed=seed)[0]

    rows = choose_support(masks_of(areas), order, size=size)

    usable = [i for i, area in enumerate(areas) if area >= MIN_PIXELS]
    assert len(rows) == min(size, len(usable))
    assert set(rows) <= set(usable)
    assert list(rows) == sorted(set(rows))


def test_ten_pixels_are_enough_and_nine_are_not():
    rows = choose_support(masks_of([9, 10, 11]), np.array([0, 1, 2]))

    assert rows.tolist() == [1, 2]


def test_models_share_their_draws_where_both_masks_are_usable():
    order = draw_orders(100, repeats=1)[0]
    full, one_lost = masks_of([50] * 100), masks_of([50] * 99 + [0])

    first, second = (set(choose_support(masks, order, size=20).tolist()) for masks in (full, one_lost))

    assert len(first & second) >= 19


def test_orders_repeat_with_the_seed_and_differ_between_draws():
    a, b, other = draw_orders(30), draw_orders(30), draw_orders(30, seed=1)

    assert a.shape == (6, 30)
    assert (a == b).all()
    assert (a != other).any()
    assert len({row.tobytes() for row in a}) == 6
    assert (np.sort(a, axis=1) == np.arange(30)).all()


@pytest.mark.parametrize(
    ("n", "limit", "many", "sizes"),
    [
        (1000, 64, True, list(LADDER)),
        (49, 64, True, [24, 8]),
        (49, 64, False, [49]),
        (1000, 64, False, [64]),
        (1000, 20, True, [20, 8]),
        (1000, 100, True, [100, *LADDER]),
        (5, 64, True, [5]),
    ],
)
def test_the_sizes_that_a_mapping_is_fitted_for(n, limit, many, sizes):
    assert support_sizes(n, limit=limit, many=many) == sizes
