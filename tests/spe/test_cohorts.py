from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segqa import metrics
from segqa.errors import InputError
from segqa.spe.cohorts import read_predicted, read_training, shrink_image, shrink_mask
from segqa.spe.mapping import SPE_METRICS


def pass_on(cases, _description, _total):
    return cases


def write(folder, maps):
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in maps.items():
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def pictures(names, size=(60, 80)):
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 256, size) for name in names}


def label_map(size=(60, 80), **boxes):
    pixels = np.zeros(size, int)
    for label, (y, x, h, w) in boxes.items():
        pixels[y : y + h, x : x + w] = int(label[1:])
    return pixels


def test_labels_are_the_values_that_occur_and_an_image_without_one_has_an_empty_mask(tmp_path):
    images = write(tmp_path / "images", pictures("ab"))
    masks = {"a": label_map(l1=(10, 10, 20, 20), l4=(40, 40, 15, 20)), "b": label_map(l1=(5, 5, 30, 30))}

    found = read_training(images, write(tmp_path / "masks", masks), watch=pass_on)

    assert found.labels == [1, 4]
    assert found.images.shape == (2, 128, 128, 3)
    assert found.masks.any(axis=(2, 3)).tolist() == [[True, True], [True, False]]


def test_a_mask_keeps_its_share_of_the_frame_when_it_is_shrunk():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:600, :500]
    mask = (x - 250) ** 2 + (y - 300) ** 2 < 100**2

    assert shrink_mask(mask).mean() == pytest.approx(mask.mean(), rel=0.02)
    assert shrink_image(rng.integers(0, 255, (70, 90, 3))).shape == (128, 128, 3)


def test_a_pixel_of_the_canvas_is_foreground_when_half_of_it_is_covered():
    mask = np.zeros((256, 256), bool)
    mask[0, :2] = mask[0, 4] = True

    assert shrink_mask(mask)[0, :3].tolist() == [True, False, False]


def test_predictions_are_measured_at_the_images_own_size(tmp_path):
    images = write(tmp_path / "images", pictures("ab"))
    truth = {"a": label_map(l1=(10, 10, 20, 20)), "b": label_map(l1=(5, 5, 30, 30))}
    models = {
        "one": {"a": label_map(l1=(12, 13, 20, 20)), "b": label_map(l1=(5, 5, 20, 30))},
        "two": {"a": label_map(), "b": label_map(l1=(5, 5, 30, 30))},
    }
    folders = {name: write(tmp_path / "models" / name, maps) for name, maps in models.items()}

    found = read_predicted(images, folders, labels=[1], truth=write(tmp_path / "masks", truth), watch=pass_on)

    expected = metrics.all_metrics(models["one"]["a"] == 1, truth["a"] == 1)
    assert found.real.shape == (2, 2, 1, 6)
    assert found.real[0, 0, 0].tolist() == [expected[name] for name in SPE_METRICS]
    assert found.real[0, 1, 0].tolist() == pytest.approx([0, np.hypot(60, 80), 0, 0, 0, 0])
    np.testing.assert_array_equal(found.mask_of("one", 0)[0], shrink_mask(models["one"]["a"] == 1))


def test_training_images_of_one_patient_have_one_group_also_beside_images_left_out(tmp_path):
    names = ["patient002_frame01_s03", "alone", "patient002_frame02_s03", "patient001_frame01_s01"]
    images = write(tmp_path / "images", pictures(names))
    masks = write(tmp_path / "masks", dict.fromkeys(names, label_map(l1=(5, 5, 30, 30))))

    found = read_training(images, masks, watch=pass_on)

    alone, first, *second = found.groups  # as sorted names
    assert found.groups.shape == (4,)
    assert second[0] == second[1]
    assert len({alone, first, second[0]}) == 3


def test_slices_of_a_volume_with_under_twenty_labelled_pixels_are_left_out(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    labels = np.zeros((32, 32, 4), np.uint8)
    labels[2:12, 2:12, 1] = 1
    labels[2:6, 2:6, 2] = 1
    labels[2:6, 2:7, 3] = 1
    for name, voxels in (("images", rng.integers(0, 255, labels.shape, dtype=np.uint8)), ("masks", labels)):
        (tmp_path / name).mkdir()
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / name / "case.nii.gz")

    found = read_training(tmp_path / "images", tmp_path / "masks", watch=pass_on)

    assert len(found.images) == len(found.groups) == 2
    assert found.groups[0] == found.groups[1]


def test_a_slice_in_which_the_model_finds_nothing_counts_and_a_blank_one_does_not(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    voxels = np.random.default_rng(0).integers(0, 255, (32, 32, 4), dtype=np.uint8)
    voxels[..., 3] = 7  # as padding is
    truth = np.zeros_like(voxels)
    truth[2:12, 2:12, :2] = 1
    truth[2:6, 2:6, 2] = 1  # of 16 pixels, too few to be measured
    found = truth.copy()
    found[..., 1:] = 0
    for name, content in (("images", voxels), ("masks", truth), ("model", found)):
        (tmp_path / name).mkdir()
        nibabel.save(nibabel.Nifti1Image(content, np.eye(4)), tmp_path / name / "case.nii.gz")
    folders = {"model": tmp_path / "model"}

    known = read_predicted(tmp_path / "images", folders, labels=[1], truth=tmp_path / "masks", watch=pass_on)
    blind = read_predicted(tmp_path / "images", folders, labels=[1], truth=None, watch=pass_on)

    assert known.real[:, 0, 0, 0].tolist() == pytest.approx([1, 0, np.nan], nan_ok=True)
    np.testing.assert_array_equal(known.images, blind.images)
    np.testing.assert_array_equal(known.masks["model"], blind.masks["model"])
    assert blind.shown.tolist() == [True, False, False]  # slices 1 and 2 are like no training image


def refuse(said, call):
    with pytest.raises(InputError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_bad_training_data_is_one_line(tmp_path):
    images = write(tmp_path / "images", pictures("ab"))
    empty = write(tmp_path / "empty", {"a": label_map(), "b": label_map()})
    fitting = {"a": label_map(l1=(1, 1, 30, 30)), "b": label_map(l1=(1, 1, 30, 30))}
    other = write(tmp_path / "other", {"a": label_map((30, 30), l1=(1, 1, 9, 9)), "b": fitting["b"]})
    constant = write(tmp_path / "constant", {"a": np.full((60, 80), 7), "b": pictures("b")["b"]})
    lonely = write(tmp_path / "lonely", {"a": fitting["a"]})

    refuse("no foreground in any training mask", lambda: read_training(images, empty, watch=pass_on))
    refuse("30", lambda: read_training(images, other, watch=pass_on))
    masks = write(tmp_path / "masks", fitting)
    refuse("1 of 2 images are constant", lambda: read_training(constant, masks, watch=pass_on))
    refuse("without partner", lambda: read_training(images, lonely, watch=pass_on))


def test_bad_test_data_is_one_line(tmp_path):
    images = write(tmp_path / "images", pictures("ab"))
    truth = write(tmp_path / "masks", dict.fromkeys("ab", label_map(l1=(1, 1, 30, 30))))
    empty = {"m": write(tmp_path / "empty", dict.fromkeys("ab", label_map()))}
    good = {"m": truth}

    refuse(
        "label 2, which the training masks have",
        lambda: read_predicted(images, good, labels=[1, 2], truth=truth, watch=pass_on),
    )
    refuse(
        "label 1: no foreground in any prediction",
        lambda: read_predicted(images, empty, labels=[1], truth=None, watch=pass_on),
    )
