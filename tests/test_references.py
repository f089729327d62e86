"""Labelled images as a second judge: what they teach, what they say of a mask, and how they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from segqa.data.boxes import Box
from segqa.data.types import ObjectMask
from segqa.metrics import dice
from segqa.quality.preprocessing import Profile, build_input
from segqa.quality.scoring import Evaluator
from segqa.quality.weights_file import CheckpointInfo
from segqa.references import JITTER, VIEW, VIEWS, Example, learn, see, show
from segqa.spe.engines import SIDE
from segqa.spe.readout import _Features

SIZE = 96


def draw(seed, *, n_discs=1):
    """Return a noisy picture `(SIZE, SIZE, 3)` and its labels: bright discs are 1, a dark ring around each is 2."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[:SIZE, :SIZE]
    picture = np.full((SIZE, SIZE), 110.0)
    labels = np.zeros((SIZE, SIZE), np.int32)
    for number in range(n_discs):
        y, x = (SIZE * (number + 0.5) / n_discs, SIZE / 2) if n_discs > 1 else rng.uniform(35, 61, 2)
        distance = np.hypot(rows - y, columns - x)
        radius = 9 if n_discs == 1 else 2.5
        for label, reach, value in ((2, 1.9 * radius, 40), (1, radius, 210)):
            labels[distance <= reach] = label
            picture[distance <= reach] = value
    picture = np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8)
    return np.repeat(picture[..., None], 3, axis=2), labels


class Judge:
    """A runner that gives every mask the same score, and another where no box is shown."""

    name = "judge"

    def __init__(self, score, without):
        self.scores = np.array([without, score], np.float32)

    def run(self, inputs):
        has_box = inputs[:, 4].any(axis=(1, 2))
        return self.scores[has_box.astype(int)][:, None], np.zeros((len(inputs), 1), np.float32)


def evaluator(score=0.7, without=0.4):
    return Evaluator(CheckpointInfo(Path("none"), {}, {}, {}), Judge(score, without), Profile(size=32), ("dice",))


def examples(n=4, *, label=1, **scores):
    return [show(*picture(seed, label), evaluator(**scores), group=f"c{seed}", seed=seed) for seed in range(n)]


def picture(seed, label):
    image, labels = draw(seed)
    return image, labels == label


@pytest.fixture(scope="module")
def taught():
    return learn({"1": examples(label=1), "2": examples(label=2)})


def say(references, image, mask, *, label="1", box=None):
    return references.judge(image, ObjectMask("1", label, mask, box))


def test_a_right_mask_agrees_with_the_references_and_that_of_its_neighbour_does_not(taught):
    image, labels = draw(77)
    box = Box.around(labels > 0)
    for label, other in (("1", 2), ("2", 1)):
        assert say(taught, image, labels == int(label), label=label, box=box).dice > 0.85
        assert say(taught, image, labels == other, label=label, box=box).dice < 0.3


def test_agreement_falls_with_the_true_dice(taught):
    image, labels = draw(78)
    truth = labels == 1
    shifted = [say(taught, image, np.roll(truth, n, axis=1), box=Box.around(truth)).dice for n in (0, 4, 8, 16)]
    assert shifted == sorted(shifted, reverse=True)
    assert shifted[-1] < 0.4


def test_without_a_box_the_masks_own_is_taken(taught):
    image, labels = draw(79)
    own = say(taught, image, labels == 1).dice
    assert own == say(taught, image, labels == 1, box=Box.around(labels == 1)).dice
    assert own > 0.85


def test_of_a_label_that_the_references_lack_there_is_no_opinion(taught):
    image, labels = draw(0)
    assert say(taught, image, labels == 1, label="3") is None


def test_an_empty_mask_misses_everything(taught):
    image, labels = draw(0)
    assert say(taught, image, np.zeros_like(labels, bool), box=Box.around(labels == 1)).dice == 0.0


def test_an_object_is_found_again_by_what_the_other_images_teach(taught):
    for label, lesson in taught.lessons.items():
        known = examples(label=int(label))
        found = []
        for left_out in known:
            others = learn({label: [one for one in known if one is not left_out]})
            pixels, mask = left_out.views[0]
            found.append(dice(mask, others.engine.classify(pixels, others.lessons[label].classifier) > 0.5))
        assert lesson.found == pytest.approx(np.mean(found), abs=1e-6)
        assert lesson.found > 0.85


def test_leaving_out_sums_nothing_anew(monkeypatch):
    pulled = []
    pull = _Features.pull
    monkeypatch.setattr(_Features, "pull", lambda self, mask: pulled.append(1) or pull(self, mask))

    learn({"1": examples(5)})

    assert len(pulled) == 2 * 5 * VIEWS  # once to leave out each image, once to learn from all


def test_the_weights_are_inverse_to_the_squared_errors_on_the_true_masks():
    for score, without in ((0.0, 0.5), (0.7, 0.2), (1.0, 0.99)):
        lesson = learn({"1": examples(score=score, without=without)}).lessons["1"]
        for said, weight in zip((score, without), lesson.weights, strict=True):
            expected = (1 - said) ** 2 / ((1 - said) ** 2 + (1 - lesson.found) ** 2)
            assert weight == pytest.approx(expected, abs=1e-6)


def test_an_opinion_has_the_weight_of_masks_with_or_without_a_box():
    found = learn({"1": examples(score=0.9, without=0.3)})
    image, labels = draw(77)
    with_box, without = found.lessons["1"].weights
    assert with_box < without
    assert say(found, image, labels == 1, box=Box.around(labels == 1)).weight == with_box
    assert say(found, image, labels == 1).weight == without


def test_where_both_judges_make_no_error_both_have_half_a_say(monkeypatch):
    monkeypatch.setattr("segqa.references._dice", lambda mask, answer: 1.0)
    assert learn({"1": examples(score=1.0, without=1.0)}).lessons["1"].weights == (0.5, 0.5)


def test_objects_of_one_image_teach_nothing():
    one, other = examples(2)
    found = learn({"1": [one, one, one], "2": [one, one, other]})
    assert found.doubts() == [
        "label 1 of the references is in fewer than 2 labelled images or volumes, give more of them"
    ]
    assert list(found.lessons) == ["2"]
    assert (found.lessons["2"].n_objects, found.lessons["2"].n_groups) == (3, 2)


def test_what_is_not_found_again_teaches_nothing():
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(3)]
    specks = [noise.uniform(size=(SIZE, SIZE)) < 0.02 for _ in range(3)]
    shown = [
        show(image, mask, evaluator(), group=str(seed), seed=seed)
        for seed, (image, mask) in enumerate(zip(pictures, specks, strict=True))
    ]
    found = learn({"1": shown, "2": examples(label=2)})
    assert list(found.lessons) == ["2"]
    assert len(found.doubts()) == 1
    assert found.doubts()[0].startswith("label 1 of the references is not found again (Dice 0.0")
    assert "--objects components" in found.doubts()[0]
    assert say(found, pictures[0], specks[0]) is None


def test_views_are_those_of_the_shipped_evaluators_in_8_bits():
    image, mask = picture(1, 1)
    box = Box.around(mask)
    pixels, seen = see(image, mask, box)
    planes = build_input(image, mask, box, VIEW)
    assert pixels.shape == (SIDE, SIDE, 3)
    assert pixels.dtype == np.uint8
    middle = planes[:, SIDE // 2, SIDE // 2]
    np.testing.assert_allclose(pixels[SIDE // 2, SIDE // 2], np.clip(middle[:3] * 50 + 128, 0, 255), atol=1)
    np.testing.assert_array_equal(seen, planes[3] > 0.5)


def test_an_object_is_shown_in_its_own_box_and_in_moved_ones():
    image, mask = picture(2, 1)

    def shown(seed):
        return show(image, mask, evaluator(0.3, 1.2), group="g", seed=seed)

    views = shown(3).views
    assert len(views) == VIEWS
    np.testing.assert_array_equal(views[0][0], see(image, mask, Box.around(mask))[0])
    assert all((one[0] != views[0][0]).any() for one in views[1:])
    again, other = shown(3).views, shown(4).views
    assert all((one[0] == two[0]).all() for one, two in zip(views, again, strict=True))
    assert any((one[0] != two[0]).any() for one, two in zip(views, other, strict=True))
    assert 0 < JITTER < 0.5
    assert shown(3).group == "g"
    assert shown(3).scores == pytest.approx((0.3, 1.0))  # a network without bounds says more than 1


def test_each_label_has_a_line_on_what_came_of_it(taught):
    one = taught.lessons["2"]
    assert taught.summary()[1] == (
        f"label 2: 4 objects of 4 labelled images, found again with Dice {one.found:.2f}; "
        f"weight {one.weights[0]:.2f}, of masks without a box {one.weights[1]:.2f}"
    )


def test_whoever_watches_sees_each_label_pass():
    seen = []

    def watch(labels, text, total):
        seen.append((text, total))
        for label in labels:
            seen.append(label)
            yield label

    known = {"1": examples(2), "2": examples(2, label=2), "3": examples(1)}
    assert learn(known, watch=watch).lessons.keys() == learn(known).lessons.keys() == {"1", "2"}
    assert seen == [("labels learnt", 3), "1", "2", "3"]


def test_nothing_is_kept_of_what_was_learnt_from(taught):
    assert not taught.engine._features


def test_of_many_examples_some_of_all_are_taken(monkeypatch):
    monkeypatch.setattr("segqa.references.MAX_EXAMPLES", 3)
    one = examples(1)[0]
    lesson = learn({"1": [Example(str(number), one.views[:1], (0.5, 0.5)) for number in range(50)]}).lessons["1"]
    assert (lesson.n_objects, lesson.n_groups) == (3, 3)


def test_of_chest_x_rays_references_tell_heart_from_lungs(shared_data):
    folder = shared_data / "jsrt-chest-xray"
    names = sorted(path.stem for path in (folder / "images").iterdir())[:12]
    pictures = {name: np.asarray(PillowImage.open(folder / f"images/{name}.png").convert("RGB")) for name in names}
    truths = {name: np.asarray(PillowImage.open(folder / f"masks/{name}.png")) for name in names}
    shown = {
        str(label): [
            show(pictures[name], truths[name] == label, evaluator(), group=name, seed=seed)
            for seed, name in enumerate(names[:6])
        ]
        for label in (1, 2)
    }
    found = learn(shown)
    assert all(lesson.found > 0.8 for lesson in found.lessons.values())
    for name in names[6:]:
        heart = truths[name] == 2
        box = Box.around(heart)
        right = say(found, pictures[name], heart, label="2", box=box).dice
        lungs_there = say(found, pictures[name], truths[name] == 1, label="2", box=box).dice
        shifted = say(
            found, pictures[name], np.roll(heart, heart.sum(axis=1).max() // 2, axis=1), label="2", box=box
        ).dice
        assert right > 0.8 > 0.6 > max(lungs_there, shifted)
