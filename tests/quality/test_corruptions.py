import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from segqa import metrics
from segqa.quality.corruptions import CORRUPTIONS, corrupt, empty, fill_holes, follow_image, whole_box

ALL = {**CORRUPTIONS, "whole_box": whole_box, "empty": empty, "fill_holes": fill_holes}
N_DRAWS = 25


@pytest.fixture(scope="module")
def disc():
    rows, columns = np.ogrid[:96, :96]
    return (rows - 48) ** 2 + (columns - 46) ** 2 <= 22**2


def results(name, mask):
    return [ALL[name](mask, np.random.default_rng(seed)) for seed in range(N_DRAWS)]


masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


@settings(max_examples=60, deadline=None)
@given(masks, st.sampled_from(sorted(ALL)), st.integers(0, 2**32 - 1))
def test_shape_and_type_are_kept_and_the_input_is_not_changed(mask, name, seed):
    before = mask.copy()
    result = ALL[name](mask, np.random.default_rng(seed))
    assert result.shape == mask.shape
    assert result.dtype == np.bool_
    assert (mask == before).all()


@settings(max_examples=30, deadline=None)
@given(masks, st.integers(0, 2**32 - 1))
def test_the_same_generator_gives_the_same_mistakes(mask, seed):
    first, second = (corrupt(mask, np.random.default_rng(seed)) for _ in range(2))
    assert first.shape == mask.shape
    assert first.dtype == np.bool_
    assert (first == second).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(60, 200), st.integers(0, 2**32 - 1))
def test_a_long_strip_may_be_shifted_out_of_the_picture(height, width, seed):
    for shape in ((height, width), (width, height)):
        moved = CORRUPTIONS["shift"](np.ones(shape, bool), np.random.default_rng(seed))
        assert moved.shape == shape


def test_the_dice_of_the_results_spreads_over_the_whole_range(disc):
    rng = np.random.default_rng(0)
    values = np.array([metrics.dice(corrupt(disc, rng), disc) for _ in range(400)])
    counts = np.histogram(values, bins=5, range=(0, 1))[0]
    assert counts.min() >= 8
    assert values.min() < 0.1
    assert values.max() > 0.95


def test_erode_gives_a_part_of_the_object(disc):
    assert all((mask <= disc).all() and mask.sum() < disc.sum() for mask in results("erode", disc))


def test_dilate_gives_more_than_the_object(disc):
    assert all((mask >= disc).all() and mask.sum() > disc.sum() for mask in results("dilate", disc))


def test_smooth_loses_a_thin_spike_and_keeps_the_body(disc):
    spiky = disc.copy()
    spiky[48, 68:90] = True
    for mask in results("smooth", spiky):
        assert not mask[48, 85]
        assert metrics.dice(mask, disc) > 0.8


def test_wobble_moves_the_boundary_in_and_out(disc):
    added = sum((mask & ~disc).sum() for mask in results("wobble", disc))
    lost = sum((disc & ~mask).sum() for mask in results("wobble", disc))
    assert added > 100
    assert lost > 100


def test_shift_moves_the_object_as_it_is(disc):
    size, middle = np.sqrt(disc.sum()), np.array(ndimage.center_of_mass(disc))
    distances = []
    for mask in results("shift", disc):
        box_sums = np.correlate(mask.sum(axis=1), disc.sum(axis=1), "full").max()
        if mask.sum() == disc.sum():  # nothing left the picture
            assert box_sums == (disc.sum(axis=1) ** 2).sum()  # same profile, moved
            distances.append(np.hypot(*(np.array(ndimage.center_of_mass(mask)) - middle)))
        else:
            assert mask.sum() < disc.sum()
    assert 0 < max(distances) <= size + 1
    assert np.ptp(distances) > size / 4


def test_elastic_keeps_one_smooth_object_of_about_the_size(disc):
    for mask in results("elastic", disc):
        assert 0.2 < mask.sum() / disc.sum() < 3


def test_cut_keeps_what_lies_on_one_side_of_a_line(disc):
    for mask in results("cut", disc):
        assert (mask <= disc).all()
        kept, lost = (np.stack(np.nonzero(part), axis=1) for part in (mask, disc & ~mask))
        assert 0.1 < len(kept) / disc.sum() < 0.97
        normal = kept.mean(axis=0) - lost.mean(axis=0)  # of a cut disc, at right angles to the line
        normal /= np.linalg.norm(normal)
        assert (kept @ normal).min() > (lost @ normal).max() - 3


def test_holes_only_take_away(disc):
    outcomes = results("holes", disc)
    assert all((mask <= disc).all() for mask in outcomes)
    assert sum(mask.sum() < disc.sum() for mask in outcomes) > N_DRAWS // 2


def test_islands_only_add_and_not_far_away(disc):
    outcomes = results("islands", disc)
    assert all((mask >= disc).all() for mask in outcomes)
    assert sum(mask.sum() > disc.sum() for mask in outcomes) > N_DRAWS // 2
    wide = np.pad(disc, 150)
    distance = ndimage.distance_transform_edt(~wide)
    assert all(distance[mask].max() < 3 * np.sqrt(disc.sum()) for mask in results("islands", wide))


def test_blocks_have_straight_steps_of_one_grid(disc):
    for mask in results("blocks", disc):
        rows = np.count_nonzero((mask[1:] != mask[:-1]).any(axis=1))
        smooth_rows = np.count_nonzero((disc[1:] != disc[:-1]).any(axis=1))
        assert rows < 0.75 * smooth_rows  # the outline changes at few rows only
        assert metrics.dice(mask, disc) > 0.6


def test_drop_component_loses_exactly_one_of_several_parts():
    mask = np.zeros((60, 60), bool)
    for corner in (2, 22, 42):
        mask[corner : corner + 10, 5:20] = True
    for outcome in results("drop_component", mask):
        assert ndimage.label(outcome)[1] == 2
        assert outcome.sum() == mask.sum() - 150


def test_drop_component_cuts_an_object_of_one_part(disc):
    assert all(0 < mask.sum() < disc.sum() and (mask <= disc).all() for mask in results("drop_component", disc))


def test_whole_box_is_the_box_or_the_ellipse_in_it():
    mask = np.zeros((50, 60), bool)
    mask[10:30, 20:50] = True
    mask[12:20, 22:40] = False
    areas = {int(outcome.sum()) for outcome in results("whole_box", mask)}
    assert max(areas) == 600
    assert len(areas) == 2
    assert min(areas) == pytest.approx(600 * np.pi / 4, rel=0.02)


def test_empty_is_empty(disc):
    assert not any(mask.any() for mask in results("empty", disc))


def test_corruptions_leave_an_empty_mask_empty():
    nothing = np.zeros((40, 40), bool)
    for name in ALL.keys() - {"wobble"}:  # the noise of which may overshoot anywhere
        assert not any(mask.any() for mask in results(name, nothing)), name


def test_a_chain_goes_on_until_chance_or_an_empty_mask_ends_it(disc):
    rng = np.random.default_rng(1)
    single = np.mean([metrics.dice(corrupt(disc, rng, chain=0.0), disc) for _ in range(60)])
    chained = np.mean([metrics.dice(corrupt(disc, rng, chain=0.9), disc) for _ in range(60)])
    assert chained < single - 0.2


def grey_picture(levels):
    return np.repeat(np.asarray(levels, np.uint8)[..., None], 3, axis=2)


def share_on_edges(mask, levels):
    """Return which share of the mask's boundary (within rows) runs where the picture changes."""
    boundary = mask[:, 1:] != mask[:, :-1]
    steps = np.abs(np.diff(levels.astype(int), axis=1)) > 20
    return (boundary & (steps | np.roll(steps, 1, axis=1) | np.roll(steps, -1, axis=1))).sum() / boundary.sum()


def test_mistakes_that_follow_the_image_end_where_the_picture_changes(disc):
    levels = np.full(disc.shape, 60)
    levels[disc] = 140
    levels[30:60, 60:90] = 140  # something like the object, beside it
    levels[40:50, 30:40] = 60  # something unlike it, within
    drawn = [follow_image(disc, grey_picture(levels), np.random.default_rng(seed)) for seed in range(60)]
    assert any(mask[35:55, 72:85].any() for mask in drawn)
    assert any(not mask[42:48, 32:38].any() for mask in drawn)
    wandering = [corrupt(disc, np.random.default_rng(seed)) for seed in range(60)]
    followed, crossed = ([share_on_edges(m, levels) for m in some if m.any()] for some in (drawn, wandering))
    assert np.mean(followed) > np.mean(crossed) + 0.15


@settings(max_examples=60, deadline=None)
@given(masks, st.integers(0, 2**32 - 1))
def test_following_any_image_keeps_shape_and_type_and_depends_on_the_generator_only(mask, seed):
    image = np.random.default_rng(seed).integers(0, 256, size=(*mask.shape, 3), dtype=np.uint8)
    before = mask.copy()
    one, other = (follow_image(mask, image, np.random.default_rng(seed)) for _ in range(2))
    assert one.shape == mask.shape
    assert one.dtype == np.bool_
    assert (one == other).all()
    assert (mask == before).all()


def test_a_ring_is_filled_and_nothing_of_it_is_lost(disc):
    rows, columns = np.ogrid[:96, :96]
    ring = disc & ((rows - 48) ** 2 + (columns - 46) ** 2 > 15**2)
    for mask in results("fill_holes", ring):
        assert (mask & ring).sum() == ring.sum()
        assert mask[48, 46]
