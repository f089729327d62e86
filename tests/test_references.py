"""Labelled images as a second judge: what they teach, what they say of a mask, and how they are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from segqa.data.boxes import Box
from segqa.data.cases import find_cases
from segqa.data.masks import write_mask
from segqa.data.reading import Reading
from segqa.data.types import ObjectMask
from segqa.errors import InputError
from segqa.metrics import dice
from segqa.quality.preprocessing import Profile, build_input
from segqa.quality.scoring import Evaluator
from segqa.quality.weights_file import CheckpointInfo
from segqa.references import JITTER, MAX_EXAMPLES, MIN_PIXELS, VIEW, VIEWS, Example, learn, read_references, see, show
from segqa.spe.engines import SIDE

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
    """A runner that gives every mask the same score."""

    name = "judge"

    def __init__(self, score):
        self.score = score

    def run(self, inputs):
        return np.full((len(inputs), 1), self.score, np.float32), np.zeros((len(inputs), 1), np.float32)


def evaluator(score=0.7):
    return Evaluator(CheckpointInfo(Path("none"), {}, {}, {}), Judge(score), Profile(size=32), ("dice",))


def examples(n=4, *, label=1, score=0.7):
    return [show(*picture(seed, label), evaluator(score), group=f"c{seed}", seed=seed) for seed in range(n)]


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
    own = say(taught, image, labels == 1)
    assert own == say(taught, image, labels == 1, box=Box.around(labels == 1))
    assert own.dice > 0.85


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
            classifier = others.lessons[label].classifier
            for pixels, mask in left_out.views:
                found.append(dice(mask, others.engine.classify(pixels, classifier) > 0.5))
        assert lesson.found == pytest.approx(np.mean(found), abs=1e-6)
        assert lesson.found > 0.85


def test_the_weights_are_inverse_to_the_squared_errors_on_the_true_masks():
    def lesson(score):
        return learn({"1": examples(label=1, score=score)}).lessons["1"]

    found = lesson(0.7).found
    for score in (0.0, 0.7, 0.99):
        expected = (1 - score) ** 2 / ((1 - score) ** 2 + (1 - found) ** 2)
        assert lesson(score).weight == pytest.approx(expected, abs=1e-6)
    assert lesson(1.0).weight == 0.0


def test_where_both_judges_make_no_error_both_have_half_a_say(monkeypatch):
    monkeypatch.setattr("segqa.references._dice", lambda mask, answer: 1.0)
    assert learn({"1": examples(label=1, score=1.0)}).lessons["1"].weight == 0.5


def test_objects_of_one_image_teach_nothing():
    one, other = examples(2)
    assert learn({"1": [one, one, one]}).lessons == {}
    lesson = learn({"1": [one, one, other]}).lessons["1"]
    assert (lesson.n_objects, lesson.n_groups) == (3, 2)


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
        return show(image, mask, evaluator(0.3), group="g", seed=seed)

    views = shown(3).views
    assert len(views) == VIEWS
    np.testing.assert_array_equal(views[0][0], see(image, mask, Box.around(mask))[0])
    assert all((one[0] != views[0][0]).any() for one in views[1:])
    again, other = shown(3).views, shown(4).views
    assert all((one[0] == two[0]).all() for one, two in zip(views, again, strict=True))
    assert any((one[0] != two[0]).any() for one, two in zip(views, other, strict=True))
    assert 0 < JITTER < 0.5
    assert shown(3).group == "g"
    assert shown(3).score == pytest.approx(0.3)


def test_of_many_examples_some_of_all_are_taken(monkeypatch):
    monkeypatch.setattr("segqa.references.MAX_EXAMPLES", 3)
    one = examples(1)[0]
    lesson = learn({"1": [Example(str(number), one.views[:1], 0.5) for number in range(50)]}).lessons["1"]
    assert (lesson.n_objects, lesson.n_groups) == (3, 3)


def write(folder, n=3, **options):
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for seed in range(n):
        image, labels = draw(seed, **options)
        PillowImage.fromarray(image).save(folder / f"images/c{seed}.png")
        write_mask(folder / f"masks/c{seed}.png", labels)
    return folder


def read(folder, reading=None, **options):
    return read_references(folder / "images", folder / "masks", evaluator(), reading=reading or Reading(), **options)


def test_folders_teach_what_their_objects_do(tmp_path):
    found = read(write(tmp_path))
    assert {label: (one.n_objects, one.n_groups) for label, one in found.lessons.items()} == {"1": (3, 3), "2": (3, 3)}
    told = [
        f"label {label} from 3 objects of 3 images, found again with Dice {one.found:.2f}, weight {one.weight:.2f}"
        for label, one in found.lessons.items()
    ]
    assert found.summary() == f"references: {'; '.join(told)}"
    image, labels = draw(77)
    alone = learn({"2": examples(3, label=2)})
    assert say(found, image, labels == 2, label="2") == say(alone, image, labels == 2, label="2")


def test_only_the_labels_that_are_asked_for_are_learnt(tmp_path):
    assert list(read(write(tmp_path), Reading(labels=(2,))).lessons) == ["2"]


def test_labels_are_told_in_order_of_their_number(tmp_path):
    folder = write(tmp_path, n=2)
    for seed in range(2):
        labels = draw(seed)[1]
        write_mask(folder / f"masks/c{seed}.png", np.where(labels == 1, 10, labels))
    assert list(read(folder).lessons) == ["2", "10"]


def test_components_are_objects_of_their_own(tmp_path):
    found = read(write(tmp_path, n=2, n_discs=3), Reading(objects="components"))
    assert found.lessons["1"].n_objects == 6
    assert found.lessons["1"].n_groups == 2


def test_of_a_crowded_image_only_as_many_objects_are_kept_as_are_learnt_from(tmp_path, monkeypatch):
    monkeypatch.setattr("segqa.references.MAX_EXAMPLES", 4)
    shown = []
    monkeypatch.setattr("segqa.references.show", lambda *given, **options: shown.append(1) or show(*given, **options))
    read(write(tmp_path, n=2, n_discs=6), Reading(labels=(1,), objects="components"))
    assert len(shown) == 4
    assert MAX_EXAMPLES > 4


def test_of_very_many_images_some_of_all_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("segqa.references.MAX_CASES", 2)
    assert read(write(tmp_path, n=5)).lessons["1"].n_groups == 2


def test_slices_of_a_volume_are_one_image(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for name, seeds in (("scan", (0, 1, 2)), ("other", (3, 4))):
        slices = [draw(seed) for seed in seeds]
        for part, planes in (("images", [image[..., 0] for image, _ in slices]), ("masks", [one for _, one in slices])):
            volume = np.stack(planes, axis=-1).astype(np.int16)
            nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / part / f"{name}.nii.gz")
    lesson = read(tmp_path).lessons["1"]
    assert (lesson.n_objects, lesson.n_groups) == (5, 2)
    for part in ("images", "masks"):
        (tmp_path / part / "other.nii.gz").unlink()
    with pytest.raises(InputError, match=r"masks: label 1, 2 in fewer than 2 images or volumes; .*give more of them"):
        read(tmp_path)


def test_specks_teach_nothing(tmp_path):
    folder = write(tmp_path, n=2)
    speck = np.zeros((SIZE, SIZE), np.int32)
    speck[0, : MIN_PIXELS - 1] = 1
    for seed in range(2):
        write_mask(folder / f"masks/c{seed}.png", speck)
    with pytest.raises(InputError, match=rf"masks: no object of {MIN_PIXELS} pixels or more; give masks of what") as e:
        read(folder)
    assert "\n" not in str(e.value)
    speck[0, :MIN_PIXELS] = 1
    for seed in range(2):
        write_mask(folder / f"masks/c{seed}.png", speck)
    assert read(folder).lessons["1"].n_objects == 2


def test_labels_that_no_reference_has_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"masks: no object of the labels 7, 8 of 10 pixels or more"):
        read(write(tmp_path), Reading(labels=(7, 8)))


def test_masks_of_several_models_are_refused(tmp_path):
    folder = write(tmp_path)
    for model in ("sam", "unet"):
        shutil.copytree(folder / "masks", folder / "both" / model)
    with pytest.raises(InputError, match=r"both: masks of sam, unet; references have one true mask an image"):
        read_references(folder / "images", folder / "both", evaluator(), reading=Reading())


def test_a_reference_without_mask_is_refused(tmp_path):
    folder = write(tmp_path)
    (folder / "masks/c1.png").unlink()
    with pytest.raises(InputError, match=r"c1\.png.*; references are images with their masks"):
        read(folder)


def test_a_reference_that_cannot_be_read_is_refused(tmp_path):
    folder = write(tmp_path)
    write_mask(folder / "masks/c1.png", np.zeros((7, 9), np.int32))
    with pytest.raises(InputError, match=r"1 references cannot be read: .*c1\.png.*; mend or remove them"):
        read(folder)


def test_images_that_are_references_are_known_also_as_copies(tmp_path):
    folder = write(tmp_path / "labelled")
    found = read(folder)
    other = tmp_path / "new"
    for part in ("images", "masks"):
        (other / part).mkdir(parents=True)
    shutil.copy(folder / "images/c1.png", other / "images/renamed.png")
    PillowImage.fromarray(draw(9)[0]).save(other / "images/unseen.png")
    for name in ("renamed", "unseen"):
        write_mask(other / f"masks/{name}.png", draw(1)[1])
    cases = find_cases(other / "images", other / "masks")
    assert [(case.name, found.hold(case)) for case in cases] == [("renamed", True), ("unseen", False)]
    assert all(found.hold(case) for case in find_cases(folder / "images", folder / "masks"))


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
