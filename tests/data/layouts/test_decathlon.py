import json

import nibabel
import numpy as np
import pytest

from segqa.data.layouts.dataset import Finding
from segqa.data.layouts.registry import LAYOUTS, choose_layout
from segqa.errors import InputError


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "Task09_Spleen"
    labels = np.zeros((12, 10, 3), np.uint8)
    labels[2:8, 3:9, 1] = 1
    for folder, voxels in (("imagesTr", labels * 9.0), ("labelsTr", labels)):
        (root / folder).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), root / folder / "spleen_2.nii.gz")
    write(root, [{"image": "./imagesTr/spleen_2.nii.gz", "label": "./labelsTr/spleen_2.nii.gz"}])
    return root


def write(root, training):
    content = {"labels": {"0": "background", "1": "spleen"}, "training": training, "test": ["./imagesTs/x.nii.gz"]}
    (root / "dataset.json").write_text(json.dumps(content))


def read(path):
    name, _ = choose_layout(path, None)
    assert name == "decathlon"
    return LAYOUTS[name].read(path, None, Finding())


@pytest.mark.parametrize("name", ["", "dataset.json"])
def test_the_training_list_becomes_cases(root, name):
    dataset = read(root / name)

    assert (dataset.name, dataset.labels) == ("Task09_Spleen", {1: "spleen"})
    assert [(case.name, case.group) for case in dataset.cases] == [("spleen_2:1", "spleen_2")]
    assert dataset.cases[0].read_truth().labels.sum() == 36


def test_of_several_channel_files_the_first_is_taken(root):
    write(root, [{"image": ["imagesTr/spleen_2.nii.gz", "imagesTr/b.nii.gz"], "label": "labelsTr/spleen_2.nii.gz"}])

    assert read(root).cases[0].image.path.name == "spleen_2.nii.gz"


def test_an_entry_without_image_is_named(root):
    write(root, [{"label": "labelsTr/spleen_2.nii.gz"}])

    with pytest.raises(InputError, match="training entry 0 names no image"):
        read(root)
