"""One file that holds all `spe-estimate` needs: training images and masks, points, settings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segqa.data.files import write_whole
from segqa.errors import InputError
from segqa.spe.engines import SIDE, Canvas
from segqa.spe.mapping import SPE_METRICS, Mapping, fit_mapping

FORMAT = "segqa.spe"
VERSION = 5
MEAN = "mean"
"""Name of the task that averages the labels."""
REFIT = "make it again with `segqa spe-fit`"


@dataclass(frozen=True)
class FitSettings:
    """How the pseudo performance was measured; an estimate repeats it to the letter."""

    engine: str
    engine_settings: dict[str, str]
    labels: list[str]
    models: list[str]
    n_test: int
    """Number of test images."""
    largest_distance: float
    """Largest diagonal of a test image, in its pixels."""
    support_sizes: list[int]
    repeats: int
    every_draw: bool
    tolerance: float | None
    seed: int


@dataclass(frozen=True)
class Bundle:
    """A fitted estimator; `Z` sizes of support set, `K` models, `M` metrics, `N` training images.

    `T` tasks are the `L` labels, then their mean when there are several.
    """

    settings: FitSettings
    images: Canvas
    """Training images, shape `(N, SIDE, SIDE, 3)`."""
    masks: NDArray[np.bool_]
    """Their masks by label, shape `(N, L, SIDE, SIDE)`."""
    groups: NDArray[np.int64]
    """Number of each one's group (patient, volume, single image), shape `(N,)`."""
    pseudo: NDArray[np.float64]
    """Pseudo performance, shape `(Z, T, K, M)`."""
    agreement: NDArray[np.float64]
    """Agreement on the test images, shape `(T, K, M)`."""
    real: NDArray[np.float64]
    """Real performance on the test images, shape `(T, K, M)`."""
    spread: NDArray[np.float64]
    """Standard deviation over the test groups of what agreement leaves of the real metric, shape `(T, K, M)`."""
    n_groups: NDArray[np.int64]
    """Number of test groups (patients, volumes, single images) with a defined real metric, shape `(T, K, M)`."""
    kinds: list[list[list[str]]]
    """Kind of mapping by size, task and metric."""

    def fit(self, size: int, task: int, metric: int, kind: str) -> Mapping:
        """Return the mapping of one size of support set, task and metric, by their positions."""
        return fit_mapping(
            np.stack([self.pseudo[size, task, :, metric], self.agreement[task, :, metric]], axis=1),
            self.real[task, :, metric],
            spread=self.spread[task, :, metric],
            n_test=self.n_groups[task, :, metric].astype(np.float64),
            metric=SPE_METRICS[metric],
            kind=kind,
            largest_distance=self.settings.largest_distance,
        )

    def mapping(self, size: int, task: int, metric: int) -> Mapping:
        """Return the mapping of the kind that was chosen when the bundle was made."""
        return self.fit(size, task, metric, self.kinds[size][task][metric])

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks: the labels, then their mean when there are several."""
        labels = self.settings.labels
        return [*labels, MEAN] if len(labels) > 1 else labels


def save_bundle(bundle: Bundle, path: Path) -> None:
    """Write a bundle in one step: a reader sees the old file or the new one, never half of it."""
    from safetensors.numpy import save

    grey = bool((bundle.images == bundle.images[..., :1]).all())
    tensors: dict[str, NDArray[np.generic]] = {
        "images": bundle.images[..., :1] if grey else bundle.images,
        "masks": np.packbits(bundle.masks, axis=-1),
        "groups": bundle.groups,
        "pseudo": bundle.pseudo,
        "agreement": bundle.agreement,
        "real": bundle.real,
        "spread": bundle.spread,
        "n_groups": bundle.n_groups,
    }
    head: dict[str, object] = {
        "format": FORMAT,
        "version": VERSION,
        "settings": asdict(bundle.settings),
        "kinds": bundle.kinds,
    }
    # safetensors writes the memory of an array as it lies, whatever its strides say.
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    head["sha256"] = _digest(head, tensors)
    # One metadata entry: safetensors does not promise an order among several, and the bytes must repeat.
    content = save(tensors, metadata={"segqa": json.dumps(head, sort_keys=True)})
    write_whole(path, lambda file: file.write(content))


def load_bundle(path: Path) -> Bundle:
    """Read a bundle.

    Raises:
        InputError: when the file is missing, damaged, no bundle, or of another version.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        msg = f"{path}: no such bundle; {REFIT}"
        raise InputError(msg)
    try:
        with safe_open(path, framework="numpy") as file:
            head = json.loads((file.metadata() or {}).get("segqa", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except (SafetensorError, ValueError, OSError) as error:
        msg = f"{path}: damaged, or not a bundle; {REFIT}"
        raise InputError(msg) from error
    if head.get("format") != FORMAT:
        msg = f"{path}: not an SPE bundle; {REFIT}"
        raise InputError(msg)
    if head.get("version") != VERSION:
        msg = f"{path}: bundle of version {head.get('version')}, this segqa reads version {VERSION}; {REFIT}"
        raise InputError(msg)
    if head.pop("sha256", None) != _digest(head, tensors):
        msg = f"{path}: damaged (its content does not match its own hash); {REFIT}"
        raise InputError(msg)
    return Bundle(
        settings=FitSettings(**head["settings"]),
        images=np.broadcast_to(tensors["images"], (*tensors["images"].shape[:3], 3)).copy(),
        masks=np.unpackbits(tensors["masks"], axis=-1, count=SIDE).astype(bool),
        groups=tensors["groups"],
        pseudo=tensors["pseudo"],
        agreement=tensors["agreement"],
        real=tensors["real"],
        spread=tensors["spread"],
        n_groups=tensors["n_groups"],
        kinds=head["kinds"],
    )


def _digest(head: dict[str, object], tensors: dict[str, NDArray[np.generic]]) -> str:
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name}{tensors[name].shape}".encode() + tensors[name].tobytes())
    return digest.hexdigest()
