from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from segqa.journal import Journal
from segqa.spe.mapping import SPE_METRICS

SHIFTS = (0, 3, 6, 10)
WITHOUT_TORCH = """
import sys
import typer

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
from segqa.commands.spe_estimate import spe_estimate
typer.run(spe_estimate)
"""


def write_set(root, n, seed, shifts=()):
    """Bright discs with their masks, and predictions of models that miss by so many pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    for name in ("images", "masks", *(f"predictions/shift{shift:02d}" for shift in shifts)):
        (root / name).mkdir(parents=True)
    for number in range(n):
        disc = (x - rng.uniform(20, 44)) ** 2 + (y - rng.uniform(20, 44)) ** 2 < rng.uniform(7, 13) ** 2
        grey = 60 + 30 * gaussian_filter(rng.normal(size=(64, 64)), 2) + 110 * disc
        truth = disc.astype(np.uint8) * 255
        Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(root / f"images/{number:02d}.png")
        Image.fromarray(truth).save(root / f"masks/{number:02d}.png")
        for shift in shifts:
            moved = np.roll(truth, shift + int(rng.integers(0, 2)), axis=0)
            Image.fromarray(moved).save(root / f"predictions/shift{shift:02d}/{number:02d}.png")
    return root


def fit_arguments(root, out):
    return [
        *("spe-fit", "--train-images", root / "train/images", "--train-masks", root / "train/masks"),
        *("--test-images", root / "test/images", "--test-masks", root / "test/masks"),
        *("--predictions", root / "test/predictions", "--out", out),
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("spe")
    write_set(root / "train", 7, 0)
    write_set(root / "test", 9, 1, SHIFTS)
    write_set(root / "new", 9, 2, SHIFTS)
    return root


@pytest.fixture
def bundle(data, run):
    path = data / "spe.bundle"
    if not path.exists():
        assert run(*fit_arguments(data, path)).exit_code == 0
    return path


def estimate_arguments(data, bundle, model="shift03"):
    folder = data / "new"
    return [
        *("spe-estimate", "--bundle", bundle),
        *("--images", folder / "images", "--predictions", folder / "predictions" / model),
    ]


def test_a_fit_prints_the_mappings_and_leaves_one_file(data, run, tmp_path):
    result = run(*fit_arguments(data, tmp_path / "spe.bundle"))

    assert result.exit_code == 0
    assert all(metric in result.stdout for metric in SPE_METRICS)
    assert "4 models, 9 test images" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["spe.bundle"]


def test_two_fits_write_the_same_bytes(data, bundle, run, tmp_path):
    run(*fit_arguments(data, tmp_path / "again.bundle"))

    assert (tmp_path / "again.bundle").read_bytes() == bundle.read_bytes()


def test_a_killed_fit_resumes_to_the_same_bytes(data, bundle, run, tmp_path, monkeypatch):
    out = tmp_path / "spe.bundle"
    append = Journal.append

    def die_in_the_middle(self, rows):
        append(self, rows)
        if len(self.rows) == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "append", die_in_the_middle)
    assert run(*fit_arguments(data, out)).exit_code == 130
    assert not out.exists()
    monkeypatch.setattr(Journal, "append", append)

    assert run(*fit_arguments(data, out), "--resume").exit_code == 0
    assert out.read_bytes() == bundle.read_bytes()


def test_json_holds_every_metric_with_its_interval_and_is_the_same_twice(data, bundle, run):
    first, second = (run(*estimate_arguments(data, bundle), "--format", "json") for _ in range(2))

    assert first.exit_code == 0
    assert first.stdout == second.stdout
    found = json.loads(first.stdout)
    assert list(found["metrics"]) == list(SPE_METRICS)
    for values in found["metrics"].values():
        assert values["lower"] <= values["estimate"] <= values["upper"]
        assert values["n"] == 7
    assert found["warnings"] == []


def test_novelty_is_unknown_where_all_training_images_are_of_one_patient(data, run, tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for path in (data / "train" / name).iterdir():
            shutil.copy(path, tmp_path / "train" / name / f"patient1_s{path.name}")
    (tmp_path / "test").symlink_to(data / "test", target_is_directory=True)
    bundle = tmp_path / "spe.bundle"
    assert run(*fit_arguments(tmp_path, bundle)).exit_code == 0

    table, found = run(*estimate_arguments(data, bundle)), run(*estimate_arguments(data, bundle), "--format", "json")

    assert table.exit_code == found.exit_code == 0
    assert "novelty unknown: all training images are of one patient or volume" in table.stdout
    assert json.loads(found.stdout)["novel_share"] is None
    assert "unlike" not in table.stderr + found.stderr


def test_an_estimate_runs_without_torch_and_without_the_training_data(data, bundle, tmp_path):
    alone = tmp_path / "alone.bundle"
    alone.write_bytes(bundle.read_bytes())
    call = [str(each) for each in estimate_arguments(data, alone)[1:]]

    results = [
        subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, *call, "--format", "json"], capture_output=True, check=True
        )
        for _ in range(2)
    ]

    assert results[0].stdout == results[1].stdout
    assert json.loads(results[0].stdout)["metrics"]["dice"]["n"] == 7


def test_a_better_model_is_estimated_better(data, bundle, run):
    dice = [
        json.loads(run(*estimate_arguments(data, bundle, model), "--format", "json").stdout)["metrics"]["dice"]
        for model in ("shift00", "shift06", "shift10")
    ]

    assert dice[0]["estimate"] > dice[1]["estimate"] > dice[2]["estimate"]


def test_a_gate_that_holds_exits_zero_and_a_broken_one_three(data, bundle, run, tmp_path):
    call = estimate_arguments(data, bundle)

    held = run(*call, "--fail-under", "dice=0.01", "--fail-over", "hd95=500")
    broken = run(*call, "--fail-under", "dice=0.999", "--fail-over", "hd95=500", "--junit", tmp_path / "j.xml")

    assert held.exit_code == 0
    assert broken.exit_code == 3
    assert "dice of label 1" in broken.stderr
    assert "dice" in broken.stdout
    suite = ET.parse(tmp_path / "j.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")


def test_github_gets_a_summary_and_an_annotation(data, bundle, run, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))

    result = run("-q", *estimate_arguments(data, bundle), "--fail-under", "dice=0.999")

    assert "::error title=segqa spe-estimate::dice of label 1" in result.stderr
    assert "| 1 | dice |" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize("gate", ["dice", "dice=high", "volume=3", "dice=nan", "=1"])
def test_a_gate_of_another_form_is_refused(data, bundle, run, gate):
    result = run(*estimate_arguments(data, bundle), "--fail-under", gate)

    assert result.exit_code == 2
    assert "METRIC=NUMBER" in result.stderr


@pytest.mark.parametrize(
    ("option", "gate", "said"),
    [
        ("--fail-under", "dice=85", "dice is 0 to 1"),
        ("--fail-over", "hd95=-1", "hd95 is 0 to inf"),
        ("--fail-under", "hd95=3", "write --fail-over hd95=3"),
        ("--fail-over", "dice=0.9", "write --fail-under dice=0.9"),
    ],
)
def test_a_gate_that_would_say_nothing_or_fail_good_models_is_refused(data, bundle, run, option, gate, said):
    result = run(*estimate_arguments(data, bundle), option, gate)

    assert result.exit_code == 2
    assert said in result.stderr


def test_a_damaged_bundle_is_one_line(data, bundle, run, tmp_path):
    (tmp_path / "cut.bundle").write_bytes(bundle.read_bytes()[:5000])

    result = run(*estimate_arguments(data, tmp_path / "cut.bundle"))

    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "cut.bundle: damaged" in result.stderr


def test_universeg_works_without_the_published_weights_and_says_which_it_uses(data, run, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("SEGQA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    bundle = tmp_path / "spe.bundle"

    fitted = run(*fit_arguments(data, bundle), "--engine", "universeg", "--support-size", 8, "--device", "cpu")
    estimated = run(*estimate_arguments(data, bundle), "--format", "json")

    assert fitted.exit_code == estimated.exit_code == 0
    assert "bfloat16" not in fitted.stderr
    for result in (fitted, estimated):
        assert "incontext-w32.safetensors: segqa's own in-context network" in result.stderr
    assert 0 < json.loads(estimated.stdout)["metrics"]["dice"]["estimate"] < 1


@pytest.mark.parametrize(("native", "is_warned"), [(True, False), (False, True)])
def test_bfloat16_is_warned_of_where_it_is_emulated(data, run, tmp_path, monkeypatch, native, is_warned):
    pytest.importorskip("torch")
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: native)
    (tmp_path / "spe.bundle").mkdir()  # to end it early: this is said before anything slow begins
    options = ("--engine", "universeg", "--precision", "bf16", "--device", "cpu")

    result = run(*fit_arguments(data, tmp_path / "spe.bundle"), *options, "--support-size", 1, "--repeats", 1)

    assert ("warning: bfloat16: cpu has no instructions for it" in result.stderr) == is_warned


def test_a_place_for_figures_that_cannot_be_written_is_told_before_anything_is_measured(data, run, tmp_path):
    (tmp_path / "taken").write_text("")
    result = run(*fit_arguments(data, tmp_path / "spe.bundle"), "--plots", tmp_path / "taken")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].endswith("choose another place or make room")
    assert not list(tmp_path.glob("spe.bundle*"))


def test_the_mappings_are_drawn_for_each_metric(data, run, tmp_path):
    pytest.importorskip("matplotlib")

    run(*fit_arguments(data, tmp_path / "spe.bundle"), "--plots", tmp_path / "figures")

    assert sorted(path.stem for path in (tmp_path / "figures").iterdir()) == sorted(SPE_METRICS)
