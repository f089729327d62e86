from __future__ import annotations

import gzip
import struct
import threading
from collections import OrderedDict

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from segqa.data import volumes
from segqa.data.cases import find_cases, read_case
from segqa.data.images import read_image
from segqa.data.intensities import value_limits
from segqa.data.masks import read_mask
from segqa.data.types import Source
from segqa.errors import InputError


def nifti(path, values, zooms=None):
    image = nib.Nifti1Image(values, np.eye(4))
    if zooms:
        image.header.set_zooms(zooms)
    nib.save(image, path)
    return path


def patch(path, offset, content):
    data = bytearray(path.read_bytes())
    data[offset : offset + len(content)] = content
    path.write_bytes(bytes(data))


def dicom(path, values, *, series="1.2.3", number=1, z=0.0, **tags):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID, dataset.InstanceNumber = series, number
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, z]
    dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.25], 2
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.PixelData = values.astype(np.int16).tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def ramp():
    return np.arange(20, dtype=np.int16).reshape(4, 5) * 100


def test_slices_of_a_volume_share_a_scale(tmp_path):
    values = np.zeros((10, 10, 4), np.int16)
    values[:, :, 1] = 500
    values[:, :, 2:] = np.arange(1000).repeat(2).reshape(1000, 2)[:100].reshape(10, 10, 2) * 10
    path = nifti(tmp_path / "a.nii.gz", values)
    low, high = np.percentile(values, (0.5, 99.5))
    picture = read_image(Source(path, 1))
    assert picture.pixels[0, 0, 0] == round((500 - low) / (high - low) * 255)
    assert read_image(Source(path, 1), window=(500, 1000)).pixels[0, 0, 0] in (127, 128)


def test_a_nifti_slice_has_x_to_the_right_and_its_spacing(tmp_path):
    labels = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(np.uint8)
    path = nifti(tmp_path / "a.nii", labels, (0.5, 0.7, 2.0))
    picture = read_mask(Source(path, 2))
    assert np.array_equal(picture.pixels, labels[:, :, 2].T)
    assert picture.spacing == pytest.approx((0.7, 0.5))
    other = read_mask(Source(path, 1, axis=0))
    assert np.array_equal(other.pixels, labels[1].T)
    assert other.spacing == pytest.approx((2.0, 0.7))


def test_a_flat_nifti_needs_no_slice_and_scaling_is_applied(tmp_path):
    image = nib.Nifti1Image(np.array([[0, 1], [2, 4]], np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "a.nii")
    patch(tmp_path / "a.nii", 112, struct.pack("<ff", 0.5, 3))
    picture = read_image(Source(tmp_path / "a.nii"), window=(4, 2))
    assert picture.pixels[:, :, 0].tolist() == [[0, 128], [64, 255]]


def test_a_volume_without_slice_or_with_a_wrong_one_is_refused(tmp_path):
    path = nifti(tmp_path / "a.nii", np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(InputError, match="a volume of 3 slices"):
        read_image(Source(path))
    with pytest.raises(InputError, match="no slice 3 among 3"):
        read_mask(Source(path, 3))


def test_four_dimensions_are_refused_unless_the_last_is_one(tmp_path):
    path = nifti(tmp_path / "a.nii", np.zeros((3, 4, 5, 2), np.uint8))
    with pytest.raises(InputError, match=r"4-D \(3 x 4 x 5 x 2\)"):
        read_image(Source(path, 0))
    nifti(path, np.zeros((3, 4, 5, 1), np.uint8))
    assert read_image(Source(path, 0)).pixels.shape == (4, 3, 3)


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan")])
def test_voxel_sizes_that_are_not_positive_are_refused(tmp_path, size):
    path = nifti(tmp_path / "a.nii", np.zeros((3, 3, 3), np.uint8))
    patch(path, 80, struct.pack("<f", size))
    with pytest.raises(InputError, match=r"voxel size .*not all above 0"):
        read_mask(Source(path, 0))


def test_vectors_and_colours_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.complex64), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="voxels of type complex64"):
        read_image(Source(tmp_path / "a.nii", 0))


def test_a_truncated_gzip_is_refused(tmp_path):
    values = np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16)
    path = nifti(tmp_path / "a.nii.gz", values)
    whole = path.read_bytes()
    for size in (100, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"a\.nii\.gz: (truncated|cannot be decoded)"):
            read_image(Source(path, 0))


def test_plain_nifti_named_gz_says_how_to_rename(tmp_path):
    nifti(tmp_path / "a.nii", np.zeros((3, 3, 3), np.uint8)).rename(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"not gzip; rename it to \.nii"):
        read_image(Source(tmp_path / "a.nii.gz", 0))


def test_a_gzip_bomb_is_refused_from_its_header(tmp_path):
    path = nifti(tmp_path / "a.nii", np.zeros((3, 3, 3), np.uint8))
    patch(path, 42, struct.pack("<hhh", 30000, 30000, 30000))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match=r"27000000000000 pixels"):
        read_image(Source(tmp_path / "a.nii.gz", 0))


def test_a_size_that_wraps_around_is_refused(tmp_path):
    header = nib.Nifti2Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)).header
    header["dim"][1:4] = 2**32, 2**32, 1
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(40))
    with pytest.raises(InputError, match=r"18446744073709551616 pixels"):
        read_image(Source(tmp_path / "a.nii", 0))


def test_nan_in_a_volume_names_the_slice(tmp_path):
    values = np.ones((3, 3, 3), np.float32)
    values[0, 1, 2] = np.nan
    path = nifti(tmp_path / "a.nii", values)
    with pytest.raises(InputError, match=r"a\.nii\[2\]: 1 NaN .*\(1, 0\)"):
        read_image(Source(path, 2))
    assert read_image(Source(path, 1)).warnings == []


def test_a_volume_is_decoded_once_for_all_slices_and_threads(tmp_path, monkeypatch):
    path = nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).random((30, 30, 12)).astype(np.float32))
    calls = []
    original = volumes.read_nifti
    monkeypatch.setattr(volumes, "read_nifti", lambda *args: calls.append(1) or original(*args))
    threads = [threading.Thread(target=read_image, args=(Source(path, index),)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_only_the_last_few_volumes_are_kept(tmp_path, monkeypatch):
    paths = [nifti(tmp_path / f"{name}.nii", np.ones((3, 3, 2), np.uint8)) for name in "abc"]
    monkeypatch.setattr(volumes, "_remembered", 2)
    monkeypatch.setattr(volumes, "_slots", OrderedDict())
    calls = []
    original = volumes.read_nifti
    monkeypatch.setattr(volumes, "read_nifti", lambda path, grid: calls.append(path.stem) or original(path, grid))
    for number in (0, 1, 0, 2, 0, 1):
        read_image(Source(paths[number], 0))
    assert calls == ["a", "b", "c", "b"]


def test_the_volumes_of_many_models_are_decoded_once_each(tmp_path, monkeypatch):
    """Slice by slice all of them are asked for in turns."""
    mask = np.ones((6, 6, 3), np.uint8)
    models = {f"m{number:02d}": nifti(tmp_path / f"m{number:02d}.nii", mask) for number in range(30)}
    cases = find_cases(nifti(tmp_path / "image.nii", mask), models)
    calls = []
    original = volumes.read_nifti
    monkeypatch.setattr(volumes, "read_nifti", lambda *args: calls.append(1) or original(*args))
    for case in cases:
        read_case(case)
    assert len(cases) == 3
    assert len(calls) == 1  # the image; the masks were decoded to find the slices


def test_the_labels_of_a_volume_cost_no_percentiles(tmp_path, monkeypatch):
    path = nifti(tmp_path / "a.nii", np.ones((3, 3, 2), np.uint8))
    monkeypatch.setattr(volumes, "value_limits", lambda *_args, **_more: pytest.fail("limits of a mask"))
    assert read_mask(Source(path, 0)).pixels.all()


def test_the_range_of_a_volume_does_not_depend_on_its_order_in_memory():
    values = np.random.default_rng(0).integers(-1000, 3000, (20, 30, 10)).astype(np.int16)
    limits = [value_limits(np.asarray(values, order=order), percentiles=(0.5, 99.5)) for order in ("C", "F")]
    assert limits[0] == limits[1] == tuple(np.percentile(values, (0.5, 99.5)))


def test_a_volume_of_background_with_a_speck_is_shown_from_least_to_largest():
    values = np.zeros(1000, np.int16)
    values[7] = 50
    assert value_limits(values, percentiles=(0.5, 99.5)) == (0, 50)


def test_a_changed_volume_is_decoded_again(tmp_path):
    path = nifti(tmp_path / "a.nii", np.zeros((3, 3, 2), np.uint8))
    assert not read_mask(Source(path, 0)).pixels.any()
    nifti(path, np.ones((3, 3, 3), np.uint8))
    assert read_mask(Source(path, 0)).pixels.all()


def test_dicom_is_rescaled_and_shown_in_its_own_window(tmp_path, ramp):
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 0, "WindowWidth": 2000}
    picture = read_image(Source(dicom(tmp_path / "a.dcm", ramp, **tags)))
    expected = np.rint(np.clip((ramp * 2.0 - 1000 + 1000) / 2000 * 255, 0, 255))
    assert np.array_equal(picture.pixels[:, :, 0], expected)
    assert picture.spacing == (0.5, 0.25)
    given = read_image(Source(tmp_path / "a.dcm"), window=(500, 100))
    assert set(np.unique(given.pixels)) == {0, 255} | set(np.unique(given.pixels[(given.pixels > 0)]))


def test_dicom_without_window_goes_from_least_to_largest(tmp_path, ramp):
    pixels = read_image(Source(dicom(tmp_path / "a.dcm", ramp))).pixels
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert pixels.shape == (4, 5, 3)


def test_monochrome1_is_inverted(tmp_path, ramp):
    plain = read_image(Source(dicom(tmp_path / "a.dcm", ramp))).pixels
    inverted = read_image(Source(dicom(tmp_path / "b.dcm", ramp, PhotometricInterpretation="MONOCHROME1"))).pixels
    assert np.array_equal(inverted, 255 - plain)


def test_colour_dicom_keeps_its_colours(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsAllocated": 8}
    tags |= {"BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "PixelData": colors.tobytes()}
    path = dicom(tmp_path / "a.dcm", np.zeros((4, 6)), **tags)
    assert np.array_equal(read_image(Source(path)).pixels, colors)


def test_a_palette_dicom_shows_the_colours_of_its_palette(tmp_path):
    indices = np.random.default_rng(0).integers(0, 4, (4, 6), dtype=np.uint8)
    colors = np.random.default_rng(1).integers(0, 2**16, (4, 3)).astype(np.uint16)
    tags = {"PhotometricInterpretation": "PALETTE COLOR", "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    tags |= {"PixelRepresentation": 0, "PixelData": indices.tobytes()}
    for name, column in zip(("Red", "Green", "Blue"), colors.T, strict=True):
        tags |= {f"{name}PaletteColorLookupTableDescriptor": [4, 0, 16]}
        tags |= {f"{name}PaletteColorLookupTableData": column.tobytes()}
    path = dicom(tmp_path / "a.dcm", indices, **tags)
    assert np.array_equal(read_image(Source(path)).pixels, (colors >> 8)[indices])


def test_dicom_masks_and_frames(tmp_path):
    frames = np.zeros((3, 4, 5), np.int16)
    frames[1, 2, 3] = 7
    image = dicom(tmp_path / "images" / "a.dcm", frames + 5, NumberOfFrames=3)
    dicom(tmp_path / "masks" / "a.dcm", frames, NumberOfFrames=3)
    (case,) = find_cases(image.parent, tmp_path / "masks")
    assert case.name == "a:1"
    assert np.array_equal(read_case(case).masks["masks"].pixels, frames[1])


def test_a_series_is_a_volume_sorted_by_position(tmp_path):
    labels = np.zeros((4, 5, 6), np.int16)
    labels[1, 2, 4] = 3
    for number in range(6):
        name = f"{(number * 5) % 6}.dcm"  # names in another order than positions
        dicom(tmp_path / "images" / "p1" / name, np.full((4, 5), 10 * number), z=3.0 * number, number=9 - number)
        dicom(tmp_path / "masks" / "p1" / name, labels[:, :, number], z=3.0 * number, series="1.2.4")
    (case,) = find_cases(tmp_path / "images", tmp_path / "masks")
    loaded = read_case(case)
    assert case.name == "p1:4"
    assert np.array_equal(loaded.masks["masks"].pixels, labels[:, :, 4])
    low, high = np.percentile(np.repeat(np.arange(6) * 10, 20), (0.5, 99.5))
    assert loaded.image.pixels[0, 0, 0] == round((40 - low) / (high - low) * 255)
    assert loaded.masks["masks"].warnings == []


def test_a_series_pairs_with_a_nifti_and_its_affine_agrees(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (4, 5, 3)).astype(np.int16)
    for number in range(3):
        # Slices are as far apart as their places say, however thick they are.
        dicom(tmp_path / "images" / "p1" / f"{number}.dcm", values[:, :, number], z=2.0 * number, SliceThickness=5)
    affine = np.diag([-0.25, -0.5, 2.0, 1.0])
    (tmp_path / "masks").mkdir()
    labels = (values > 50).astype(np.uint8).transpose(1, 0, 2)
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "masks" / "p1.nii.gz")
    found = find_cases(tmp_path / "images", tmp_path / "masks")
    assert [case.name for case in found] == ["p1:0", "p1:1", "p1:2"]
    loaded = read_case(found[1])
    assert np.array_equal(loaded.masks["masks"].pixels, values[:, :, 1] > 50)
    assert loaded.masks["masks"].warnings == []
    (single,) = find_cases(tmp_path / "images" / "p1", tmp_path / "masks" / "p1.nii.gz").cases[:1]
    assert single.name == "p1:0"


def groups(**tags):
    """Return functional groups by their sequence, with the attributes of each."""
    found = pydicom.Dataset()
    for name, attributes in tags.items():
        group = pydicom.Dataset()
        for keyword, value in attributes.items():
            setattr(group, keyword, value)
        setattr(found, name, [group])
    return found


def enhanced(path, frames, shared, own):
    """Write an enhanced file: it says nothing of geometry, window and rescaling at its top."""
    dicom(path, frames, NumberOfFrames=len(frames), SharedFunctionalGroupsSequence=[shared])
    dataset = pydicom.dcmread(path)
    for name in ("PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(dataset, name)
    dataset.PerFrameFunctionalGroupsSequence = own
    dataset.save_as(path)


UPRIGHT = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
MEASURES = {"PixelSpacing": [0.5, 0.25], "SliceThickness": 2}


@pytest.mark.parametrize("window", [None, (0, 800)])
def test_an_enhanced_file_shows_what_its_classic_series_shows(tmp_path, window):
    stored = np.random.default_rng(0).integers(0, 400, (3, 4, 5))
    slopes, zs = (2, 3, 5), (6.0, 0.0, 3.0)
    for number in range(3):
        tags = {"RescaleSlope": slopes[number], "RescaleIntercept": -1000, "WindowCenter": -600, "WindowWidth": 700}
        dicom(tmp_path / "series" / f"{number}.dcm", stored[number], z=zs[number], **tags)
    shared = groups(
        PixelMeasuresSequence=MEASURES,
        PlaneOrientationSequence=UPRIGHT,
        FrameVOILUTSequence={"WindowCenter": -600, "WindowWidth": 700},
    )
    own = [
        groups(
            PlanePositionSequence={"ImagePositionPatient": [0, 0, z]},
            PixelValueTransformationSequence={"RescaleSlope": slope, "RescaleIntercept": -1000},
        )
        for slope, z in zip(slopes, zs, strict=True)
    ]
    enhanced(tmp_path / "e.dcm", stored, shared, own)
    for index in range(3):
        classic = read_image(Source(tmp_path / "series", index), window=window)
        picture = read_image(Source(tmp_path / "e.dcm", index), window=window)
        assert len(np.unique(classic.pixels)) > 2
        assert np.array_equal(picture.pixels, classic.pixels)
        assert np.array_equal(picture.affine, classic.affine)
        assert picture.spacing == classic.spacing == (0.5, 0.25)
        assert picture.warnings == ["frames-sorted: by position, not as the file holds them"]


def test_what_an_enhanced_file_shares_holds_for_all_frames_and_its_first_window_is_taken(tmp_path):
    stored = np.arange(40).reshape(2, 4, 5)
    shared = groups(PixelValueTransformationSequence={"RescaleSlope": 10, "RescaleIntercept": -100})
    own = [groups(FrameVOILUTSequence={"WindowCenter": centre, "WindowWidth": 400}) for centre in (100, 900)]
    enhanced(tmp_path / "e.dcm", stored, shared, own)
    for index in range(2):
        expected = (stored[index] * 10.0 - 100 + 100) / 400 * 255
        assert np.abs(read_image(Source(tmp_path / "e.dcm", index)).pixels[:, :, 0] - expected).max() < 0.51


def test_a_folder_of_one_enhanced_file_is_that_file_and_one_of_two_is_refused(tmp_path):
    stored = np.arange(60).reshape(3, 4, 5)
    enhanced(tmp_path / "p1" / "a.dcm", stored, pydicom.Dataset(), [pydicom.Dataset()] * 3)
    for index in range(3):
        expected = read_image(Source(tmp_path / "p1" / "a.dcm", index)).pixels
        assert np.array_equal(read_image(Source(tmp_path / "p1", index)).pixels, expected)
    enhanced(tmp_path / "p1" / "b.dcm", stored, pydicom.Dataset(), [pydicom.Dataset()] * 3)
    with pytest.raises(InputError, match="p1: 2 files, some of many frames; put each of these into its own folder"):
        read_image(Source(tmp_path / "p1", 0))


def test_frames_in_one_place_stay_as_they_are_stored(tmp_path):
    stored = np.stack([np.full((4, 5), value) for value in (0, 30, 10, 20)])
    shared = groups(PixelMeasuresSequence=MEASURES, PlaneOrientationSequence=UPRIGHT)
    own = [groups(PlanePositionSequence={"ImagePositionPatient": [0, 0, z]}) for z in (5, 0, 5, 0)]
    enhanced(tmp_path / "e.dcm", stored, shared, own)
    pictures = [read_image(Source(tmp_path / "e.dcm", index), window=(15, 30)) for index in range(4)]
    assert [picture.pixels[0, 0, 0] for picture in pictures] == [0, 255, 85, 170]
    assert [picture.warnings for picture in pictures] == [[]] * 4


def test_an_enhanced_file_with_a_group_too_few_is_refused(tmp_path):
    own = [groups(PixelValueTransformationSequence={"RescaleSlope": 1, "RescaleIntercept": 0})] * 2
    enhanced(tmp_path / "e.dcm", np.zeros((3, 4, 5)), pydicom.Dataset(), own)
    with pytest.raises(InputError, match=r"e\.dcm: 2 functional groups for 3 frames"):
        read_image(Source(tmp_path / "e.dcm", 0))


@pytest.mark.parametrize(("places", "is_remarked"), [((0, 5, 15), True), ((0, 5.1, 10), False), ((0, 5, 5), True)])
def test_a_series_that_lacks_a_slice_is_remarked_on_image_and_mask(tmp_path, places, is_remarked):
    for index, z in enumerate(places):
        dicom(tmp_path / "p1" / f"{index}.dcm", np.eye(4), z=float(z))
    for picture in (read_image(Source(tmp_path / "p1", 0)), read_mask(Source(tmp_path / "p1", 0))):
        found = [warning for warning in picture.warnings if warning.startswith("uneven-slices: ")]
        assert bool(found) == is_remarked
    if places[-1] == 15:
        assert found == ["uneven-slices: 5 to 10 mm apart; is a slice missing?"]


def test_a_single_pixel_spacing_is_refused(tmp_path, ramp):
    path = dicom(tmp_path / "a.dcm", ramp, PixelSpacing=[0.5])
    with pytest.raises(InputError, match=r"PixelSpacing 0\.5 where two numbers were expected; correct the header"):
        read_image(Source(path))


def test_a_series_without_positions_is_sorted_by_number(tmp_path):
    for name, number in (("a", 10), ("b", 9), ("c", 2)):
        path = dicom(tmp_path / "p1" / f"{name}.dcm", np.full((4, 5), number), number=number)
        dataset = pydicom.dcmread(path)
        del dataset.ImagePositionPatient
        dataset.save_as(path)
    pictures = [read_mask(Source(tmp_path / "p1", index)) for index in range(3)]
    assert [picture.pixels[0, 0] for picture in pictures] == [2, 9, 10]


def test_slices_of_different_sizes_are_refused(tmp_path, ramp):
    for z, values in enumerate((ramp, ramp[:2])):
        dicom(tmp_path / "p1" / f"{z}.dcm", values, z=float(z))
    with pytest.raises(InputError, match="p1: slices of different sizes"):
        read_image(Source(tmp_path / "p1", 0))


def test_what_lies_among_the_files_of_a_series_is_named_or_is_junk(tmp_path, ramp):
    for number in range(2):
        dicom(tmp_path / "images" / "p1" / f"{number}.dcm", ramp, z=number, number=number)
    (tmp_path / "images" / "p1" / "Thumbs.db").write_bytes(b"thumbs")
    (tmp_path / "masks").mkdir()
    nifti(tmp_path / "masks" / "p1.nii", np.ones((*ramp.T.shape, 2), np.uint8))
    assert len(find_cases(tmp_path / "images", tmp_path / "masks")) == 2
    (tmp_path / "images" / "p1" / "report.txt").write_text("as usual")
    with pytest.raises(InputError, match=r"images/p1: report\.txt among its DICOM files is none"):
        find_cases(tmp_path / "images", tmp_path / "masks")


def test_two_series_in_a_folder_are_refused(tmp_path, ramp):
    for series in ("1.1", "1.2"):
        dicom(tmp_path / "images" / "p1" / f"{series}.dcm", ramp, series=series)
        dicom(tmp_path / "masks" / "p1.dcm", ramp)
    with pytest.raises(InputError, match="more than one DICOM series"):
        read_image(Source(tmp_path / "images" / "p1", 0))


def test_dicom_without_marker_or_with_short_pixels_is_refused(tmp_path, ramp):
    path = dicom(tmp_path / "a.dcm", ramp)
    whole = path.read_bytes()
    path.write_bytes(whole[132:])
    with pytest.raises(InputError, match="DICM marker"):
        read_image(Source(path))
    path.write_bytes(whole[:-10])
    with pytest.raises(InputError, match=r"a\.dcm: cannot be decoded"):
        read_image(Source(path))


def test_dicom_segmentations_and_reports_are_refused(tmp_path, ramp):
    path = dicom(tmp_path / "a.dcm", ramp, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    with pytest.raises(InputError, match="DICOM SEG"):
        read_mask(Source(path))
    dataset = pydicom.dcmread(dicom(tmp_path / "a.dcm", ramp))
    del dataset.Rows
    dataset.save_as(path)
    with pytest.raises(InputError, match="without an image"):
        read_image(Source(path))
