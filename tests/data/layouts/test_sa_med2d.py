import json

import pytest

from segqa.data.layouts.dataset import Finding, read_labelled
from segqa.data.layouts.registry import LAYOUTS, choose_layout
from segqa.errors import InputError

STEM = "ct_00--AMOS--amos_0004--z_0075"


@pytest.fixture
def root(tmp_path, draw):
    root = tmp_path / "SAMed2Dv1"
    draw(root / "images" / f"{STEM}.png")
    draw(root / "masks" / f"{STEM}--0005_000.png", (2, 3, 38, 28), values=[255])
    draw(root / "masks" / f"{STEM}--0011_002.png", (10, 10, 20, 20), values=[255])
    return root


def read(root, **options):
    name, _ = choose_layout(root, None)
    assert name == "sa-med2d"
    return LAYOUTS[name].read(root, None, Finding(**options))


def test_all_masks_of_an_image_are_its_objects_whole_though_they_overlap(root):
    (case,) = read(root).cases
    _, truth = read_labelled(case)

    assert (case.name, case.group) == (STEM, "AMOS--amos_0004")
    assert [(one.name, one.value, int(one.mask.sum())) for one in truth.objects] == [
        ("0005_000", 6, 36 * 25),
        ("0011_002", 12, 100),
    ]
    assert (truth.labels == 2).sum() == 100
    assert (truth.labels == 1).sum() == 36 * 25 - 100


def test_files_without_partner_are_refused_or_left_out(root, draw):
    draw(root / "images" / "ct_00--AMOS--amos_0004--z_0076.png")

    with pytest.raises(InputError, match=r"1 files without partner: .*z_0076 \(image without mask\)"):
        read(root)
    assert [gone.reason for gone in read(root, allow_missing=True).left_out] == ["image without mask"]


def test_a_mask_of_another_name_is_refused(root, draw):
    draw(root / "masks" / f"{STEM}--liver.png", (2, 3, 38, 28))

    with pytest.raises(InputError, match="not named MODALITY"):
        LAYOUTS["sa-med2d"].read(root, None, Finding())


@pytest.mark.parametrize("folder", [".", "annotations"])
def test_classes_have_the_names_that_their_source_gives_them(root, draw, folder):
    mapping = {"AMOS": {"liver": "5", "spleen": 11}, "BTCV": {"liver": "5", "aorta": "11"}}
    (root / folder).mkdir(exist_ok=True)
    (root / folder / "SAMed2D_v1_class_mapping_id.json").write_text(json.dumps(mapping))
    assert read(root).labels == {6: "liver", 12: "spleen"}

    other = STEM.replace("AMOS", "BTCV")
    draw(root / "images" / f"{other}.png")
    for number in ("0005_000", "0011_000", "0012_000"):
        draw(root / "masks" / f"{other}--{number}.png", (2, 3, 38, 28), values=[255])
    assert read(root).labels == {
        6: "liver",
        12: "class 0011",
        13: "class 0012",
    }  # of 11 the sources say different things


@pytest.mark.parametrize("content", [["liver"], {"AMOS": ["liver"]}, {"AMOS": {"liver": "five"}}])
def test_names_of_another_form_are_refused(root, content):
    (root / "SAMed2D_v1_class_mapping_id.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"mapping_id\.json: classes by source were expected"):
        read(root)
