"""Folders of prepared records as one training set, split by group."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segqa.errors import InputError
from segqa.quality.preparation import UNFINISHED
from segqa.quality.records import Record, read_shard


@dataclass(frozen=True, slots=True)
class Library:
    """Records to learn from and records to check with; no group is in both."""

    training: list[Record]
    validation: list[Record]

    def counts(self) -> dict[str, int]:
        """Return the number of records to learn from, by data set."""
        names = [record.dataset for record in self.training]
        return {name: names.count(name) for name in sorted(set(names))}


def read_library(folders: Sequence[Path], *, validation_share: float = 0.1, leave_out: Sequence[str] = ()) -> Library:
    """Read all shards below the folders.

    Args:
        folders: Each holds shards of `segqa prepare`, or sub-folders that do.
        validation_share: Share of the groups (patients, volumes) that is kept for validation; which ones depends on
            their names only.
        leave_out: Data sets that go to validation whole, instead of groups.

    Raises:
        InputError: A folder has no shard or an unfinished preparation, a shard is damaged, a data set to leave
            out is not there, or nothing is left to learn from.
    """
    training: list[Record] = []
    validation: list[Record] = []
    read: set[Path] = set()
    for folder in folders:
        unfinished = next((path.parent for path in sorted(folder.rglob(UNFINISHED)) if path.is_dir()), None)
        if unfinished is not None:
            msg = (
                f"{unfinished}: its preparation is not finished; run `segqa prepare` again, it goes on where it stopped"
            )
            raise InputError(msg)
        shards = sorted(folder.rglob("shard-*.safetensors"))
        if not shards:
            msg = f"{folder}: no shards of `segqa prepare` in it or below; prepare the data first"
            raise InputError(msg)
        for shard in shards:
            if shard.resolve() in read:  # a folder and one above it: no record counts twice
                continue
            read.add(shard.resolve())
            for record in read_shard(shard):
                if leave_out:
                    held = record.dataset in leave_out
                else:
                    held = group_share(f"{record.dataset}/{record.group}") < validation_share
                (validation if held else training).append(record)
    known = sorted({record.dataset for record in (*training, *validation)})
    unknown = [name for name in leave_out if name not in known]
    if unknown:
        msg = f"--leave-out {', '.join(unknown)}: no record is of a data set of that name; known: {', '.join(known)}"
        raise InputError(msg)
    if not training:
        msg = f"{', '.join(str(folder) for folder in folders)}: every record went to validation; leave fewer out"
        raise InputError(msg)
    return Library(training, validation)


def group_share(group: str) -> float:
    """Return a number in 0..1 that depends on the name only, evenly spread over names."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") / 2**32
