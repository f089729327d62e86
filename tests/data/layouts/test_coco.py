import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segqa.data.layouts.coco import decode_segmentation, fill_polygon
from segqa.data.layouts.dataset import Finding, read_labelled
from segqa.data.layouts.registry import LAYOUTS, choose_layout
from segqa.errors import InputError
from segqa.metrics import dice

SQUARE = [[5, 4, 25, 4, 25, 24, 5, 24]]


def run_lengths(mask):
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


@pytest.fixture
def paths(tmp_path, draw):
    inner = draw(tmp_path / "x.npy", (10, 10, 20, 20)) > 0
    draw(tmp_path / "livers" / "images" / "a.png")
    draw(tmp_path / "livers" / "images" / "b.png")
    content = {
        "categories": [{"id": 7, "name": "liver"}, {"id": 9, "name": "tumour"}],
        "images": [
            {"id": 1, "file_name": "a.png", "height": 30, "width": 40},
            {"id": 2, "file_name": "b.png", "height": 30, "width": 40},
        ],
        "annotations": [
            {"id": 31, "image_id": 1, "category_id": 7, "segmentation": SQUARE},
            {"id": 32, "image_id": 1, "category_id": 9, "segmentation": run_lengths(inner)},
            {"id": 33, "image_id": 1, "category_id": 9, "segmentation": run_lengths(inner), "iscrowd": 1},
            {"id": 34, "image_id": 1, "category_id": 9, "bbox": [1, 2, 3, 4], "segmentation": []},
        ],
    }
    (tmp_path / "livers" / "instances.json").write_text(json.dumps(content))
    return tmp_path / "livers" / "images", tmp_path / "livers" / "instances.json"


def read(paths, **options):
    name, _ = choose_layout(*paths)
    assert name == "coco"
    return LAYOUTS[name].read(*paths, Finding(**options))


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_annotations_become_whole_objects_of_their_category(paths):
    dataset = read(paths)
    _, truth = read_labelled(dataset.cases[0])

    assert (dataset.name, dataset.labels) == ("livers", {7: "liver", 9: "tumour"})
    assert [(one.name, one.value, int(one.mask.sum())) for one in truth.objects] == [("31", 7, 400), ("32", 9, 100)]
    assert not dataset.cases[1].read_truth().labels.any()


def test_a_folder_in_file_name_may_be_missing_on_disk_where_the_name_alone_tells_the_picture(paths):
    def move(content):
        for entry in content["images"]:
            entry["file_name"] = "train/" + entry["file_name"]

    change(paths[1], move)
    assert [case.name for case in read(paths).cases] == ["a", "b"]

    change(paths[1], lambda content: content["images"][1].update(file_name="test/a.png"))
    with pytest.raises(InputError, match=r"2 images are not in .*: train/a\.png, test/a\.png"):
        read(paths)


def test_crowds_and_mere_boxes_are_left_out_with_the_reason(paths):
    assert [(gone.case, gone.object, gone.reason) for gone in read(paths).left_out] == [
        ("a", "33", "a crowd, not one object"),
        ("a", "34", "a box without segmentation"),
    ]


def test_images_that_lack_are_named(paths):
    (paths[0] / "b.png").unlink()

    with pytest.raises(InputError, match=r"1 images are not in .*: b.png"):
        read(paths)
    assert len(read(paths, allow_missing=True).cases) == 1


def test_an_annotation_of_an_unknown_image_is_an_error_of_one_line(paths):
    change(paths[1], lambda content: content["annotations"][0].update(image_id=99))

    with pytest.raises(InputError, match=r"instances.json: annotation 3. belongs to image 99, which is not there"):
        read(paths)


@pytest.mark.parametrize("content", ["[1, 2]", '{"images": []}', '{"images": [{"id": 1}], "annotations": []}'])
def test_a_file_that_is_not_coco_is_an_error_of_one_line(paths, content):
    paths[1].write_text(content)

    with pytest.raises(InputError, match=r"^[^/]+/instances\.json: ") as error:
        read(paths)

    assert "attribute" not in str(error.value)


def test_run_lengths_that_do_not_fill_the_image_are_an_error_of_one_line(paths):
    change(paths[1], lambda content: content["annotations"][1]["segmentation"].update(counts=[5, 5]))

    with pytest.raises(InputError, match=r"a: annotation 32 has no valid segmentation \(run lengths for 10 of 1200"):
        read(paths).cases[0].read_truth()


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_run_lengths_give_the_mask_that_they_were_made_from(mask):
    height, width = mask.shape

    assert (decode_segmentation(run_lengths(mask), height=height, width=width) == mask).all()


def test_compressed_run_lengths_are_read_with_pycocotools():
    codec = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(0).random((30, 40)) > 0.5
    shape = codec.encode(np.asfortranarray(mask.astype(np.uint8)))

    assert (decode_segmentation(shape, height=30, width=40) == mask).all()
    shape["counts"] = shape["counts"].decode()
    assert (decode_segmentation(shape, height=30, width=40) == mask).all()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_polygons_agree_with_pycocotools_up_to_their_edge():
    codec = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(20):
        angles = np.linspace(0, 2 * np.pi, 9)[:-1]
        radii = rng.uniform(12, 45, size=8)
        corners = np.stack([50 + radii * np.cos(angles), 60 + radii * np.sin(angles)], axis=1)
        expected = codec.decode(codec.frPyObjects([corners.ravel().tolist()], 110, 100))[..., 0] > 0
        assert dice(fill_polygon(corners, height=110, width=100), expected) > 0.97


def test_a_polygon_fills_the_pixels_whose_centre_is_inside():
    corners = np.array([[1.0, 1.0], [4.6, 1.0], [4.6, 3.4], [1.0, 3.4]])
    expected = np.zeros((6, 7), bool)
    expected[1:3, 1:5] = True

    assert (fill_polygon(corners, height=6, width=7) == expected).all()


def test_a_polygon_over_the_edge_is_cut():
    corners = np.array([[-5.0, -5.0], [3.0, -5.0], [3.0, 2.0], [-5.0, 2.0]])

    assert fill_polygon(corners, height=4, width=4).sum() == 6
