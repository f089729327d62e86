import nibabel
import numpy as np
import pytest
from PIL import Image

from segqa.data.layouts.dataset import Finding, read_labelled
from segqa.data.layouts.registry import LAYOUTS, choose_layout
from segqa.data.reading import Reading
from segqa.errors import InputError


def read(images, truth=None, **options):
    name, _ = choose_layout(images, truth)
    assert name == "folders"
    return LAYOUTS[name].read(images, truth, Finding(**options))


def test_images_and_references_pair_by_stem(tmp_path, draw):
    draw(tmp_path / "scans" / "a.png")
    labels = draw(tmp_path / "labels" / "a.png", (2, 3, 20, 21))

    dataset = read(tmp_path / "scans", tmp_path / "labels")

    assert [(case.name, case.group) for case in dataset.cases] == [("a", "a")]
    assert (dataset.name, dataset.split) == ("scans", None)
    assert (read_labelled(dataset.cases[0])[1].labels == labels).all()


def test_a_folder_called_images_gives_its_parents_name(tmp_path, draw):
    draw(tmp_path / "livers" / "images" / "a.png")
    draw(tmp_path / "livers" / "masks" / "a.png", (2, 3, 20, 21))

    assert read(tmp_path / "livers").name == "livers"


def test_files_without_partner_are_refused_or_left_out_with_a_reason(tmp_path, draw):
    draw(tmp_path / "scans" / "a.png")
    draw(tmp_path / "scans" / "b.png")
    draw(tmp_path / "labels" / "a.png", (2, 3, 20, 21))

    with pytest.raises(InputError, match=r"1 files without partner: b.png"):
        read(tmp_path / "scans", tmp_path / "labels")
    dataset = read(tmp_path / "scans", tmp_path / "labels", allow_missing=True)

    assert [case.name for case in dataset.cases] == ["a"]
    assert [gone.case for gone in dataset.left_out] == ["b"]


def test_a_volume_becomes_its_slices_with_foreground_in_one_group(tmp_path):
    labels = np.zeros((12, 10, 4), np.uint8)
    labels[2:8, 3:9, 1:3] = 1
    for folder, voxels in (("scans", labels * 50.0), ("labels", labels)):
        (tmp_path / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / folder / "ct.nii.gz")

    dataset = read(tmp_path / "scans", tmp_path / "labels")

    assert [(case.name, case.group) for case in dataset.cases] == [("ct:1", "ct"), ("ct:2", "ct")]
    assert dataset.empty_slices == 2
    assert (read_labelled(dataset.cases[0])[1].labels == labels[..., 1].T).all()


def test_sizes_that_differ_are_refused_when_read(tmp_path, draw):
    draw(tmp_path / "scans" / "a.png")
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.ones((30, 41), np.uint8)).save(tmp_path / "labels" / "a.png")

    with pytest.raises(InputError, match=r"labels/a\.png: mask 41 x 30, image 40 x 30 \(.*, scans/a\.png\)"):
        read_labelled(read(tmp_path / "scans", tmp_path / "labels").cases[0])


def test_16_bit_images_are_scaled_by_their_range_or_the_window(tmp_path, draw):
    draw(tmp_path / "labels" / "a.png", (2, 3, 20, 21))
    (tmp_path / "scans").mkdir()
    deep = np.full((30, 40), 1000, np.uint16)
    deep[0, :2] = 0, 2000
    Image.fromarray(deep).save(tmp_path / "scans" / "a.png")
    case = read(tmp_path / "scans", tmp_path / "labels").cases[0]

    assert read_labelled(case)[0][5, 5, 0] in (127, 128)
    assert read_labelled(case, Reading(window=(1000, 100)))[0][0, 1, 0] == 255
