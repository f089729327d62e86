"""NumPy files: .npy and .npz, without pickles."""

from __future__ import annotations

import zipfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from segqa.data.files import decoding, list_some, show_name
from segqa.data.grids import Grid
from segqa.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

Role = Literal["image", "mask"]
"""What a file is read as; it decides between the arrays of one .npz."""

_KEYS: dict[Role, tuple[str, ...]] = {
    "image": ("imgs", "image", "img"),
    "mask": ("segs", "gts", "mask", "masks"),
}
_DEPTH_FIRST = frozenset({"imgs", "gts", "segs"})  # CVPR 2024 / MedSAM files hold (D, H, W)


def read_array_header(path: Path, role: Role) -> Grid:
    """Return the shape of the array in a .npy or .npz file without reading its values.

    An array `(H, W)`, `(H, W, 1)`, or `(H, W, 3)` and `(H, W, 4)` for colour is flat; any other
    `(a, b, c)` is a volume, and `(a, b, c, 3)` one in colour.

    Raises:
        InputError: Damaged, of Python objects, of another number of dimensions, or with no key to choose.
    """
    with decoding(path), _open_array(path, role) as (file, key):
        major, _ = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        return _grid(shape, dtype, key, path)


def read_array(path: Path, role: Role, grid: Grid) -> NDArray[np.generic]:
    """Return the values of a checked file as `(H, W, D)`, or `(H, W, D, colours)`."""
    with decoding(path), _open_array(path, role) as (file, key):
        values: NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
        is_flat = values.ndim - grid.is_color == 2
        if is_flat:
            return values[:, :, None]
        is_volume = grid.depth() > 1 or values.shape[2] != 1
        return np.moveaxis(values, 0, 2) if key in _DEPTH_FIRST and is_volume else values


def _grid(shape: tuple[int, ...], dtype: np.dtype[np.generic], key: str, path: Path) -> Grid:
    if dtype.kind not in "biuf":
        what = "Python objects" if dtype.hasobject else f"values of type {dtype}"
        msg = f"{show_name(path)}: {what} where numbers were expected; save the pixels as a plain array"
        raise InputError(msg)
    is_color = len(shape) in (3, 4) and shape[-1] in (3, 4)
    size = shape[:-1] if is_color else shape
    if len(size) == 3 and key in _DEPTH_FIRST and size[2] != 1:
        size = (size[1], size[2], size[0])
    if len(size) not in (2, 3) or 0 in size:
        msg = f"{show_name(path)}: array of shape {shape} where (H, W), (H, W, 3) or a volume was expected"
        raise InputError(msg)
    return Grid((size[0], size[1], size[2] if len(size) == 3 else 1), is_color=is_color)


@contextmanager
def _open_array(path: Path, role: Role) -> Iterator[tuple[IO[bytes], str]]:
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            file.seek(0)
            yield file, ""
            return
    with zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        key = _choose_key(keys, role, path)
        with archive.open(f"{key}.npy") as member:
            yield member, key


def _choose_key(keys: list[str], role: Role, path: Path) -> str:
    for known in _KEYS[role]:
        if known in keys:
            return known
    if len(keys) != 1:
        found, expected = list_some(keys) or "missing", " or ".join(_KEYS[role])
        msg = f"{show_name(path)}: arrays {found} where {expected} was expected; rename the key"
        raise InputError(msg)
    return keys[0]
