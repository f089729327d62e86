"""Damaged files end in a picture or in one line, never in a traceback."""

from __future__ import annotations

import random

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from segqa.data.checks import read_shapes
from segqa.data.images import read_image
from segqa.data.masks import read_mask
from segqa.data.types import Source
from segqa.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 255, (24, 20), dtype=np.uint8)
VOXELS = np.random.default_rng(0).integers(0, 9, (6, 5, 4), dtype=np.uint8)

WRITERS = {
    "a.png": lambda path: Image.fromarray(PIXELS).save(path),
    "a.jpg": lambda path: Image.fromarray(PIXELS).save(path),
    "a.bmp": lambda path: Image.fromarray(PIXELS).save(path),
    "a.tif": lambda path: Image.fromarray(PIXELS).save(path),
    "b.tif": lambda path: tifffile.imwrite(path, np.stack([PIXELS] * 2, 2).astype(np.uint16), photometric="minisblack"),
    "a.nii": lambda path: nib.save(nib.Nifti1Image(VOXELS, np.eye(4)), path),
    "a.nii.gz": lambda path: nib.save(nib.Nifti1Image(VOXELS, np.eye(4)), path),
    "a.npy": lambda path: np.save(path, PIXELS),
    "a.npz": lambda path: np.savez_compressed(path, segs=PIXELS),
}


def damage(content, rng):
    data = bytearray(content)
    if rng.random() < 0.25:
        return bytes(data[: rng.randrange(len(data))])
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        data[rng.randrange(rng.choice((64, min(400, len(data)), len(data))))] = rng.choice((0, 255, rng.randrange(256)))
    return bytes(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files_end_in_one_line(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    content = path.read_bytes()
    rng = random.Random(name)
    index = 1 if ".nii" in name else None
    for _ in range(60):
        path.write_bytes(damage(content, rng))
        for read in (read_image, read_mask, lambda source: read_shapes(source, "mask")):
            try:
                read(Source(path, index))
            except InputError as error:
                assert str(error).startswith(f"{tmp_path.name}/{name}")  # noqa: PT017 - most of the damage, not all, is noticed
                assert "\n" not in str(error)  # noqa: PT017


def test_a_tiff_that_promises_too_much_is_refused_before_it_is_allocated(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS.astype(np.float16))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(16000)
        tiff.pages[0].tags["ImageLength"].overwrite(16000)
    with pytest.raises(InputError, match="256000000 pixels promised"):
        read_image(Source(path))
