"""What a call of segqa costs as a process of its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """What a process took."""

    wall: float
    cpu: float
    """Both in seconds; of all threads."""
    megabytes: float
    """Peak memory."""


def measure(arguments: Sequence[str], folder: Path) -> Cost:
    """Run `segqa -q ...` in a folder, where its output is left as `stdout`, and return what it took.

    Raises:
        SystemExit: It failed.
    """
    paths = [str(Path.cwd()), os.environ.get("PYTHONPATH")]  # the segqa of this tree, wherever it is run
    start = time.monotonic()
    with (folder / "stdout").open("wb") as output:
        child = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", 'cd "$0" && exec "$@"', str(folder), sys.executable, "-m", "segqa", "-q", *arguments],
            os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            file_actions=[(os.POSIX_SPAWN_DUP2, output.fileno(), 1)],
        )
        _, status, usage = os.wait4(child, 0)
    if status:
        msg = f"segqa {' '.join(arguments)} failed"
        raise SystemExit(msg)
    per_megabyte = 2**20 if sys.platform == "darwin" else 2**10
    return Cost(time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / per_megabyte)
