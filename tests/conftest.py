"""Shared by all tests: an in-process command line and the real images, when they are there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Time is not what a property is about, and machines of CI are slow at random.
settings.register_profile("segqa", deadline=None)
settings.load_profile("segqa")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each of several test processes computes on one core; more threads would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer forces colour under GitHub Actions; tests read plain text."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture(autouse=True)
def _talking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that calls `segqa -q` silences no other."""
    monkeypatch.setattr("segqa.console._quiet", False)


@pytest.fixture
def run() -> Callable[..., Any]:
    """Run `segqa` in this process: `run("flag", path, "--percentile", 5)` has stdout, stderr, exit_code."""
    from typer.testing import CliRunner

    from segqa.cli import app

    def invoke(*arguments: object) -> Any:
        outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
        unexpected = outcome.exception
        if unexpected is not None and not isinstance(unexpected, SystemExit):
            raise unexpected
        return outcome

    return invoke


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real medical images, or skip: they are not part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real images of ../shared/data are not on this machine")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights and graph of an untrained evaluator of 32 pixels: as real as the shipped one, made in seconds."""
    torch = pytest.importorskip("torch")
    for needed in ("timm", "onnx", "onnxscript"):
        pytest.importorskip(needed)
    from segqa.quality.network import NetworkSpec, QualityNetwork
    from segqa.quality.preprocessing import Profile
    from segqa.quality.storage import save_network

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = QualityNetwork(NetworkSpec(Profile(size=32), backbone="test_efficientnet"))
        for tensor in network.state_dict().values():
            if tensor.ndim == 1:  # as after training: no two equal, and folding the norms is not a no-op
                tensor.uniform_(0.5, 1.5)
        for head in network.heads.values():
            head.weight.data *= 3  # scores that differ from input to input
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_network(network, path, {"licence": "Apache-2.0", "recipe": "untrained"})
    return path


@pytest.fixture
def without_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write weights without their ONNX graph, which takes seconds to export."""
    monkeypatch.setattr("segqa.quality.storage.export_graph", lambda network, path: {})


@pytest.fixture
def prepare_phantoms(tmp_path: Path) -> Callable[[list[str]], Path]:
    """Make a folder as `segqa prepare` leaves it: a phantom for each data set named."""
    import numpy as np

    from segqa.data.boxes import Box
    from segqa.phantoms import make_phantom, spoil
    from segqa.quality.records import Candidate, Record, pack_masks, write_shard

    def prepare(datasets: list[str]) -> Path:
        folder = tmp_path / "prepared"
        folder.mkdir()
        records = []
        for seed, dataset in enumerate(datasets):
            rng = np.random.default_rng(seed)
            phantom = make_phantom(rng, side=64)
            truth, mask = phantom.truth == 1, spoil(phantom.truth, 0.8, rng) == 1
            box = Box.from_mask(truth)
            candidate = Candidate("sam", "exact", box, 0.5, 0.3, 1.0, 1.0, None, 0.0, image_box=box)
            pixels, labels = np.ascontiguousarray(phantom.image[..., :1]), phantom.truth.astype(np.uint8)
            name = f"c{seed}"
            masks = pack_masks([mask])
            records.append(Record(name, name, dataset, "1", "1", pixels, labels, 0.0, (candidate,), masks))
        write_shard(folder / "shard-00000.safetensors", records)
        return folder

    return prepare


@pytest.fixture
def prepared(prepare_phantoms: Callable[[list[str]], Path]) -> Path:
    """Six phantoms of one data set."""
    return prepare_phantoms(["phantoms"] * 6)
