import numpy as np
import pytest

from segqa.data.boxes import Box
from segqa.data.layouts.dataset import Finding, read_labelled
from segqa.data.layouts.registry import LAYOUTS, choose_layout
from segqa.errors import InputError


def read(path):
    name, _ = choose_layout(path, None)
    assert name == "medsam-npz"
    return LAYOUTS[name].read(path, None, Finding())


def test_a_flat_file_is_a_case_with_its_boxes(tmp_path, draw):
    labels = draw(tmp_path / "x.npy", (2, 3, 20, 21), (25, 5, 39, 25))
    image = np.repeat(labels[..., None] * 40, 3, axis=2)
    np.savez(tmp_path / "2DBox_a.npz", imgs=image, gts=labels, boxes=np.array([[2, 3, 20, 21], [25, 5, 39, 25]]))

    (case,) = read(tmp_path).cases
    picture, truth = read_labelled(case)

    assert (picture == image).all()
    assert (truth.labels == labels).all()
    assert [prompt.box for prompt in case.boxes] == [Box(2, 3, 20, 21), Box(25, 5, 39, 25)]


def test_a_volume_becomes_its_slices_with_foreground(tmp_path, draw):
    labels = np.stack([draw(tmp_path / "x.npy"), draw(tmp_path / "x.npy", (2, 3, 20, 21))])
    np.savez(tmp_path / "CT_liver.npz", imgs=labels * 40, gts=labels, spacing=np.ones(3))

    dataset = read(tmp_path)

    assert [(case.name, case.group) for case in dataset.cases] == [("CT_liver:1", "CT_liver")]
    assert (read_labelled(dataset.cases[0])[1].labels == labels[1]).all()
    assert dataset.empty_slices == 1


def test_a_file_without_reference_is_left_out_with_the_reason(tmp_path, draw):
    labels = draw(tmp_path / "x.npy", (2, 3, 20, 21))
    np.savez(tmp_path / "a.npz", imgs=labels, gts=labels)
    np.savez(tmp_path / "b.npz", imgs=labels)

    dataset = read(tmp_path)

    assert [case.name for case in dataset.cases] == ["a"]
    assert [(gone.case, "gts" in gone.reason) for gone in dataset.left_out] == [("b", True)]


def test_python_objects_are_refused(tmp_path, draw):
    labels = draw(tmp_path / "x.npy", (2, 3, 20, 21))
    np.savez(tmp_path / "a.npz", imgs=labels, gts=labels, boxes=np.array([{"x": 1}], dtype=object))

    with pytest.raises(InputError, match=r"a\.npz"):
        read(tmp_path)
