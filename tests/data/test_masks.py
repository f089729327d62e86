from __future__ import annotations

import gzip
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter
from scipy import ndimage

from segqa.data.labels import is_soft
from segqa.data.masks import read_mask, write_mask
from segqa.data.types import Source
from segqa.errors import InputError


@pytest.fixture
def square():
    mask = np.zeros((40, 50), bool)
    mask[10:30, 15:35] = True
    return mask


@pytest.fixture
def quick_disk(monkeypatch):
    """Many small files are written; none has to survive a power cut."""
    monkeypatch.setattr("os.fsync", lambda _: None)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return Source(path)


def label_map(*values):
    """Return a map of one 10 x 10 block a value."""
    labels = np.zeros((20, 12 * len(values)), np.int64)
    for index, value in enumerate(values):
        labels[5:15, 12 * index : 12 * index + 10] = value
    return labels


def test_black_and_white_reads_the_same_in_every_coding(tmp_path, square):
    byte = square.astype(np.uint8)
    sources = [
        save(tmp_path / "bit.png", square),
        save(tmp_path / "01.png", byte),
        save(tmp_path / "0255.png", byte * 255),
        save(tmp_path / "16.png", square.astype(np.uint16) * 65535),
        save(tmp_path / "rgb.png", np.repeat(byte[:, :, None] * 255, 3, axis=2)),
        save(tmp_path / "b.bmp", byte * 255),
        save(tmp_path / "t.tif", byte * 255),
    ]
    for name, array in (("b", square), ("f", square.astype(float)), ("i", byte.astype(np.int64) * 255)):
        np.save(tmp_path / f"{name}.npy", array)
        sources.append(Source(tmp_path / f"{name}.npy"))
    np.savez(tmp_path / "z.npz", segs=byte, other=byte)
    for source in [*sources, Source(tmp_path / "z.npz")]:
        picture = read_mask(source)
        assert picture.pixels.dtype == np.int32, source
        assert np.array_equal(picture.pixels, square), source
        assert picture.warnings == [], source


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_maps_keep_their_labels(tmp_path, dtype):
    labels = label_map(1, 2, 5, 200, 255)
    picture = read_mask(save(tmp_path / "a.png", labels.astype(dtype)))
    assert np.array_equal(picture.pixels, labels)
    assert picture.warnings == []


def test_float_labels_are_labels(tmp_path):
    np.save(tmp_path / "a.npy", label_map(1, 2, 300).astype(np.float32))
    assert np.array_equal(read_mask(Source(tmp_path / "a.npy")).pixels, label_map(1, 2, 300))


def test_palette_masks_give_indices_and_a_remark_above_two(tmp_path):
    for values, warnings in (
        ((1,), []),
        ((1, 2, 200), ["palette-labels: 4 palette indices taken as labels"]),
    ):
        labels = label_map(*values)
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette([0, 0, 0, 200, 10, 10, 0, 90, 0] + [7] * 759)
        image.save(tmp_path / "a.png")
        picture = read_mask(Source(tmp_path / "a.png"))
        assert np.array_equal(picture.pixels, labels)
        assert picture.warnings == warnings


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_two_and_four_bits_is_not_stretched(tmp_path, bits):
    rows = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8)
    packed = b"".join(b"\0" + _pack(row, bits) for row in rows)
    header = (4).to_bytes(4) + (2).to_bytes(4) + bytes([bits, 0, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(packed)), (b"IEND", b"")]
    content = b"".join(
        len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4) for kind, body in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert np.array_equal(read_mask(Source(tmp_path / "a.png")).pixels, rows)


def _pack(row, bits):
    whole = int("".join(f"{value:0{bits}b}" for value in row), 2)
    return whole.to_bytes(len(row) * bits // 8)


def test_soft_edges_are_cut_at_127_with_a_count(tmp_path, square):
    soft = Image.fromarray(square.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(1.5))
    soft.save(tmp_path / "a.png")
    values = np.asarray(soft)
    picture = read_mask(Source(tmp_path / "a.png"))
    assert np.array_equal(picture.pixels, values > 127)
    count = ((values > 0) & (values < 255)).sum()
    assert picture.warnings == [f"non-binary: {count} pixels between 0 and 255, cut at 127"]


@pytest.mark.parametrize("method", ["jpeg", "resize", "resize-straight"])
def test_other_ways_to_soft_edges_are_noticed(tmp_path, square, method):
    y, x = np.ogrid[:60, :60]
    disc = ((y - 30) ** 2 + (x - 28) ** 2 < 300).astype(np.uint8) * 255
    if method == "jpeg":
        Image.fromarray(disc).save(tmp_path / "a.jpg", quality=85)
        values = np.asarray(Image.open(tmp_path / "a.jpg"))
    elif method == "resize":
        values = np.asarray(Image.fromarray(disc).resize((100, 110), Image.Resampling.BILINEAR))
    else:
        values = np.asarray(Image.fromarray(square.astype(np.uint8) * 255).resize((120, 97)))
    picture = read_mask(save(tmp_path / "a.png", values))
    assert np.array_equal(picture.pixels, values > 127)
    assert picture.warnings[0].startswith("non-binary")


@pytest.mark.parametrize("kind", ["png", "tif", "big-endian"])
def test_probabilities_of_16_bits_are_cut_in_the_middle(tmp_path, square, kind):
    values = (ndimage.gaussian_filter(square.astype(float), 1.5) * 65535).astype(np.uint16)
    path = tmp_path / ("a.png" if kind == "png" else "a.tif")
    if kind == "png":
        save(path, values)
    else:
        tifffile.imwrite(path, values, byteorder=">" if kind == "big-endian" else "<")
    picture = read_mask(Source(path))
    assert np.array_equal(picture.pixels, values > 32767)
    count = ((values > 0) & (values < values.max())).sum()
    assert picture.warnings == [f"non-binary: {count} pixels between 0 and {values.max()}, cut at 32767"]


@pytest.mark.parametrize("top", [115, 20000])
def test_a_soft_mask_that_stays_dark_is_refused(tmp_path, top):
    y, x = np.ogrid[:100, :110]
    values = ndimage.gaussian_filter(((y - 50) ** 2 + (x - 53) ** 2 < 1200).astype(float), 2) * top
    source = save(tmp_path / "a.png", values.astype(np.uint8 if top < 256 else np.uint16))
    with pytest.raises(InputError, match=r"a\.png: values 0\.\.\d+ that differ from pixel to pixel.* soft mask"):
        read_mask(source)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_image_in_the_place_of_a_mask_is_refused(tmp_path, dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (40, 50)).astype(dtype)
    with pytest.raises(InputError, match=r"a\.png: \d+ % of the pixels are grey, between \d+ and \d+; is it an image"):
        read_mask(save(tmp_path / "a.png", pixels))
    dark = save(tmp_path / "b.png", pixels // 3)
    with pytest.raises(InputError, match=r"b\.png: .*differ from pixel to pixel; is it an image"):
        read_mask(dark)


@pytest.mark.parametrize(("n_grey", "is_image"), [(11, True), (9, False)])
def test_a_soft_mask_is_an_image_when_half_of_it_is_grey(tmp_path, n_grey, is_image):
    pixels = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (50, 20))
    pixels[:, :n_grey] = np.random.default_rng(1).integers(20, 235, (50, n_grey))
    source = save(tmp_path / "a.png", pixels)
    if is_image:
        with pytest.raises(InputError, match=r"a\.png: 55 % of the pixels are grey"):
            read_mask(source)
    else:
        assert np.array_equal(read_mask(source).pixels, pixels > 127)


def test_a_large_object_with_the_noise_of_a_jpeg_is_a_mask(tmp_path):
    rng = np.random.default_rng(0)
    pixels = np.where(np.arange(50) < 35, rng.integers(246, 255, (40, 50)), rng.integers(0, 6, (40, 50)))
    picture = read_mask(save(tmp_path / "a.png", pixels.astype(np.uint8)))
    assert np.array_equal(picture.pixels, pixels > 127)
    assert "non-binary" in picture.warnings[0]


def test_many_thin_or_touching_labels_are_no_image(tmp_path):
    lines = np.zeros((300, 40), np.uint16)
    lines[::2] = np.arange(1, 151, dtype=np.uint16)[:, None]
    points = np.zeros((40, 40), np.uint16)
    points[::3, ::3] = np.arange(1, 197, dtype=np.uint16).reshape(14, 14)
    tiles = np.arange(1, 401, dtype=np.uint16).reshape(20, 20).repeat(3, axis=0).repeat(3, axis=1)
    for labels in (lines, points, tiles):
        assert np.array_equal(read_mask(save(tmp_path / "a.png", labels)).pixels, labels)


def test_255_beside_few_labels_is_remarked(tmp_path):
    for most in (2, 31):
        remark = f"label-255: beside labels up to {most}; if it means ignore, leave it out with --labels"
        assert read_mask(save(tmp_path / "a.png", label_map(1, most, 255).astype(np.uint8))).warnings == [remark]
    assert read_mask(save(tmp_path / "a.png", label_map(1, 32, 255).astype(np.uint8))).warnings == []


def test_a_void_border_of_255_stays_a_label():
    labels = np.zeros((30, 30), np.uint8)
    labels[5:25, 5:25] = 255
    labels[6:24, 6:24] = 2
    assert not is_soft(labels)


def test_probabilities_are_cut_at_one_half(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0.0, 0.49, 0.5, 1.0]]))
    picture = read_mask(Source(tmp_path / "a.npy"))
    assert picture.pixels.tolist() == [[0, 0, 1, 1]]
    assert picture.warnings == ["probability-map: cut at 0.5"]


def test_probabilities_may_miss_their_range_by_rounding(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[-1e-7, 0.3, 0.7, 1.0000002]], np.float32))
    assert read_mask(Source(tmp_path / "a.npy")).pixels.tolist() == [[0, 0, 1, 1]]


def test_probabilities_below_one_half_name_the_largest(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0.0, 0.1, 0.31]]))
    picture = read_mask(Source(tmp_path / "a.npy"))
    assert not picture.pixels.any()
    assert picture.warnings == ["probability-map: cut at 0.5; the largest is 0.31"]


@pytest.mark.parametrize("is_empty", [False, True])
def test_a_palette_of_white_before_black_is_read_by_its_colours(tmp_path, square, is_empty):
    drawn = np.zeros_like(square) if is_empty else square
    image = Image.fromarray((1 - drawn).astype(np.uint8))
    image.putpalette([255, 255, 255, 0, 0, 0] + [0] * 762)
    image.save(tmp_path / "a.png")
    picture = read_mask(Source(tmp_path / "a.png"))
    assert np.array_equal(picture.pixels, drawn)
    assert picture.warnings == ["palette-white: white is taken as the object, not index 1, which is black"]


@pytest.mark.parametrize(
    ("values", "fact"),
    [
        ([[0.0, 0.5, 7.0]], r"fractions from 0 to 7 where probabilities 0\.\.1"),
        ([[-0.25, 0.5, 1.0]], r"fractions from -0\.25 to 1 where probabilities"),
        ([[0.0, 0.5, 1.00001]], r"fractions from 0 to 1\.00001 where"),
        ([[0.0, np.nan]], "NaN"),
        ([[-1, 0]], "values -1"),
        ([[0.0, 1e30]], "1e"),
    ],
)
def test_values_that_are_no_labels_are_refused(tmp_path, values, fact):
    np.save(tmp_path / "a.npy", np.array(values))
    with pytest.raises(InputError, match=rf"a\.npy: .*{fact}"):
        read_mask(Source(tmp_path / "a.npy"))


def test_colour_masks_are_refused_with_their_colours(tmp_path, square):
    colors = np.zeros((40, 50, 3), np.uint8)
    colors[square] = (255, 0, 0)
    source = save(tmp_path / "a.png", colors)
    with pytest.raises(InputError, match=r"2 colours: \(0, 0, 0\), \(255, 0, 0\)"):
        read_mask(source)


def test_a_mask_in_the_alpha_channel_alone_is_refused_with_the_remedy(tmp_path, square):
    pixels = np.zeros((40, 50, 4), np.uint8)
    pixels[:, :, 3] = square * 255
    source = save(tmp_path / "a.png", pixels)
    with pytest.raises(InputError, match="save the mask as a grey picture"):
        read_mask(source)


def test_opaque_alpha_is_dropped_in_silence_and_real_alpha_is_remarked(tmp_path, square):
    pixels = np.full((40, 50, 4), 255, np.uint8)
    pixels[:, :, :3] = square[:, :, None] * 255
    assert read_mask(save(tmp_path / "a.png", pixels)).warnings == []
    pixels[0, 0, 3] = 3
    assert read_mask(save(tmp_path / "a.png", pixels)).warnings == ["alpha-dropped"]


def test_jpeg_masks_are_refused_with_reason_and_remedy(tmp_path, square):
    with pytest.raises(InputError, match=r"JPEG mask.*edge; export it as PNG"):
        read_mask(save(tmp_path / "a.jpg", square.astype(np.uint8) * 255))


def test_sixteen_bit_colour_is_refused(tmp_path):
    values = np.ones((8, 8, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    with pytest.raises(InputError, match="colour of 16 bits"):
        read_mask(Source(tmp_path / "a.tif"))


@pytest.mark.parametrize(("n_rows", "shares"), [(100, ["100.0"]), (96, ["96.0"]), (95, [])])
def test_a_mask_that_all_but_fills_the_frame_is_remarked(tmp_path, n_rows, shares):
    mask = np.zeros((100, 20), bool)
    mask[:n_rows] = True
    expected = [f"mostly-foreground: {share} % of the frame; is the mask inverted?" for share in shares]
    assert read_mask(save(tmp_path / "a.png", mask)).warnings == expected


def test_pickles_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[object()]]), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects"):
        read_mask(Source(tmp_path / "a.npy"))


def test_an_npz_without_a_known_key_lists_what_is_there(tmp_path):
    np.savez(tmp_path / "a.npz", first=np.ones((2, 2)), second=np.ones((2, 2)))
    with pytest.raises(InputError, match="first, second where segs or gts"):
        read_mask(Source(tmp_path / "a.npz"))


@pytest.mark.parametrize("ending", ["png", "npy", "float.npy"])
@pytest.mark.parametrize(
    ("asked", "label", "n_remarks"), [((), 1, 0), ((1,), 1, 0), ((255,), 255, 0), ((3, 255), 255, 0), ((1, 2), 1, 1)]
)
def test_white_is_label_1_unless_255_is_asked_for(tmp_path, square, ending, asked, label, n_remarks):
    white = square.astype(np.uint8) * 255
    if ending == "png":
        source = save(tmp_path / "a.png", white)
    else:
        kind = np.float32 if ending == "float.npy" else np.uint8
        np.save(tmp_path / "a.npy", np.stack([white, 0 * white], axis=2).astype(kind))
        source = Source(tmp_path / "a.npy", 0)
    picture = read_mask(source, labels=asked)
    assert np.array_equal(picture.pixels, label * square)
    assert [remark.partition(":")[0] for remark in picture.warnings] == ["label-255"] * n_remarks


def test_a_sole_array_needs_no_key(tmp_path, square):
    np.savez_compressed(tmp_path / "a.npz", anything=square)
    assert np.array_equal(read_mask(Source(tmp_path / "a.npz")).pixels, square)


def test_a_zip_bomb_is_refused_from_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr("segqa.data.decoding.MAX_PIXELS", 10**6)
    np.savez_compressed(tmp_path / "a.npz", segs=np.zeros((3000, 3000), np.uint8))
    with pytest.raises(InputError, match="9000000 pixels"):
        read_mask(Source(tmp_path / "a.npz"))


def test_gzip_named_otherwise_says_how_to_rename(tmp_path):
    (tmp_path / "a.nii").write_bytes(gzip.compress(bytes(400)))
    with pytest.raises(InputError, match=r"rename it to \.nii\.gz"):
        read_mask(Source(tmp_path / "a.nii"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays(
        np.int32,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.integers(0, 32767) | st.integers(0, 130),
    )
)
def test_written_masks_read_back_the_same(tmp_path, quick_disk, labels):
    path = tmp_path / "a.png"
    write_mask(path, labels)
    is_white = len(np.unique(labels[labels > 0])) == 1 and labels.max() == 255
    assert np.array_equal(read_mask(Source(path)).pixels, labels > 0 if is_white else labels)
    assert [item.name for item in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("dtype", [np.uint16, ">u2"])
def test_high_labels_on_areas_are_no_soft_mask(tmp_path, dtype):
    labels = label_map(1, 40000, 65000)
    write_mask(tmp_path / "a.png", labels)
    assert np.array_equal(read_mask(Source(tmp_path / "a.png")).pixels, labels)
    np.save(tmp_path / "a.npy", labels.astype(dtype))
    assert np.array_equal(read_mask(Source(tmp_path / "a.npy")).pixels, labels)


def test_high_labels_that_would_read_back_as_a_soft_mask_are_not_written(tmp_path):
    with pytest.raises(InputError, match=r"a\.png: labels up to 40000 on thin areas.*renumber"):
        write_mask(tmp_path / "a.png", np.array([[0, 1, 2, 40000]], np.int32))


def test_labels_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InputError, match="renumber"):
        write_mask(tmp_path / "a.png", np.array([[70000]], np.int32))


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write_mask(path, np.ones((2, 2), np.int32))
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_no_real_label_map_is_taken_for_a_soft_mask(shared_data):
    for folder in ("sammed2d-demo", "dsb2018-nuclei", "glioma-nuclei"):
        for path in sorted((shared_data / folder / "masks").glob("*.png"))[:25]:
            picture = read_mask(Source(path))
            with Image.open(path) as image:
                stored = np.asarray(image)
            expected = stored > 0 if set(np.unique(stored)) == {0, 255} else stored
            assert np.array_equal(picture.pixels, expected), path
