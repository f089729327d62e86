from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segqa.data.boxes import Box, label_number, place_box, read_boxes, write_boxes
from segqa.data.types import PromptBox
from segqa.errors import InputError

positions = st.integers(-1000, 5000)
sizes = st.integers(1, 4000)
boxes = st.builds(lambda x, y, w, h: Box(x, y, x + w, y + h), positions, positions, sizes, sizes)
prompts = st.builds(PromptBox, boxes, st.none() | st.text(max_size=8).filter(lambda text: label_number(text) != 0))
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).map(
    lambda text: unicodedata.normalize("NFC", f"{text}#")
)


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch):
    """Many small files are written here; none has to survive a power cut."""
    monkeypatch.setattr("os.fsync", lambda _: None)


def write(tmp_path, content):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, st.lists(prompts, max_size=4).map(tuple), max_size=4))
def test_written_boxes_read_back_the_same(tmp_path, content):
    path = tmp_path / "boxes.json"
    write_boxes(path, content)
    assert read_boxes(path) == content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(boxes, boxes)
def test_iou_agrees_with_counting_pixels(first, second):
    origin = min(first.x0, second.x0), min(first.y0, second.y0)
    xs = [set(range(box.x0 - origin[0], box.x1 - origin[0])) for box in (first, second)]
    ys = [set(range(box.y0 - origin[1], box.y1 - origin[1])) for box in (first, second)]
    common = len(xs[0] & xs[1]) * len(ys[0] & ys[1])
    assert first.iou(second) == pytest.approx(common / (first.area + second.area - common))


def test_own_form_reads_xyxy_and_xywh_with_labels(tmp_path):
    content = {"format": "xywh", "boxes": {"a.png": [[1, 2, 10, 20], {"box": [5, 5, 2, 2], "label": 3}]}}
    assert read_boxes(write(tmp_path, content)) == {
        "a": (PromptBox(Box(1, 2, 11, 22)), PromptBox(Box(5, 5, 7, 7), "3"))
    }


def test_the_far_corner_of_corner_and_size_is_rounded_and_not_the_size():
    assert Box.from_xywh(1.4, 2.4, 2.4, 1.4) == Box(1, 2, 4, 4)


def test_a_plain_mapping_is_xyxy(tmp_path):
    assert read_boxes(write(tmp_path, {"a": [[1.4, 2.6, 11, 22]]})) == {"a": (PromptBox(Box(1, 3, 11, 22)),)}


def coco(category, name="liver", image=7):
    return {
        "images": [{"id": 7, "file_name": "sub/a.png"}, {"id": 8, "file_name": "b.png"}],
        "annotations": [{"image_id": image, "category_id": category, "bbox": [1, 2, 10, 20]}],
        "categories": [{"id": category, "name": name}, {"id": 9, "name": "spleen"}],
    }


@pytest.mark.parametrize(("name", "label"), [("liver", "2"), ("5", "5")])
def test_coco_is_told_by_its_keys_and_a_category_is_the_label_of_its_number(tmp_path, name, label):
    expected = {"sub/a": (PromptBox(Box(1, 2, 11, 22), label, name),), "b": ()}
    assert read_boxes(write(tmp_path, coco(2, name))) == expected


@pytest.mark.parametrize(("category", "name", "label"), [(0, "polyp", None), (7, "polyp", None), (7, "2", "2")])
def test_the_sole_category_of_a_coco_file_is_no_label_unless_it_is_called_by_one(tmp_path, category, name, label):
    """Such files come with binary masks, and their category has any number."""
    content = coco(category, name)
    del content["categories"][1]
    (box,) = read_boxes(write(tmp_path, content))["sub/a"]
    assert (box.label, box.name) == (label, name)


def test_a_coco_annotation_without_category_has_no_label(tmp_path):
    content = coco(2)
    del content["annotations"][0]["category_id"]
    assert read_boxes(write(tmp_path, content))["sub/a"] == (PromptBox(Box(1, 2, 11, 22)),)


def test_a_coco_annotation_of_an_unknown_image_is_refused_with_its_number(tmp_path):
    with pytest.raises(InputError, match=r"annotation 0: image 9 is not among the images"):
        read_boxes(write(tmp_path, coco(2, image=9)))


@pytest.mark.parametrize("label", [0, "0", "00"])
def test_a_box_of_the_background_is_refused(tmp_path, label):
    with pytest.raises(InputError, match=r"case 'a', box 0: label 0 is the background; .* above 0"):
        read_boxes(write(tmp_path, {"a": [{"box": [1, 2, 3, 4], "label": label}]}))


@pytest.mark.parametrize(("category", "name"), [(0, "liver"), (1, "0")])
def test_a_coco_category_of_the_background_is_refused(tmp_path, category, name):
    with pytest.raises(InputError, match="annotation 0: label 0 is the background"):
        read_boxes(write(tmp_path, coco(category, name)))


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text('{"boxes": {"a": [[1, 2, 3, 4]], "b": [], "a": []}}')
    with pytest.raises(InputError, match=r"boxes\.json: the key 'a' stands twice"):
        read_boxes(path)


def test_unknown_keys_beside_the_boxes_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"unknown keys 'Format', 'type' beside 'boxes'"):
        read_boxes(write(tmp_path, {"type": "xywh", "Format": "xywh", "boxes": {"a": [[1, 2, 3, 4]]}}))


@pytest.mark.parametrize(
    ("entry", "fact"),
    [
        ([10, 10, 5, 20], "no area .*xywh"),
        ([10, 10, 10, 20], "no area"),
        ([0.1, 0.1, 0.5, 0.5], "normalised"),
        ([0.0, 0.0, 1.0, 1.0], "normalised"),
        ([float("nan"), 0, 1, 1], "not finite"),
        ([0, 0, 1e20, 1], "beyond any image"),
        (["1", 2, 3, 4], "four numbers"),
        ([1, 2, 3], "four numbers"),
        ([1, 2, 3, True], "four numbers"),
        (7, "four numbers"),
        ({"label": "liver"}, "four numbers"),
    ],
)
def test_bad_boxes_name_case_and_index(tmp_path, entry, fact):
    with pytest.raises(InputError, match=f"case 'a', box 1: .*{fact}"):
        read_boxes(write(tmp_path, {"boxes": {"a": [[0, 0, 5, 5], entry]}}))


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("{", "not JSON"),
        ("[]", "JSON list"),
        ('{"a": 3}', "list of boxes"),
        ('{"boxes": {}, "format": "yx"}', "'yx'"),
    ],
)
def test_files_that_are_no_boxes_are_refused(tmp_path, text, fact):
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(InputError, match=fact):
        read_boxes(path)


def test_the_same_case_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="'a' twice"):
        read_boxes(write(tmp_path, {"a.png": [], "a.jpg": []}))


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_boxes(tmp_path / "none.json")


def test_unknown_keys_of_a_box_are_refused_with_case_and_index(tmp_path):
    (tmp_path / "boxes.json").write_text('{"a": [[1, 1, 5, 5], {"box": [1, 2, 3, 4], "class": 1}]}')
    with pytest.raises(InputError, match=r"case 'a', box 1: unknown keys 'class'; a box has 'box' and perhaps 'label'"):
        read_boxes(tmp_path / "boxes.json")


def test_a_box_over_the_edge_is_clipped_with_a_remark():
    assert place_box(Box(0, 0, 20, 20), 30, 30) == (Box(0, 0, 20, 20), [])
    placed, remarks = place_box(Box(-1, 0, 20, 20), 30, 30)
    assert placed == Box(0, 0, 20, 20)
    assert remarks[0].startswith("box-clipped")


@pytest.mark.parametrize("box", [Box(-3, 0, 20, 20), Box(40, 40, 50, 50)])
def test_a_box_that_is_mostly_or_wholly_outside_is_refused(box):
    with pytest.raises(InputError, match=r"case a: .*outside of the image"):
        place_box(box, 30, 30, name="case a")


@pytest.mark.parametrize("box", [Box(5, 5, 5, 20), Box(60, 60, 60, 60), Box(20, 5, 10, 9)])
def test_a_box_without_area_is_refused(box):
    with pytest.raises(InputError, match=r"box 0: \(.*\) has no area"):
        place_box(box, 50, 50, name="box 0")


def test_the_tight_box_of_a_mask_is_half_open():
    mask = np.zeros((6, 8), bool)
    mask[2:5, 3:7] = True
    assert Box.from_mask(mask) == Box(3, 2, 7, 5)
    assert Box.from_mask(np.zeros((6, 8), bool)) is None
