import dataclasses

import numpy as np
import pytest

from segqa import metrics
from segqa.data.boxes import Box
from segqa.errors import InputError
from segqa.phantoms import make_phantom
from segqa.quality import sampling
from segqa.quality.corruptions import corrupt
from segqa.quality.preprocessing import Profile, build_input, view_of
from segqa.quality.records import Candidate, Record, pack_masks
from segqa.quality.sampling import Mixture, Sampler, build_example

PROFILE = Profile(size=32)


def phantom_record(seed, *, prompts=("exact", "jittered"), sources=("sam",), dataset="phantoms", outside=0.0):
    """A record whose candidates carry their number as a mask of so many pixels in the corner."""
    rng = np.random.default_rng(seed)
    phantom = make_phantom(rng, side=64)
    labels = phantom.truth.astype(np.uint8)
    truth = labels == 1
    candidates, masks = [], []
    for source in sources:
        for prompt in prompts:
            mask = corrupt(truth, rng)
            box = Box.from_mask(truth)
            dice = metrics.dice(mask, truth)
            candidates.append(Candidate(source, prompt, box, dice, dice / (2 - dice), 1.0, 1.0, None, outside, box))
            masks.append(mask)
    pixels = np.ascontiguousarray(phantom.image[..., :1])
    case = f"case {seed}"
    return Record(case, case, dataset, "1", "1", pixels, labels, outside, tuple(candidates), pack_masks(masks))


@pytest.fixture(scope="module")
def records():
    near = [phantom_record(seed) for seed in range(4)]
    return [*near, phantom_record(9, prompts=("wrong",)), phantom_record(10, dataset="other")]


def sampler(records, *, seed=0, heads=("dice",), **mixture):
    return Sampler(records, PROFILE, heads=heads, mixture=Mixture(**mixture), seed=seed)


def assert_same(one, other):
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_an_example_depends_on_seed_and_number_only(records):
    forwards, backwards = sampler(records), sampler(records)
    first = [forwards.draw(n) for n in range(12)]
    second = [backwards.draw(n) for n in reversed(range(12))][::-1]
    for one, other in zip(first, second, strict=True):
        assert_same(one, other)
    assert any((sampler(records, seed=1).draw(n).inputs != first[n].inputs).any() for n in range(12))
    assert len({float(example.inputs.sum()) for example in first}) >= 11  # an empty mask may come twice


def test_examples_fit_the_network(records):
    for n in range(40):
        example = sampler(records, heads=("dice", "hd95")).draw(n)
        assert example.inputs.shape == (5, 32, 32)
        assert example.truth.shape == (1, 8, 8)
        assert example.targets.shape == (2,)
        assert np.isfinite(example.inputs).all()
        assert 0 <= example.targets.min() <= example.targets.max() <= 1
        assert 0 <= example.truth.min() <= example.truth.max() <= 1


def drawn(monkeypatch, sampler, n):
    """Return what `build_example` was given for the first n examples."""
    given = []

    def listen(*arguments):
        given.append(arguments)
        return build_example(*arguments)

    monkeypatch.setattr(sampling, "build_example", listen)
    return [(sampler.draw(i), given[-1]) for i in range(n)]


def test_the_target_is_the_brute_force_dice_of_what_is_shown(records, monkeypatch):
    for example, (_, truth, mask, *_) in drawn(monkeypatch, sampler(records), 60):
        common = sum(bool(a and b) for a, b in zip(mask.ravel(), truth.ravel(), strict=True))
        total = int(mask.sum()) + int(truth.sum())
        assert example.targets[0] == pytest.approx(2 * common / total if total else 1.0)


def test_area_outside_of_the_record_counts(monkeypatch):
    inside, outside = ([phantom_record(3, outside=area)] for area in (0.0, 500.0))
    plain, more = (
        drawn(monkeypatch, sampler(part, turn=False, vary=False, nested=0), 40) for part in (inside, outside)
    )
    n_lower = 0
    for (one, (_, truth, mask, *_)), (other, given) in zip(plain, more, strict=True):
        area = given[4]
        assert area in (500.0, 1000.0)  # of the object alone, or of object and candidate
        common = float((mask & truth).sum())
        assert other.targets[0] == pytest.approx(2 * common / (float(mask.sum() + truth.sum()) + area), abs=1e-6)
        n_lower += other.targets[0] < one.targets[0]
    assert n_lower > 20


def test_the_target_of_an_unspoilt_candidate_is_its_true_dice(monkeypatch):
    one = phantom_record(5, prompts=("exact",))
    only = {"predictions": 1.0, "spoilt_predictions": 0.0, "wrong": 0.0}
    for example, _ in drawn(monkeypatch, sampler([one], **only), 8):
        assert example.targets[0] == pytest.approx(one.candidates[0].dice)


def test_the_papers_mixture_shows_exact_real_predictions_as_they_are(monkeypatch):
    sources = ("sam", "otsu")
    some = [phantom_record(seed, prompts=("exact", "jittered", "none"), sources=sources) for seed in range(3)]
    some.append(phantom_record(8, prompts=("wrong",)))
    allowed = {
        record.mask(i).tobytes()
        for record in some
        for i, candidate in enumerate(record.candidates)
        if (candidate.source, candidate.prompt) == ("sam", "exact")
    }
    drawing = sampler(some, exact_box_only=True, turn=False, vary=False)
    shown = {given[2].tobytes() for _, given in drawn(monkeypatch, drawing, 60)}
    assert shown == allowed


def test_the_data_sets_without_an_exact_mask_are_named():
    # They may be those to validate with, while the ones to learn from have all that the recipe needs.
    with pytest.raises(InputError, match=r"^phantoms: no record has .* exact box, to learn from or to validate with"):
        sampler([phantom_record(1, prompts=("none",))], exact_box_only=True)


def test_a_reference_has_dice_one_and_an_empty_mask_dice_zero(monkeypatch):
    nothing_else = {"predictions": 0, "spoilt_predictions": 0, "wrong": 0, "swapped": 0, "whole_box": 0}
    one = [phantom_record(2)]
    perfect = drawn(monkeypatch, sampler(one, **nothing_else, empty=0, reference=1), 6)
    assert [float(example.targets[0]) for example, _ in perfect] == [1.0] * 6
    missed = drawn(monkeypatch, sampler(one, **nothing_else, empty=1, reference=0), 6)
    assert [float(example.targets[0]) for example, _ in missed] == [0.0] * 6


def test_a_swapped_object_always_has_a_box(monkeypatch):
    only = {"predictions": 0, "spoilt_predictions": 0, "wrong": 0, "swapped": 1}
    for example, given in drawn(monkeypatch, sampler([phantom_record(2)], **only), 20):
        assert given[3] is not None
        assert example.targets[0] == 0


def test_a_neighbour_is_taken_together_with_the_object_only_when_whole(monkeypatch):
    labels = np.zeros((64, 64), np.uint8)
    labels[20:30, 20:30], labels[30:40, 20:30], labels[0:10, 20:30] = 1, 2, 3
    record = dataclasses.replace(phantom_record(2), labels=labels)
    kinds = ("predictions", "spoilt_predictions", "wrong", "swapped", "confused", "whole_box", "empty")
    nothing_else = dict.fromkeys(kinds, 0)
    drawing = sampler([record], **nothing_else, reference=1, merged=1, nested=0, turn=False, vary=False)
    for example, (_, truth, mask, *_) in drawn(monkeypatch, drawing, 10):
        assert (truth == ((labels == 1) | (labels == 2))).all()
        assert (mask == truth).all()
        assert example.targets[0] == 1
    plain = sampler([record], **nothing_else, reference=1, merged=0, nested=0, turn=False, vary=False)
    assert all((truth == (labels == 1)).all() for _, (_, truth, *_) in drawn(monkeypatch, plain, 5))


def test_a_parted_object_is_judged_by_the_part_that_is_meant(monkeypatch):
    record = phantom_record(2)
    nothing_else = {"predictions": 0, "spoilt_predictions": 0, "wrong": 0, "swapped": 0, "whole_box": 0, "empty": 0}
    drawing = sampler([record], **nothing_else, reference=1, nested=1, confused=0, turn=False, vary=False, recolour=0)
    truths, repainted = set(), 0
    for example, (image, truth, mask, *_) in drawn(monkeypatch, drawing, 24):
        assert example.targets[0] == 1
        assert (mask == truth).all()
        truths.add(int(truth.sum()))
        repainted += bool((image != record.image).any())
    assert len(truths) > 8
    assert repainted > 12


def test_a_confused_mask_holds_the_object_and_another_one_whole(monkeypatch):
    labels = np.zeros((64, 64), np.uint8)
    labels[20:30, 20:30], labels[30:40, 20:30] = 1, 2
    record = dataclasses.replace(phantom_record(2), labels=labels)
    only = {"predictions": 0, "spoilt_predictions": 0, "wrong": 0, "swapped": 0, "merged": 0, "nested": 0}
    drawing = sampler([record], **only, confused=1, turn=False, vary=False)
    for example, (_, truth, mask, *_) in drawn(monkeypatch, drawing, 5):
        assert (truth == (labels == 1)).all()
        assert (mask == (labels > 0)).all()
        assert example.targets[0] == pytest.approx(2 / 3)


def test_a_record_that_cuts_its_object_is_never_parted(monkeypatch):
    cut = phantom_record(2, outside=3.0)
    drawing = sampler([cut], predictions=0, spoilt_predictions=0, wrong=0, nested=1, merged=0, turn=False, vary=False)
    assert all((truth == cut.truth).all() for _, (_, truth, *_) in drawn(monkeypatch, drawing, 10))


def test_the_box_is_left_out_now_and_then(records, monkeypatch):
    boxes = [given[3] for _, given in drawn(monkeypatch, sampler(records), 120)]
    assert 8 < sum(box is None for box in boxes) < 45  # the others of a fifth of 120


def test_small_data_sets_are_drawn_more_often_than_their_share(monkeypatch):
    some = [phantom_record(seed) for seed in range(9)] + [phantom_record(20, dataset="small")]
    drawing = sampler(some, turn=False, vary=False)
    images = [given[0].tobytes() for _, given in drawn(monkeypatch, drawing, 300)]
    share = np.mean([image == some[-1].image.tobytes() for image in images])
    assert share == pytest.approx(1 / (1 + 9**0.25), abs=0.08)  # fourth roots


def test_the_labels_of_a_data_set_are_drawn_alike_however_rare(monkeypatch):
    some = [phantom_record(seed) for seed in range(9)] + [dataclasses.replace(phantom_record(20), label="2")]
    drawing = sampler(some, turn=False, vary=False)
    images = [given[0].tobytes() for _, given in drawn(monkeypatch, drawing, 200)]
    assert np.mean([image == some[-1].image.tobytes() for image in images]) == pytest.approx(0.5, abs=0.1)


def test_the_boxes_of_references_are_mostly_a_little_off(monkeypatch):
    record = phantom_record(2)
    nothing_else = {"predictions": 0, "spoilt_predictions": 0, "wrong": 0, "swapped": 0, "nested": 0, "merged": 0}
    drawing = sampler([record], **nothing_else, without_box=0, turn=False, vary=False)
    own, boxes = Box.from_mask(record.truth), [given[3] for _, given in drawn(monkeypatch, drawing, 60)]
    assert 0.2 < np.mean([box == own for box in boxes]) < 0.6
    assert min(box.iou(own) for box in boxes) > 0.2


def test_nothing_is_found_perfectly_where_nothing_is():
    nothing = np.zeros((20, 20), bool)
    example = build_example(np.zeros((20, 20, 3), np.uint8), nothing, nothing, None, 0.0, PROFILE, ("dice", "hd95"))
    assert example.targets.tolist() == [1, 0]


def test_the_example_is_the_same_psi_as_in_scoring_and_its_truth_is_seen_through_the_same_view():
    phantom = make_phantom(np.random.default_rng(1), side=64)
    truth, box = phantom.truth == 1, Box.from_mask(phantom.truth == 1)
    example = build_example(phantom.image, truth, truth, box, 0.0, PROFILE, ("dice", "hd95"))
    np.testing.assert_array_equal(example.inputs, build_input(phantom.image, truth, box, PROFILE))
    np.testing.assert_array_equal(example.targets, [1, 0])
    coarse = example.inputs[3].reshape(8, 4, 8, 4).mean(axis=(1, 3))  # the mask channel is the truth here
    assert np.abs(coarse - example.truth[0]).max() < 0.35
    assert np.abs(coarse - example.truth[0]).mean() < 0.05


def test_the_distance_target_is_hd95_over_the_views_diagonal():
    truth = np.zeros((64, 64), bool)
    truth[20:40, 20:40] = True
    mask = np.roll(truth, 5, axis=1)
    example = build_example(np.zeros((64, 64, 3), np.uint8), truth, mask, None, 0.0, PROFILE, ("dice", "hd95"))
    side = view_of(mask, None, PROFILE).width
    assert example.targets[1] == pytest.approx(metrics.hd95(mask, truth) / (np.sqrt(2) * side))
    nothing = np.zeros_like(truth)
    example = build_example(np.zeros((64, 64, 3), np.uint8), truth, nothing, None, 0.0, PROFILE, ("dice", "hd95"))
    np.testing.assert_array_equal(example.targets, [0, 1])


def test_a_box_that_lies_outside_of_the_crop_counts_as_none():
    truth = np.zeros((20, 20), bool)
    truth[5:9, 5:9] = True
    image = np.zeros((20, 20, 3), np.uint8)
    away = build_example(image, truth, truth, Box(30, 30, 40, 40), 0.0, PROFILE, ("dice",))
    assert_same(away, build_example(image, truth, truth, None, 0.0, PROFILE, ("dice",)))
