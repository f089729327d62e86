"""The mean of trained networks: of trainings that went on from the same weights, it often judges better than each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segqa.data.files import check_writable
from segqa.errors import InputError
from segqa.quality.storage import load_network, save_network
from segqa.quality.weights_file import CheckpointInfo, read_info


def average_weights(paths: Sequence[Path], out: Path, shares: Sequence[float] | None = None) -> None:
    """Write the weighted mean of networks, tensor by tensor, with its graph beside it; without a calibration.

    As in "model soups" (Wortsman et al. 2022) and between a network and its fine-tuning (WiSE-FT, Wortsman et al.
    2022). The card is that of the last file, with the records of all, and names and digests of what was averaged.

    Args:
        paths: Two or more weights files of one layout; trainings of one start, or the mean means nothing.
        out: The weights file to write.
        shares: One a file, not negative; brought to a sum of 1. Equal when `None`.

    Raises:
        InputError: A file cannot be read or is not of `segqa train`, layouts differ, the shares do not fit, or `out`
            cannot be written.
    """
    infos = [read_info(path) for path in paths]
    parts = _parts(infos, shares)
    for info in infos:
        if "curve" not in info.card:
            msg = f"{info.path}: is not of `segqa train`; only trainings of one start have a mean"
            raise InputError(msg)
        if info.spec != infos[0].spec:
            msg = f"{info.path}: is another network than {infos[0].path}; only trainings of one start have a mean"
            raise InputError(msg)
    check_writable(out)
    mean = load_network(paths[0])
    state = mean.state_dict()
    averaged = {name: tensor * parts[0] for name, tensor in state.items() if tensor.is_floating_point()}
    for path, part in zip(paths[1:], parts[1:], strict=True):
        theirs = load_network(path).state_dict()
        for name, tensor in averaged.items():
            tensor.add_(theirs[name], alpha=part)
    mean.load_state_dict(state | averaged)
    records = {name: count for info in infos for name, count in info.card["records"].items()}
    origin = [
        {"file": info.path.name, "sha256": info.sha256, "share": round(part, 4)}
        for info, part in zip(infos, parts, strict=True)
    ]
    save_network(mean, out, infos[-1].card | {"records": records, "average_of": origin})


def _parts(infos: Sequence[CheckpointInfo], shares: Sequence[float] | None) -> list[float]:
    if len(infos) < 2:
        msg = f"{infos[0].path if infos else 'no file'}: two or more weights files were expected"
        raise InputError(msg)
    given = list(shares) if shares else [1.0] * len(infos)
    if len(given) != len(infos) or min(given) < 0 or not 0 < sum(given) < float("inf"):
        msg = (
            f"--shares {','.join(f'{share:g}' for share in given)}: one number of 0 or more was expected for each file"
        )
        raise InputError(msg)
    return [share / sum(given) for share in given]
