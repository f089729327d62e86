import unicodedata

import numpy as np
import pytest
from PIL import Image

from segqa.errors import InputError
from segqa.segmenters.precomputed import open_predictions


@pytest.fixture
def folder(tmp_path):
    mask = np.zeros((8, 10), np.uint8)
    mask[2:5, 3:7] = 1
    mask[6:, :2] = 2
    Image.fromarray(mask).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no mask")
    return tmp_path


def test_a_prediction_is_found_by_its_stem_and_read_as_labels(folder):
    predictions = open_predictions("unet", folder)

    labels = predictions.read("a", size=(8, 10))

    assert predictions.name == "unet"
    assert labels.dtype == np.int32
    assert [(labels == label).sum() for label in (1, 2)] == [12, 4]


def test_cases_without_prediction_are_counted_and_named(folder):
    with pytest.raises(InputError, match="unet: 2 cases have no prediction: b, c"):
        open_predictions("unet", folder).check_complete(["a", "b", "c"])


def test_a_name_in_another_unicode_form_is_the_same_case(folder):
    composed, parted = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))
    (folder / "a.png").rename(folder / f"{parted}.png")

    open_predictions("unet", folder).check_complete([composed])


def test_another_size_than_the_image_is_refused(folder):
    with pytest.raises(InputError, match="10x8 pixels, its image has 20x16"):
        open_predictions("unet", folder).read("a", size=(16, 20))


def test_two_files_of_one_stem_are_refused(folder):
    Image.new("L", (10, 8)).save(folder / "a.bmp")

    with pytest.raises(InputError, match="both the prediction of a"):
        open_predictions("unet", folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder; give the folder that holds the predictions of unet"):
        open_predictions("unet", tmp_path / "nowhere")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no masks in it"):
        open_predictions("unet", tmp_path)
