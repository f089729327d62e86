"""PNG, JPEG, BMP and TIFF files, decoded once and checked on the way."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import tifffile
from PIL import ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from segqa.data.files import decoding, show_name
from segqa.data.formats import MAX_PIXELS, Format
from segqa.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image as PillowImage
    from PIL.ImageFile import ImageFile

_ORIENTATION = 0x0112  # EXIF tag
_BITS_PER_SAMPLE = 258  # TIFF tag
_MOST_COMPRESSED = 4096  # pixels of 8 bits and more in a byte; Deflate reaches 1032, LZW somewhat more

# The classes are called directly: `PIL.Image.open` would try every format it knows, and its own limit on the
# size is a global of the host program, which must stay as it is.
_READERS: dict[Format, type[ImageFile]] = {
    Format.PNG: PngImageFile,
    Format.JPEG: JpegImageFile,
    Format.BMP: BmpImageFile,
    Format.TIFF: TiffImageFile,
}


@dataclass(slots=True)
class Decoded:
    """A decoded file, before anyone decided whether it is an image or a mask."""

    image: PillowImage
    bits: int
    """Bits of one channel as stored; Pillow widens 2 and 4, and narrows colour of 16, to 8."""
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class FlatHeader:
    """What the header of a flat file tells without decoding it."""

    height: int
    width: int
    turned: bool
    """The EXIF orientation will swap height and width."""


def decode_flat(path: Path, kind: Format, *, orient: bool = True) -> Decoded | NDArray[np.generic]:
    """Decode a flat file, turned as its EXIF orientation says unless `orient` is false.

    Returns:
        The decoded picture; a plain array for the TIFF files that only tifffile understands.

    Raises:
        InputError: Damaged, too large, or more than one page.
    """
    with decoding(path), path.open("rb") as file:
        # A TIFF may be of any size, and one that is too large must not be read to find that out.
        data = _read_png(file, path) if kind is Format.PNG else b""
        is_whole = kind is not Format.PNG or _check_png(data, path)
        try:
            image = _READERS[kind](io.BytesIO(data) if data else file)
        except SyntaxError:
            if kind is not Format.TIFF:
                raise
            return _decode_tiff(file, path)
        _check_header(image, path)
        bits = data[24] if data else _stored_bits(image)  # the bit depth in IHDR
        if bits >= 8:
            _check_promise(image.width * image.height, path)
        try:
            image.load()
        except OSError as error:
            if is_whole:
                raise
            msg = f"{show_name(path)}: truncated PNG, pixels are missing; copy or export it again"
            raise InputError(msg) from error
        warnings = [] if is_whole else ["missing-iend"]
        return Decoded(_orient(image, warnings) if orient else image, bits, warnings)


def read_flat_header(path: Path, kind: Format) -> FlatHeader:
    """Return the size of a flat file without decoding its pixels.

    Raises:
        InputError: No readable header, too large, or more than one page.
    """
    with decoding(path), path.open("rb") as file:
        try:
            image = _READERS[kind](file)
        except SyntaxError:
            if kind is not Format.TIFF:
                raise
            file.seek(0)
            with tifffile.TiffFile(file) as tiff:
                shape = _tiff_shape(tiff, path)
            return FlatHeader(shape[0], shape[1], turned=False)
        _check_header(image, path)
        # A PNG may carry its EXIF block behind the pixels; asking for it would decode them.
        may_turn = kind is Format.JPEG or "exif" in image.info
        turned = may_turn and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return FlatHeader(image.height, image.width, turned)


def check_pixels(count: int, path: Path) -> None:
    """Refuse a size before anything of that size is allocated."""
    if count > MAX_PIXELS:
        msg = f"{show_name(path)}: {count} pixels are more than the limit of {MAX_PIXELS}; cut it into tiles"
        raise InputError(msg)


def _check_header(image: ImageFile, path: Path) -> None:
    check_pixels(image.width * image.height, path)
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise InputError(_page_text(path, pages))


def _check_promise(count: int, path: Path) -> None:
    """Refuse a header that promises more pixels than any compression could put into the file."""
    size = path.stat().st_size
    if count > size * _MOST_COMPRESSED:
        msg = f"{show_name(path)}: {count} pixels promised in a file of {size} bytes; it is damaged or cut short"
        raise InputError(msg)


def _page_text(path: Path, pages: int) -> str:
    return f"{show_name(path)}: {pages} pages where one picture was expected; save each page as its own file"


def _stored_bits(image: ImageFile) -> int:
    if isinstance(image, TiffImageFile):
        bits: tuple[int, ...] = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))
        return max(bits)
    return 8


def _read_png(file: BinaryIO, path: Path) -> bytes:
    head = file.read(26)
    check_pixels(int.from_bytes(head[16:20]) * int.from_bytes(head[20:24]), path)
    return head + file.read()


def _orient(image: ImageFile, warnings: list[str]) -> PillowImage:
    if image.getexif().get(_ORIENTATION, 1) == 1:
        return image
    warnings.append("exif-rotated")
    return ImageOps.exif_transpose(image)


def _check_png(data: bytes, path: Path) -> bool:
    """Check the sum of every chunk that carries pixels (Pillow skips them); return whether IEND is there."""
    view, at = memoryview(data), 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(view[at : at + 4])
        kind = bytes(view[at + 4 : at + 8])
        if end > len(data):
            return False
        is_critical = not kind[0] & 0x20
        if is_critical and zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            msg = f"{show_name(path)}: damaged PNG (checksum of a {ascii(kind)[2:-1]} chunk); copy it again"
            raise InputError(msg)
        if kind == b"IEND":
            return True
        at = end
    return False


def _decode_tiff(file: BinaryIO, path: Path) -> NDArray[np.generic]:
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        _tiff_shape(tiff, path)
        page: Any = tiff.pages.first
        _check_promise(page.size, path)
        pixels: NDArray[np.generic] = page.asarray()
        if page.axes not in ("YX", "YXS", "SYX") or pixels.size == 0 or page.samplesperpixel > 4:
            msg = f"{show_name(path)}: shape {pixels.shape} where a grey or colour picture was expected"
            raise InputError(msg)
        return np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels


def _tiff_shape(tiff: tifffile.TiffFile, path: Path) -> tuple[int, int]:
    if len(tiff.pages) > 1:
        raise InputError(_page_text(path, len(tiff.pages)))
    page: Any = tiff.pages.first
    height, width = page.imagelength, page.imagewidth
    if not (isinstance(height, int) and isinstance(width, int)):  # a damaged tag gives a tuple
        msg = f"{show_name(path)}: no valid size in the TIFF header; export it again"
        raise InputError(msg)
    check_pixels(height * width, path)
    return height, width
