from __future__ import annotations

import unicodedata

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segqa.data.boxes import Box
from segqa.data.cases import check_cases, check_same_size, find_cases, read_case
from segqa.data.grids import compare_affines, orientation
from segqa.data.reading import Reading
from segqa.data.types import PromptBox, Source
from segqa.errors import InputError


def picture(path, *, size=(8, 6), mask=False, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]) if mask else (size[1], size[0], 3), np.uint8)
    pixels[1:4, 2:5] = 1 if mask else 90
    Image.fromarray(pixels).save(path, **options)
    return path


def mask(path, **options):
    return picture(path, mask=True, **options)


def nifti(path, values, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def names(cases):
    return [case.name for case in cases]


@pytest.fixture
def images(tmp_path):
    return tmp_path / "images"


@pytest.fixture
def masks(tmp_path):
    return tmp_path / "masks"


def test_files_pair_by_stem_whatever_their_ending(images, masks):
    picture(images / "b.PNG")
    picture(images / "a.jpg")
    mask(masks / "a.png")
    mask(masks / "b.tif")
    found = find_cases(images, masks)
    assert names(found) == ["a", "b"]
    assert found[0].masks == {"masks": Source(masks / "a.png")}
    assert check_cases(found) == []


def test_sub_folders_of_masks_are_models(images, masks):
    picture(images / "a.png")
    for model in ("sam", "Modèle 2"):
        mask(masks / model / "a.png")
    (case,) = find_cases(images, masks)
    assert sorted(case.masks) == sorted(["sam", "Modèle 2"])


def test_nested_folders_pair_by_relative_path(images, masks):
    for patient in ("p1", "p2"):
        picture(images / patient / "a.png")
        mask(masks / patient / "a.png")
    found = find_cases(images, masks)
    assert names(found) == ["p1/a", "p2/a"]
    assert list(found[0].masks) == ["masks"]


def test_models_may_be_named_by_the_call(images, masks, tmp_path):
    picture(images / "a.png")
    mask(masks / "a.png")
    mask(tmp_path / "other" / "a.png")
    (case,) = find_cases(images, {"one": masks, "two": tmp_path / "other"})
    assert list(case.masks) == ["one", "two"]


def test_two_single_files_are_a_pair_whatever_their_names(images, masks):
    found = find_cases(picture(images / "a.png"), mask(masks / "prediction.png"))
    assert names(found) == ["a"]
    assert found[0].masks == {"masks": Source(masks / "prediction.png")}


def test_one_image_takes_its_mask_out_of_a_folder(images, masks):
    mask(masks / "a.png")
    mask(masks / "b.png")
    assert names(find_cases(picture(images / "a.png"), masks)) == ["a"]


def test_hidden_files_and_notes_are_no_cases(images, masks):
    picture(images / "a.png")
    mask(masks / "a.png")
    for junk in (".DS_Store", "Thumbs.db", ".hidden/b.png", "__MACOSX/a.png"):
        (images / junk).parent.mkdir(exist_ok=True)
        (images / junk).write_bytes(b"x")
    (masks / "dataset.json").write_text("{}")
    found = find_cases(images, masks)
    assert names(found) == ["a"]
    assert found.ignored == ("dataset.json",)


@pytest.mark.parametrize(
    "name",
    ["-rf", "a b", 'it\'s "quoted"', "ключ", "心🫀", "a.b.c", "line\nbreak", "x:1", "[a]*?", "100%", "1.2.840.5"],
)
def test_any_name_survives(images, masks, name):
    picture(images / f"{name}.png")
    mask(masks / f"{name}.png")
    found = find_cases(images, masks)
    assert names(found) == [name]
    assert read_case(found[0]).image.pixels.shape == (6, 8, 3)


def test_composed_and_decomposed_names_pair(images, masks):
    picture(images / (unicodedata.normalize("NFD", "café") + ".png"))
    mask(masks / (unicodedata.normalize("NFC", "café") + ".png"))
    boxes = {"café": (PromptBox(Box(1, 1, 4, 4)),)}
    (case,) = find_cases(images, masks, boxes=boxes)
    assert case.boxes == boxes["café"]


def test_folders_that_links_lead_to_are_entered_but_not_in_circles(images, masks, tmp_path):
    picture(images / "a.png")
    mask(masks / "first" / "a.png")
    mask(tmp_path / "runs" / "7" / "a.png")
    (masks / "latest").symlink_to(tmp_path / "runs" / "7")
    (masks / "first" / "up").symlink_to(masks)
    (case,) = find_cases(images, masks)
    assert set(case.masks) == {"first", "latest"}


def test_all_files_without_partner_are_named_at_once(images, masks):
    for name in "abcdefgh":
        picture(images / f"{name}.png")
    mask(masks / "a.png")
    mask(masks / "z.png")
    with pytest.raises(InputError, match=r"8 files without partner: b\.png \(no mask of 'masks'\).* and 3 more;"):
        find_cases(images, masks)
    found = find_cases(images, masks, allow_missing=True)
    assert names(found) == ["a"]
    assert len(found.skipped) == 8
    last = found.skipped[-1]
    assert (last.case, last.models, str(last)) == ("z", ("masks",), "z.png (mask of 'masks', no image)")


def test_a_model_that_lacks_a_mask_counts_as_unmatched(images, masks):
    for name in ("a", "b"):
        picture(images / f"{name}.png")
        mask(masks / "sam" / f"{name}.png")
    mask(masks / "unet" / "a.png")
    with pytest.raises(InputError, match=r"1 files .*: b\.png \(no mask of 'unet'\).*; call the shop"):
        find_cases(images, masks, remedy="call the shop")
    assert [list(case.masks) for case in find_cases(images, masks, allow_missing=True)] == [["sam", "unet"], ["sam"]]


def test_a_file_in_a_folder_without_partner_is_named_with_it(images, masks):
    picture(images / "a.png")
    mask(masks / "a.png")
    mask(masks / "sam" / "a.png")
    with pytest.raises(InputError, match=r": sam/a\.png \(mask of 'x', no image\)"):
        find_cases(images, {"x": masks})


def test_files_of_one_name_are_told_apart_by_their_folders(images, masks):
    picture(images / "a.png")
    for model in ("sam", "unet"):
        mask(masks / model / "a.png")
    (masks / "unet" / "a.png").write_bytes((masks / "unet" / "a.png").read_bytes()[:60])
    (case,) = find_cases(images, masks)
    with pytest.raises(InputError, match=r"^unet/a\.png: "):
        read_case(case)


def test_no_common_stem_at_all_is_an_error_even_when_missing_is_allowed(images, masks):
    picture(images / "a.png")
    mask(masks / "b.png")
    with pytest.raises(InputError, match="no image has a mask"):
        find_cases(images, masks, allow_missing=True)


def test_stems_that_are_there_twice_are_listed(images, masks):
    for name in ("a.png", "a.jpg"):
        picture(images / name)
    mask(masks / "a.png")
    with pytest.raises(InputError, match=r"images: 1 stems are there twice: a\.jpg and a\.png"):
        find_cases(images, masks)


def test_missing_and_empty_folders_are_named(images, masks):
    with pytest.raises(InputError, match="images: no such file or folder"):
        find_cases(images, masks)
    images.mkdir()
    masks.mkdir()
    with pytest.raises(InputError, match="images: no pictures"):
        find_cases(images, masks)


def test_nnu_net_channels_are_stripped_where_the_masks_ask_for_it(images, masks):
    for name in ("c1_0000", "c1_0001", "c2_0000"):
        picture(images / f"{name}.png")
    for name in ("c1", "c2"):
        mask(masks / f"{name}.png")
    boxes = {"c1": (PromptBox(Box(0, 0, 2, 2)),), "c2_0000": (PromptBox(Box(1, 1, 3, 3)),)}
    found = find_cases(images, masks, boxes=boxes)
    assert names(found) == ["c1", "c2"]
    assert [case.boxes for case in found] == list(boxes.values())
    assert found.ignored == ("c1_0001.png",)


def test_a_channel_suffix_stays_when_the_masks_have_it_too(images, masks):
    picture(images / "c1_0000.png")
    mask(masks / "c1_0000.png")
    assert names(find_cases(images, masks)) == ["c1_0000"]


def test_boxes_without_image_are_kept_apart_and_refused_when_none_fits(images, masks):
    picture(images / "a.png")
    mask(masks / "a.png")
    box = (PromptBox(Box(0, 0, 2, 2)),)
    found = find_cases(images, masks, boxes={"a": box, "b": box})
    assert found.unused_boxes == ("b",)
    assert found.remarks() == ["the boxes of 1 cases belong to no image: b; the keys must be stems"]
    with pytest.raises(InputError, match="no box belongs to an image: boxes for b, images a"):
        find_cases(images, masks, boxes={"b": box})


def test_images_without_a_box_are_counted_when_there_are_boxes(images, masks):
    for name in ("a.png", "b.png"):
        picture(images / name)
        mask(masks / name)
    assert find_cases(images, masks).remarks() == []
    found = find_cases(images, masks, boxes={"a": (PromptBox(Box(0, 0, 2, 2)),)})
    assert found.remarks() == ["1 of 2 cases have no box; their masks' own boxes are taken"]
    found = find_cases(images, masks, boxes={})
    assert found.remarks() == ["2 of 2 cases have no box; their masks' own boxes are taken"]


def test_the_voxels_of_a_nifti_pair_are_not_left_alone(images, masks):
    for folder in (images, masks):
        folder.mkdir()
        nib.save(nib.Nifti1Pair(np.ones((4, 4, 2), np.uint8), np.eye(4)), folder / "a.hdr")
    (masks / "b.img").write_bytes(b"voxels without a header")
    found = find_cases(images, masks)
    assert len(found) == 2
    assert found.ignored == ("b.img",)


def test_a_box_whose_label_is_a_word_is_remarked_and_counts_as_unlabelled(images, masks):
    picture(images / "a.png")
    mask(masks / "a.png")
    boxes = {"a": (PromptBox(Box(0, 0, 8, 6), "liver"), PromptBox(Box(0, 0, 4, 4), "1"))}
    (case,) = find_cases(images, masks, boxes=boxes)
    loaded = read_case(case)
    remark = "box-label-unknown: 'liver' is no value of a mask; taken as boxes without label"
    assert loaded.image.warnings == [remark]
    assert loaded.boxes == boxes["a"]


def test_headers_tell_every_problem_before_decoding(images, masks):
    for name in "abcd":
        picture(images / f"{name}.png")
        mask(masks / f"{name}.png")
    (images / "a.png").write_bytes(b"")
    mask(masks / "b.png", size=(6, 8))
    (masks / "c.png").unlink()
    mask(masks / "c.jpg")
    found = find_cases(images, masks)
    problems = check_cases(found)
    assert len(problems) == 3
    assert "a.png: empty file" in problems[0]
    assert "transposed" in problems[1]
    assert "JPEG mask" in problems[2]


def test_a_file_that_vanished_is_a_problem(images, masks):
    picture(images / "a.png")
    mask(masks / "a.png")
    found = find_cases(images, masks)
    (masks / "a.png").unlink()
    assert len(check_cases(found)) == 1
    with pytest.raises(InputError, match="no such file"):
        read_case(found[0])


def test_sizes_are_compared_with_both_in_the_message():
    with pytest.raises(InputError, match=r"m\.png: mask 5 x 4, image 9 x 7 .*save the mask"):
        check_same_size((7, 9, 3), (4, 5), Source("i.png"), Source("m.png"))
    check_same_size((7, 9, 3), (7, 9), Source("i.png"), Source("m.png"))


def test_exif_is_ignored_when_only_the_stored_size_fits(images, masks):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(images / "a.jpg", exif=exif)
    mask(masks / "a.png")
    found = find_cases(images, masks)
    assert check_cases(found) == []
    loaded = read_case(found[0])
    assert loaded.image.pixels.shape == (6, 8, 3)
    assert [warning.split(":")[0] for warning in loaded.image.warnings] == ["exif-ignored"]
    mask(masks / "a.png", size=(6, 8))
    assert check_cases(found) == []
    assert read_case(found[0]).image.warnings == ["exif-rotated"]
    picture(images / "a.jpg", size=(7, 7), exif=exif)
    mask(masks / "a.png", size=(7, 7))
    assert read_case(found[0]).image.warnings == ["exif-rotated"]  # of a square both fit


def test_a_read_case_has_its_boxes_inside_the_image(images, masks):
    picture(images / "a.png")
    mask(masks / "a.png")
    (case,) = find_cases(images, masks, boxes={"a": (PromptBox(Box(0, 0, 8, 6), "1"), PromptBox(Box(-1, 0, 15, 6)))})
    with pytest.raises(InputError, match=r"case 'a', box 1: .*outside"):
        read_case(case)
    (case,) = find_cases(images, masks, boxes={"a": (PromptBox(Box(0, 0, 8, 6), "1"),)})
    loaded = read_case(case)
    assert loaded.boxes == case.boxes
    assert set(np.unique(loaded.masks["masks"].pixels)) == {0, 1}


@pytest.fixture
def volume(images, masks):
    """A 5 x 4 x 12 volume with foreground in slices 3 and 7."""
    labels = np.zeros((5, 4, 12), np.uint8)
    labels[1:3, 1:3, 3] = 1
    labels[2, 1, 7] = 2
    values = np.arange(240, dtype=np.int16).reshape(5, 4, 12)
    nifti(images / "v_0000.nii.gz", values)
    nifti(masks / "v.nii.gz", labels)
    return values, labels


def test_a_volume_is_one_case_for_each_slice_with_foreground(images, masks, volume):
    found = find_cases(images, masks)
    assert names(found) == ["v:03", "v:07"]
    assert found.empty_slices == 10
    assert check_cases(found) == []
    loaded = read_case(found[0])
    assert loaded.image.pixels.shape == (4, 5, 3)
    assert np.array_equal(loaded.masks["masks"].pixels, volume[1][:, :, 3].T)


def test_a_label_is_looked_for_in_its_slices_alone(images, masks, volume):
    found = find_cases(images, masks, labels=[1, 2])
    assert [(case.name, case.labels) for case in found] == [("v:03", (1,)), ("v:07", (2,))]
    found = find_cases(images, masks, labels=[2])
    assert names(found) == ["v:07"]
    assert found.empty_slices == 11
    some = find_cases(images, masks, labels=[1, 2], boxes={"v:3": (PromptBox(Box(0, 0, 2, 2), "2"),)})
    assert [(case.name, case.labels) for case in some] == [("v:03", (1, 2)), ("v:07", (2,))]
    other = find_cases(images, masks, labels=[2], boxes={"v:3": (PromptBox(Box(0, 0, 2, 2), "1"),)})
    assert names(other) == ["v:07"]
    unlabelled = find_cases(images, masks, labels=[1, 2], boxes={"v": (PromptBox(Box(0, 0, 2, 2)),)})
    assert [case.labels for case in unlabelled] == [(1, 2), (1, 2)]


def test_what_no_mask_of_a_volume_has_is_missed_in_its_middle_slice(images, masks, volume):
    found = find_cases(images, masks, labels=[2, 9])
    assert [(case.name, case.labels) for case in found] == [("v:06", (9,)), ("v:07", (2,))]
    nifti(masks / "v.nii.gz", np.zeros_like(volume[1]))
    found = find_cases(images, masks, boxes={"v": (PromptBox(Box(0, 0, 2, 2)),)})
    assert [(case.name, len(case.boxes)) for case in found] == [("v:06", 1)]
    assert found.empty_slices == 11
    boxes = {"v:2": (PromptBox(Box(0, 0, 2, 2), "1"),)}
    assert names(find_cases(images, masks, boxes=boxes)) == ["v:02"]
    assert [(one.name, one.labels) for one in find_cases(images, masks, boxes=boxes, labels=[1, 2])] == [
        ("v:02", (1,)),
        ("v:06", (2,)),
    ]


@pytest.mark.parametrize(("asked", "name"), [(1, "v:03"), (255, "v:03"), (2, "v:06")])
def test_the_label_of_a_white_volume_is_found_as_its_masks_are_read(images, masks, volume, asked, name):
    nifti(masks / "v.nii.gz", np.uint8(volume[1] == 1) * np.uint8(255))
    (case,) = find_cases(images, masks, labels=[asked])
    assert case.name == name
    assert (read_case(case, Reading(labels=(asked,))).masks["masks"].pixels == asked).any() == (asked != 2)


def test_another_axis_gives_other_slices(images, masks, volume):
    found = find_cases(images, masks, axis=0)
    with pytest.raises(InputError, match="axis 3: a volume has the axes 0, 1 and 2"):
        find_cases(images, masks, axis=3)
    assert names(found) == ["v:1", "v:2"]
    assert np.array_equal(read_case(found[1]).masks["masks"].pixels, volume[1][2].T)


def test_a_slice_with_a_box_of_its_own_is_a_case(images, masks, volume):
    box, whole = (PromptBox(Box(0, 0, 2, 2)),), (PromptBox(Box(0, 0, 3, 3)),)
    found = find_cases(images, masks, boxes={"v:009": box, "v:3": box, "v": whole, "v:12": box})
    assert [(case.name, case.boxes) for case in found] == [("v:03", box), ("v:07", whole), ("v:09", box)]
    assert found.unused_boxes == ("v:12",)


def test_a_slice_without_boxes_of_its_own_has_those_of_its_volume(images, masks, volume):
    whole = (PromptBox(Box(0, 0, 3, 3)),)
    found = find_cases(images, masks, boxes={"v:3": (), "v:5": (), "v": whole})
    assert [(case.name, case.boxes) for case in found] == [("v:03", whole), ("v:07", whole)]


def test_volumes_of_other_shape_and_flat_masks_are_refused_together(images, masks, volume):
    nifti(images / "w.nii", np.ones((3, 3, 3), np.uint8))
    nifti(masks / "w.nii", np.ones((3, 3, 4), np.uint8))
    nifti(images / "x.nii", np.ones((3, 3, 3), np.uint8))
    mask(masks / "x.png")
    with pytest.raises(InputError, match=r"2 volumes .*w\.nii: mask 3 x 3 x 4, image 3 x 3 x 3.*x\.png: one picture"):
        find_cases(images, masks)


def test_affines_that_differ_are_remarked_on_the_mask(images, masks, volume):
    nifti(masks / "v.nii.gz", volume[1], np.diag([1, 1, 1.5, 1]))
    (remark,) = read_case(find_cases(images, masks)[0]).masks["masks"].warnings
    assert remark.startswith("affine-mismatch: voxels of image and mask are up to 1.5 mm apart")
    nifti(masks / "v.nii.gz", volume[1], np.diag([1, 1, 1.002, 1]))
    assert len(read_case(find_cases(images, masks)[0]).masks["masks"].warnings) == 1
    nifti(masks / "v.nii.gz", volume[1], np.diag([1, 1, 1.0005, 1]))
    assert read_case(find_cases(images, masks)[0]).masks["masks"].warnings == []


def test_affines_are_apart_by_the_distance_at_their_worst_corner():
    mask = np.diag([2.0, 1, 1, 1])
    mask[0, 3] = -10  # 10 mm away at the first voxel, 7 at the last
    assert "up to 10 mm apart" in compare_affines(np.eye(4), mask, [(0, 3)] * 3)


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        ([-1, 1, 1], "up to 10 mm apart; the mask is stored as LAS, the image as RAS"),
        ([1, 1, 2], "up to 5 mm apart)"),
    ],
)
def test_masks_that_lie_elsewhere_are_told_before_anything_is_read(images, masks, turn, said):
    nifti(images / "v.nii", np.ones((6, 6, 6), np.uint8))
    nifti(masks / "v.nii", np.ones((6, 6, 6), np.uint8), np.diag([*turn, 1]))
    (remark,) = find_cases(images, masks).remarks()
    assert remark.startswith("1 masks lie elsewhere than their images: masks/v.nii (voxels of image and mask are ")
    assert said in remark


@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([1, -1])] * 3))
def test_an_orientation_is_what_nibabel_says(order, signs):
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * signs
    affine[:3, :3] += 0.2  # oblique
    assert orientation(affine) == "".join(nib.aff2axcodes(affine))


def test_arrays_are_sliced_as_stored(images, masks):
    images.mkdir()
    masks.mkdir()
    labels = np.zeros((6, 7, 5), np.uint8)
    labels[2:4, 3, 2] = 1
    np.save(images / "a.npy", np.random.default_rng(0).random((6, 7, 5)))
    np.save(masks / "a.npy", labels)
    (case,) = find_cases(images, masks)
    assert case.name == "a:2"
    assert np.array_equal(read_case(case).masks["masks"].pixels, labels[:, :, 2])


def test_medsam_files_are_sliced_along_their_depth(images, masks):
    images.mkdir()
    masks.mkdir()
    values = np.random.default_rng(0).integers(0, 256, (5, 6, 7), dtype=np.uint8)
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[2, 3, 4] = 9
    np.savez_compressed(images / "a.npz", imgs=values, gts=labels)
    np.savez_compressed(masks / "a.npz", segs=labels)
    (case,) = find_cases(images, masks)
    loaded = read_case(case)
    assert case.name == "a:2"
    assert np.array_equal(loaded.image.pixels[:, :, 0], values[2])
    assert np.array_equal(loaded.masks["masks"].pixels, labels[2])


def test_real_volumes_become_cases(shared_data, tmp_path):
    source = shared_data / "volumes3d"
    for kind in ("image", "mask"):
        (tmp_path / kind).mkdir()
        for path in source.glob(f"hippocampus_*_{kind}.nii.gz"):
            (tmp_path / kind / path.name.replace(f"_{kind}", "")).symlink_to(path)
    found = find_cases(tmp_path / "image", tmp_path / "mask")
    assert check_cases(found) == []
    depth = 70
    assert len(found) + found.empty_slices == depth
    for case in found[0], found[len(found) - 1]:
        loaded = read_case(case)
        assert loaded.masks["mask"].pixels.any()
        assert loaded.image.spacing == (1.0, 1.0)
        assert loaded.masks["mask"].warnings == []


def test_real_flat_data_sets_are_paired_and_clean(shared_data):
    folder = shared_data / "sammed2d-demo"
    found = find_cases(folder / "images", folder / "masks")
    assert len(found) == 4
    assert check_cases(found) == []
    assert [read_case(case).image.warnings for case in found] == [[]] * 4


def test_a_single_image_of_nnu_net_has_the_name_of_its_mask(tmp_path):
    for name in ("CASE_000_0000", "CASE_000"):
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    found = find_cases(tmp_path / "CASE_000_0000.png", tmp_path / "CASE_000.png")
    assert [case.name for case in found] == ["CASE_000"]


def test_boxes_of_names_in_a_folder_find_their_image_if_the_name_alone_tells_it(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / folder / f"{name}.png")
    one = (PromptBox(Box(0, 0, 4, 4)),)
    found = find_cases(tmp_path / "images", tmp_path / "masks", boxes={"x/a": one, "x/b": one, "y/b": ()})
    assert [case.boxes for case in found] == [one, ()]
    assert found.unused_boxes == ("x/b", "y/b")


def test_boxes_of_an_image_in_a_folder_are_not_given_to_another_of_its_name(tmp_path):
    for folder in ("images", "images/x", "masks", "masks/x"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / folder / "a.png")
    one = (PromptBox(Box(0, 0, 4, 4)),)
    found = find_cases(tmp_path / "images", tmp_path / "masks", boxes={"x/a": one})
    assert {case.name: case.boxes for case in found} == {"a": (), "x/a": one}
