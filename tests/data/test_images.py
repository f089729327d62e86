from __future__ import annotations

import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from segqa.data.images import read_image
from segqa.data.types import Source
from segqa.errors import InputError


@pytest.fixture
def colors():
    return np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return Source(path)


def test_png_bmp_and_tiff_give_the_stored_pixels(tmp_path, colors):
    for ending in ("png", "bmp", "tif"):
        picture = read_image(save(tmp_path / f"a.{ending}", colors))
        assert picture.pixels.dtype == np.uint8
        assert np.array_equal(picture.pixels, colors)
        assert picture.warnings == []


def test_jpeg_gives_what_pillow_decodes(tmp_path, colors):
    source = save(tmp_path / "a.jpg", colors)
    with Image.open(source.path) as image:
        assert np.array_equal(read_image(source).pixels, np.asarray(image))


def test_the_same_pixels_come_out_of_every_mode(tmp_path):
    grey = np.random.default_rng(1).integers(0, 256, (20, 24), dtype=np.uint8)
    image = Image.fromarray(grey)
    for mode in ("L", "LA", "RGB", "RGBA", "P"):
        path = tmp_path / f"{mode}.png"
        image.convert(mode).save(path)
        picture = read_image(Source(path))
        assert np.array_equal(picture.pixels, np.repeat(grey[:, :, None], 3, axis=2)), mode
        assert picture.warnings == []


def test_real_transparency_is_remarked(tmp_path, colors):
    alpha = np.full((40, 30, 1), 255, np.uint8)
    alpha[0, 0] = 10
    picture = read_image(save(tmp_path / "a.png", np.concatenate([colors, alpha], axis=2)))
    assert picture.warnings == ["alpha-dropped"]
    assert np.array_equal(picture.pixels, colors)


def test_a_transparent_palette_entry_that_is_used_is_remarked(tmp_path):
    pixels = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    pixels.save(tmp_path / "a.png", transparency=1)
    assert read_image(Source(tmp_path / "a.png")).warnings == ["alpha-dropped"]


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_cmyk_is_converted_to_rgb(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", (8, 6), (200, 30, 30)).convert("CMYK").save(path)
    picture = read_image(Source(path))
    assert picture.pixels.shape == (6, 8, 3)
    assert np.abs(picture.pixels.astype(int) - [200, 30, 30]).max() < 8


def test_sixteen_bits_are_scaled_from_least_to_largest_pixel(tmp_path):
    values = np.linspace(1000, 1255, 256).astype(np.uint16).reshape(16, 16)
    for ending in ("png", "tif"):
        picture = read_image(save(tmp_path / f"a.{ending}", values))
        assert np.array_equal(picture.pixels[:, :, 0], (values - 1000).astype(np.uint8))


def test_a_window_of_centre_and_width_clips_and_scales(tmp_path):
    values = np.array([[-200.0, -160.0, 40.5, 240.0, 900.0]], np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values)
    picture = read_image(Source(tmp_path / "a.tif"), window=(40, 400))
    assert picture.pixels[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_a_window_without_width_is_refused(tmp_path, colors):
    with pytest.raises(InputError, match="centre and a width"):
        read_image(save(tmp_path / "a.png", colors), window=(40, 0))


def test_float_values_outside_0_to_1_are_scaled(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[-3.0, 0.0, 7.0]], np.float32))
    assert read_image(Source(tmp_path / "a.tif")).pixels[0, :, 0].tolist() == [0, 76, 255]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_an_error_that_counts_or_becomes_zero(tmp_path, bad):
    values = np.ones((4, 4), np.float32)
    values[1, 2] = bad
    tifffile.imwrite(tmp_path / "a.tif", values)
    with pytest.raises(InputError, match=r"a\.tif: 1 NaN or infinite pixels, the first at \(1, 2\)"):
        read_image(Source(tmp_path / "a.tif"))
    picture = read_image(Source(tmp_path / "a.tif"), nan="zero")
    assert picture.warnings == ["nan-zeroed: 1 pixels"]
    assert picture.pixels[1, 2, 0] == 0


@pytest.mark.parametrize(("alpha", "warnings"), [(65535, []), (9, ["alpha-dropped"])])
def test_sixteen_bit_grey_with_alpha_is_read_without_alpha(tmp_path, alpha, warnings):
    values = np.stack([np.arange(12).reshape(3, 4) * 1000, np.full((3, 4), 65535)], axis=2).astype(np.uint16)
    values[0, 0, 1] = alpha
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", extrasamples=["unassalpha"])
    picture = read_image(Source(tmp_path / "a.tif"))
    assert picture.pixels.shape == (3, 4, 3)
    assert picture.pixels[2, 3, 0] == 255
    assert picture.warnings == warnings


def test_constant_images_and_tiny_images_are_read(tmp_path):
    assert read_image(save(tmp_path / "a.png", np.full((1, 1), 40000, np.uint16))).pixels.tolist() == [[[0, 0, 0]]]
    assert read_image(save(tmp_path / "b.png", np.zeros((1, 5), np.uint8))).pixels.shape == (1, 5, 3)


def test_exif_orientation_is_applied_and_can_be_left_out(tmp_path, colors):
    exif = Image.Exif()
    exif[0x0112] = 6
    source = save(tmp_path / "a.png", colors, exif=exif)
    turned = read_image(source)
    assert turned.warnings == ["exif-rotated"]
    assert np.array_equal(turned.pixels, np.rot90(colors, -1))
    assert np.array_equal(read_image(source, orient=False).pixels, colors)


def test_a_png_without_iend_is_read_with_a_warning(tmp_path, colors):
    source = save(tmp_path / "a.png", colors)
    source.path.write_bytes(source.path.read_bytes()[:-12])
    picture = read_image(source)
    assert picture.warnings == ["missing-iend"]
    assert np.array_equal(picture.pixels, colors)


def test_a_png_cut_in_its_pixels_is_refused_as_truncated(tmp_path, colors):
    source = save(tmp_path / "a.png", colors)
    source.path.write_bytes(source.path.read_bytes()[:1500])
    with pytest.raises(InputError, match=r"a\.png: truncated"):
        read_image(source)


def test_every_flipped_byte_of_the_pixels_is_noticed(tmp_path):
    source = save(tmp_path / "a.png", np.random.default_rng(2).integers(0, 9, (12, 12), dtype=np.uint8))
    whole = source.path.read_bytes()
    start = whole.index(b"IDAT") + 4
    for at in range(start, len(whole) - 16):
        source.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(InputError, match="checksum"):
            read_image(source)


def test_a_truncated_jpeg_is_refused(tmp_path, colors):
    source = save(tmp_path / "a.jpg", colors)
    source.path.write_bytes(source.path.read_bytes()[:-300])
    with pytest.raises(InputError, match="truncated"):
        read_image(source)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><title>404</title>", "HTML"),
        (b"GIF89a" + bytes(40), "GIF"),
        (b"hello", "not an image"),
    ],
)
def test_stand_ins_for_images_are_named(tmp_path, content, fact):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=fact) as caught:
        read_image(Source(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.png: no such file"):
        read_image(Source(tmp_path / "a.png"))


def test_the_content_decides_and_not_the_ending(tmp_path, colors):
    path = tmp_path / "a.JPEG"
    Image.fromarray(colors).save(path, format="PNG")
    assert np.array_equal(read_image(Source(path)).pixels, colors)


def test_names_with_line_breaks_stay_on_one_line(tmp_path):
    path = tmp_path / "a\nb.png"
    path.write_bytes(b"")
    with pytest.raises(InputError) as caught:
        read_image(Source(path))
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_from_its_header(tmp_path):
    header = b"IHDR" + (60000).to_bytes(4) + (60000).to_bytes(4) + bytes([1, 0, 0, 0, 0])
    idat = (99).to_bytes(4) + b"IDAT" + bytes(20)
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4) + header + zlib.crc32(header).to_bytes(4) + idat)
    with pytest.raises(InputError, match="3600000000 pixels"):
        read_image(Source(path))


def test_pictures_above_pillows_own_limit_are_read_without_touching_it(tmp_path, monkeypatch, colors):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert np.array_equal(read_image(save(tmp_path / "a.png", colors)).pixels, colors)
    monkeypatch.setattr("segqa.data.decoding.MAX_PIXELS", 1199)
    with pytest.raises(InputError, match=r"more than the limit of 1199; cut it into tiles$"):
        read_image(Source(tmp_path / "a.png"))


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_several_pages_are_refused_with_their_number(tmp_path, colors, ending):
    pages = [Image.fromarray(colors // n) for n in (1, 2, 3)]
    pages[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="3 pages"):
        read_image(Source(tmp_path / f"a.{ending}"))
