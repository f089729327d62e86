"""What headers tell before any slow work: every file readable, image and mask of one size."""

from __future__ import annotations

from collections.abc import Iterable

from segqa.data.arrays import Role
from segqa.data.decoding import read_flat_header
from segqa.data.files import list_some, show_name
from segqa.data.formats import FLAT_FORMATS, sniff
from segqa.data.masks import check_mask_format
from segqa.data.types import Case, Source
from segqa.data.volumes import check_slice, read_grid
from segqa.errors import InputError

Shape = tuple[int, int]
"""Height and width."""


def check_cases(cases: Iterable[Case]) -> list[str]:
    """Return every problem that the headers tell, one line each, in the order of the cases.

    Reads no pixels. Files that are damaged behind their header are found when they are decoded.
    """
    problems: dict[str, None] = {}
    seen: dict[tuple[Source, Role], tuple[Shape, ...] | None] = {}

    def shapes(source: Source, role: Role) -> tuple[Shape, ...] | None:
        one = Source(source.path, None if source.slice_index is None else 0, source.axis)
        if (one, role) not in seen:
            try:
                seen[one, role] = read_shapes(one, role)
            except InputError as error:
                problems[str(error)] = None
                seen[one, role] = None
        return seen[one, role]

    for case in cases:
        image = shapes(case.image, "image")
        for source in case.masks.values():
            mask = shapes(source, "mask")
            if image is None or mask is None or set(image) & set(mask):
                continue
            try:
                check_same_size(image[0], mask[0], case.image, source)
            except InputError as error:
                problems[str(error)] = None
    return list(problems)


def refuse_images(cases: Iterable[Case]) -> None:
    """Refuse files that stand on both sides: an image looks like a mask to no one but the network.

    Raises:
        InputError: Names some of them.
    """
    pairs = {(case.image.path, mask.path) for case in cases for mask in case.masks.values()}
    same = sorted(show_name(mask) for image, mask in pairs if image.exists() and mask.exists() and image.samefile(mask))
    if same:
        msg = f"{list_some(same, limit=3)}: image and mask are the same file; give the masks of these images"
        raise InputError(msg)


def read_shapes(source: Source, role: Role) -> tuple[Shape, ...]:
    """Return the sizes that a picture can have, from its header: two when EXIF may turn it.

    Raises:
        InputError: The header cannot be read, or the file cannot be an image or mask.
    """
    kind = sniff(source.path)
    if kind not in FLAT_FORMATS:
        grid = read_grid(source.path, kind, role)
        check_slice(grid, source)
        return (grid.plane_shape(source.axis if source.slice_index is not None else -1),)
    if role == "mask":
        check_mask_format(source, kind)
    header = read_flat_header(source.path, kind)
    plain = (header.height, header.width)
    return (plain[::-1], plain) if header.turned else (plain,)


def check_same_size(
    image_shape: tuple[int, ...], mask_shape: tuple[int, ...], image_source: Source, mask_source: Source
) -> None:
    """Refuse a mask that does not fit its image; nothing is ever resized.

    Args:
        image_shape: Shape that begins with height and width.
        mask_shape: The same of the mask.
        image_source: Where the image is, for the message.
        mask_source: Where the mask is.

    Raises:
        InputError: The sizes differ; says so when they match transposed.
    """
    image, mask = image_shape[:2], mask_shape[:2]
    if image == mask:
        return
    fact = f"mask {mask[1]} x {mask[0]}, image {image[1]} x {image[0]} (width x height, {image_source})"
    remedy = "save the mask in the size of the image"
    if image == mask[::-1]:
        remedy = "they match when transposed: EXIF orientation or order of axes?"
    msg = f"{mask_source}: {fact}; {remedy}"
    raise InputError(msg)
