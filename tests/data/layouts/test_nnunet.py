import json

import pytest

from segqa.data.layouts.dataset import Finding, read_labelled
from segqa.data.layouts.registry import LAYOUTS, choose_layout


@pytest.fixture
def root(tmp_path, draw):
    root = tmp_path / "Dataset004_Hippo"
    draw(root / "imagesTr" / "hippo_001_0000.png", (0, 0, 5, 5))
    draw(root / "imagesTr" / "hippo_001_0001.png")
    draw(root / "labelsTr" / "hippo_001.png", (2, 3, 20, 21), (25, 5, 39, 25))
    content = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "front": 1, "ignore": 2}}
    (root / "dataset.json").write_text(json.dumps(content | {"training": [], "file_ending": ".png"}))
    return root


@pytest.mark.parametrize("parts", [False, True])
def test_the_first_channel_and_its_labels_become_a_case(root, parts):
    paths = (root / "imagesTr", root / "labelsTr") if parts else (root, None)
    name, why = choose_layout(*paths)
    dataset = LAYOUTS[name].read(*paths, Finding())

    assert name == "nnunet"
    assert "_0000" in why
    assert (dataset.name, dataset.labels) == ("Dataset004_Hippo", {1: "front"})
    assert [case.name for case in dataset.cases] == ["hippo_001"]
    assert dataset.cases[0].image.path.name == "hippo_001_0000.png"


def test_pixels_that_nobody_annotated_are_no_object(root):
    dataset = LAYOUTS["nnunet"].read(root, None, Finding())
    _, truth = read_labelled(dataset.cases[0])

    assert set(truth.labels.ravel()) == {0, 1}
