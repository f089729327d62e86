import json

import nibabel
import numpy as np
import pytest

from segqa.data.groups import group_of
from segqa.data.layouts.dataset import Finding, read_labelled
from segqa.data.layouts.registry import LAYOUTS, choose_layout
from segqa.errors import InputError


@pytest.fixture
def root(tmp_path, draw):
    root = tmp_path / "hearts"
    for name in ("patient1_frame1_s03", "patient1_frame2_s04", "free"):
        draw(root / "images" / f"{name}.png", (0, 0, 9, 9))
        draw(root / "masks" / f"{name}.png", (2, 3, 20, 21), (25, 5, 39, 25))
    about = {"mask_kind": "semantic", "split": "test", "labels": {"1": "left", "2": "right"}}
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def read(root):
    name, _ = choose_layout(root, None)
    assert name == "segqa"
    return LAYOUTS[name].read(root, None, Finding())


def test_name_split_and_labels_are_those_of_the_description(root):
    dataset = read(root)

    assert (dataset.name, dataset.split, dataset.labels) == ("hearts", "test", {1: "left", 2: "right"})


def test_slices_of_one_patient_are_one_group_without_a_file_of_groups(root):
    assert {case.name: case.group for case in read(root).cases} == {
        "free": "free",
        "patient1_frame1_s03": "patient1",
        "patient1_frame2_s04": "patient1",
    }


@pytest.mark.parametrize(
    ("case", "group"),
    [
        ("patient001_frame01_s06", "patient001"),
        ("patient001_s6", "patient001"),
        ("volume:007", "volume"),
        ("case_12_s03", "case_12"),
        ("case__12_s03", "case__12"),
        ("_001_s03", "_001"),
        ("fold1/case_001_s01", "fold1/case_001"),
        ("p1/a_s01", "p1/a"),
        ("site/brats_s001", "site/brats_s001"),
        ("brats_s001", "brats_s001"),
        ("image_pos12", "image_pos12"),
        ("img_lesions12", "img_lesions12"),
        ("s12", "s12"),
    ],
)
def test_only_an_s_of_its_own_after_another_number_tells_a_slice(case, group):
    assert group_of(case) == group


def test_a_file_of_groups_may_begin_with_a_byte_order_mark(root):
    groups = {"free": "a", "patient1_frame1_s03": "a", "patient1_frame2_s04": "b"}
    (root / "groups.json").write_text(json.dumps(groups), encoding="utf-8-sig")
    assert [case.group for case in read(root).cases] == ["a", "a", "b"]


def test_groups_come_from_their_file_and_none_may_lack(root):
    groups = {"free": "a", "patient1_frame1_s03": "a", "patient1_frame2_s04": "b"}
    (root / "groups.json").write_text(json.dumps(groups))
    assert [case.group for case in read(root).cases] == ["a", "a", "b"]

    del groups["free"]
    (root / "groups.json").write_text(json.dumps(groups))
    with pytest.raises(InputError, match=r"groups.json: 1 cases have no group: free; add them"):
        read(root)


@pytest.fixture
def volumes(tmp_path):
    folder = tmp_path / "spines"
    folder.mkdir()
    labels = np.zeros((20, 20, 4), np.uint8)
    labels[5:15, 5:15, 1:3] = 1
    for name, voxels in (("a_image", labels * 90.0), ("a_mask", labels)):
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / f"{name}.nii.gz")
    entries = [{"id": "a", "image": "a_image.nii.gz", "mask": "a_mask.nii.gz"}]
    (folder / "dataset.json").write_text(json.dumps({"volumes": entries, "split": "train"}))
    return folder


def test_volumes_beside_their_description_are_paired_by_its_list(volumes):
    dataset = read(volumes)

    assert [(case.name, case.group) for case in dataset.cases] == [("a:1", "a"), ("a:2", "a")]
    assert (dataset.name, dataset.split, dataset.empty_slices) == ("spines", "train", 2)
    assert read_labelled(dataset.cases[0])[1].labels.sum() == 100


def test_a_volume_without_mask_is_an_error_of_one_line(volumes):
    (volumes / "dataset.json").write_text(json.dumps({"volumes": [{"id": "a", "image": "a_image.nii.gz"}]}))

    with pytest.raises(InputError, match="volume 0 needs id, image and mask"):
        read(volumes)


def test_real_volumes_are_read(shared_data):
    dataset = read(shared_data / "volumes3d")

    assert len({case.group for case in dataset.cases}) == 5
    image, truth = read_labelled(dataset.cases[len(dataset.cases) // 2])
    assert image.shape[:2] == truth.labels.shape


def test_a_description_that_is_no_object_is_an_error_of_one_line(root):
    (root / "dataset.json").write_text("[1]")

    with pytest.raises(InputError, match="a JSON list where an object was expected"):
        LAYOUTS["segqa"].read(root, None, Finding())


def test_a_case_reads_as_image_and_reference(root, draw):
    image, truth = read_labelled(read(root).cases[0])

    assert image.shape == (30, 40, 3)
    assert (truth.labels == draw(root / "x.npy", (2, 3, 20, 21), (25, 5, 39, 25))).all()


def test_images_and_masks_given_apart_are_recognised_too(root):
    assert choose_layout(root / "images", root / "masks")[0] == "segqa"


def test_every_real_data_set_is_read(shared_data):
    for folder in sorted(shared_data.iterdir()):
        if not (folder / "images").is_dir():
            continue
        dataset = read(folder)
        assert dataset.name == folder.name
        assert dataset.split in ("train", "test", "fixture")
        assert len(dataset.cases) == len(list((folder / "images").iterdir()))
