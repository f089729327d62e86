"""Labelled images that are given as references: which are taken, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from segqa.data.boxes import Box
from segqa.data.cases import Cases, find_cases
from segqa.data.masks import write_mask
from segqa.data.reading import Reading
from segqa.data.types import Case, PromptBox, Source
from segqa.errors import InputError
from segqa.labelled import MIN_PIXELS, _choose, find_labelled, read_examples, same_images, share_boxes
from segqa.quality.preprocessing import Profile
from segqa.quality.scoring import Evaluator
from segqa.quality.weights_file import CheckpointInfo
from segqa.references import MAX_EXAMPLES

SIZE = 40


class Half:
    name = "half"

    def run(self, inputs):
        return np.full((len(inputs), 1), 0.5, np.float32), np.zeros((len(inputs), 1), np.float32)


EVALUATOR = Evaluator(CheckpointInfo(Path("none"), {}, {}, {}), Half(), Profile(size=32), ("dice",))


def draw(*labels, seed=0):
    """Return a picture and squares of 5 x 5 pixels with these labels."""
    picture = np.random.default_rng(seed).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    mask = np.zeros((SIZE, SIZE), np.int32)
    for place, label in enumerate(labels):
        y, x = 7 * (place // 5), 7 * (place % 5)
        mask[y : y + 5, x : x + 5] = label
    return picture, mask


def write(folder, *pictures):
    """Write images and masks with the labels given for each, and return the folder."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for seed, labels in enumerate(pictures):
        picture, mask = draw(*labels, seed=seed)
        PillowImage.fromarray(picture).save(folder / f"images/c{seed:02d}.png")
        write_mask(folder / f"masks/c{seed:02d}.png", mask)
    return folder


NOTHING = Cases(())


def find(folder, *, scored=NOTHING, masks="masks"):
    return find_labelled(folder / "images", folder / masks, scored=scored)


def count(folder, **reading):
    """Return the number of objects and of images or volumes by label."""
    examples = read_examples(find(folder), EVALUATOR, Reading(**reading))
    return {label: (len(some), len({one.group for one in some})) for label, some in examples.items()}


def test_every_label_teaches_with_its_objects(tmp_path):
    assert count(write(tmp_path, (1, 2), (1,), (1, 2))) == {"1": (3, 3), "2": (2, 2)}


def test_only_the_labels_that_are_asked_for_teach(tmp_path):
    assert count(write(tmp_path, (1, 2), (1, 2)), labels=(2,)) == {"2": (2, 2)}


def test_labels_are_told_in_order_of_their_number(tmp_path):
    assert list(count(write(tmp_path, (10, 2), (10, 2)))) == ["2", "10"]


def test_components_are_objects_of_their_own(tmp_path):
    folder = write(tmp_path, (1, 1, 1), (1, 1))
    assert count(folder, objects="components") == {"1": (5, 2)}
    assert count(folder) == {"1": (2, 2)}


def test_a_rare_label_is_found_in_the_few_images_that_have_it(tmp_path):
    pictures = [(1, 2) if place in (17, 41) else (1,) for place in range(60)]
    assert count(write(tmp_path, *pictures)) == {"1": (MAX_EXAMPLES, MAX_EXAMPLES), "2": (2, 2)}


def test_few_images_give_more_objects_each_evenly_spread(tmp_path):
    folder = write(tmp_path, (1,) * 20, (1,) * 20, *[(2,)] * 10)
    assert count(folder, objects="components") == {"1": (MAX_EXAMPLES, 2), "2": (10, 10)}
    chosen = _choose(find(folder), Reading(objects="components"))
    taken = [{int(name) for label, name in chosen[place] if label == "1"} for place in (0, 1)]
    assert [len(names) for names in taken] == [MAX_EXAMPLES // 2] * 2
    assert all({1, 20} <= names for names in taken)


def test_slices_of_a_volume_are_of_one_group(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for name, n_slices in (("scan", 3), ("other", 2)):
        slices = [draw(1, seed=seed) for seed in range(n_slices)]
        for part, planes in (("images", [p[..., 0] for p, _ in slices]), ("masks", [mask for _, mask in slices])):
            volume = np.stack(planes, axis=-1).astype(np.int16)
            nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / part / f"{name}.nii.gz")
    assert count(tmp_path) == {"1": (5, 2)}
    for part in ("images", "masks"):
        (tmp_path / part / "other.nii.gz").unlink()
    with pytest.raises(InputError, match=r"^references: .*: one image or volume alone; .*give more"):
        find(tmp_path)


def test_a_copy_under_another_name_is_no_further_image(tmp_path):
    folder = write(tmp_path, (1,), (1,))
    for part in ("images", "masks"):
        shutil.copy(folder / part / "c00.png", folder / part / "copy.png")
    assert count(folder) == {"1": (3, 2)}


def test_specks_teach_nothing(tmp_path):
    folder = write(tmp_path, (1,), (1,))
    speck = np.zeros((SIZE, SIZE), np.int32)
    for n_pixels in (MIN_PIXELS - 1, MIN_PIXELS):
        speck[0, :n_pixels] = 1
        for name in ("c00", "c01"):
            write_mask(folder / f"masks/{name}.png", speck)
        if n_pixels == MIN_PIXELS:
            assert count(folder) == {"1": (2, 2)}
        else:
            with pytest.raises(
                InputError, match=r"^references: 2 masks have no object of 10 pixels or more; give masks"
            ):
                count(folder)


def test_labels_that_no_reference_has_are_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"^references: 2 masks have no object of the labels 7, 8 of 10 pixels or more"
    ):
        count(write(tmp_path, (1,), (1,)), labels=(7, 8))


def test_masks_of_several_models_are_refused(tmp_path):
    folder = write(tmp_path, (1,), (1,))
    for model in ("sam", "unet"):
        shutil.copytree(folder / "masks", folder / "both" / model)
    with pytest.raises(InputError, match=r"^references: .*both: masks of sam, unet; each image needs one true mask$"):
        find(folder, masks="both")


def test_a_reference_without_mask_is_refused(tmp_path):
    folder = write(tmp_path, (1,), (1,), (1,))
    (folder / "masks/c01.png").unlink()
    with pytest.raises(InputError, match=r"^references: .*c01\.png.*; give each labelled image its mask$"):
        find(folder)


def test_a_reference_that_cannot_be_read_is_refused(tmp_path):
    folder = write(tmp_path, (1,), (1,))
    write_mask(folder / "masks/c01.png", np.zeros((7, 9), np.int32))
    with pytest.raises(InputError, match=r"^references: .*c01\.png.*; mend or remove them$"):
        find(folder)
    shutil.copy(folder / "masks/c00.png", folder / "masks/c01.png")
    path = folder / "images/c01.png"
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(InputError, match=r"^references: images/c01\.png"):
        count(folder)


def test_images_are_no_masks_and_masks_under_test_are_not_true(tmp_path):
    folder = write(tmp_path, (1,), (1,))
    with pytest.raises(InputError, match=r"^references: .*: image and mask are the same file"):
        find(folder, masks="images")
    scored = find_cases(folder / "images", folder / "masks")
    with pytest.raises(
        InputError, match=r"^references: masks/c00\.png, masks/c01\.png: is scored itself; give true masks"
    ):
        find(folder, scored=scored)


def test_images_that_are_references_are_known_also_as_copies(tmp_path):
    labelled = find(write(tmp_path / "labelled", (1,), (1,)))
    other = write(tmp_path / "new", (1,), (1,), (1,))
    shutil.copy(tmp_path / "labelled/images/c01.png", other / "images/c00.png")
    for name, size in (("c01", None), ("c02", (other / "images/c00.png").stat().st_size)):
        content = PillowImage.fromarray(draw(1, seed=9)[0])
        content.save(other / f"images/{name}.png")
        if size is not None:  # as long as the copy, and another picture
            os.truncate(other / f"images/{name}.png", size)
    scored = find_cases(other / "images", other / "masks")
    assert same_images(scored, labelled) == {other / "images/c00.png"}
    assert same_images(labelled, labelled) == {case.image.path for case in labelled}


def test_a_folder_of_slices_is_known_by_its_place(tmp_path):
    def cases(folder):
        folder.mkdir(exist_ok=True)
        return Cases((Case("a", Source(folder), {}),))

    assert same_images(cases(tmp_path / "one"), cases(tmp_path / "one")) == {tmp_path / "one"}
    assert same_images(cases(tmp_path / "one"), cases(tmp_path / "two")) == frozenset()


@pytest.mark.parametrize(
    ("labels", "known", "shared"),
    [
        (("1", "1"), ["1", "2"], True),
        (("1", "2"), ["1", "2"], False),
        ((None, None), ["1"], True),
        ((None, "1"), ["1"], True),
        ((None, None), ["1", "2"], False),
        (("1",), ["1"], False),
        ((), ["1"], False),
    ],
)
def test_boxes_part_a_label_where_several_are_of_it(labels, known, shared):
    boxes = tuple(PromptBox(Box(0, 0, 5, 5), label) for label in labels)
    cases = Cases((Case("a", Source(Path("a")), {}, boxes), Case("b", Source(Path("b")), {})))
    assert share_boxes(cases, known) is shared
