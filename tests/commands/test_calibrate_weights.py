import numpy as np
import pytest

pytest.importorskip("torch")

from segqa.output.tables import read_scores
from segqa.phantoms import write_demo
from segqa.quality.calibration import read_calibration


@pytest.fixture
def prepared(prepare_phantoms):
    """Ten data sets of two phantoms."""
    return prepare_phantoms([f"set{seed // 2}" for seed in range(20)])


def left_out(n):
    return [part for i in range(n) for part in ("--leave-out", f"set{i}")]


def test_calibrated_weights_give_intervals_and_novelty_to_every_row(run, prepared, tiny_weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "mine.safetensors"
    options = ("--runtime", "onnx", "--device", "cpu")
    result = run("calibrate-weights", tiny_weights, prepared, *left_out(9), "--masks", 100, "--out", out, *options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{out} written: dice: level 0.9 from 108 objects of 9 groups; ")
    assert read_calibration(out).about["groups"] == "data sets"
    assert read_calibration(tiny_weights) is None
    write_demo(tmp_path / "demo", n_cases=2)
    for weights in (tiny_weights, out):
        scored = run("score", "demo/images", "demo/masks", "--weights", weights, "--workers", 1, *options)
        assert scored.exit_code == 0
        table = read_scores(tmp_path / "segqa/scores.csv")
        if weights == tiny_weights:
            before = table
    np.testing.assert_allclose(table["predicted_dice"], before["predicted_dice"], atol=1e-6)
    assert (table["lower"] <= table["predicted_dice"]).to_list() == [True] * table.height  # and none is null
    assert (table["predicted_dice"] <= table["upper"]).to_list() == [True] * table.height
    assert table["novelty"].is_between(0, 1).to_list() == [True] * table.height
    novel = table.filter(table["novelty"] > 0.99)
    assert (f"{novel.height} of {table.height} objects are unlike" in scored.stderr) == (novel.height > 0)
    assert scored.stderr.count("are unlike") == (novel.height > 0)
    marked = table.filter(table["reason"].fill_null("").str.contains("novel-input"))
    assert marked.equals(novel)


def test_too_few_groups_are_refused_and_the_weights_stay(run, prepared, tiny_weights):
    before = tiny_weights.read_bytes()
    result = run("calibrate-weights", tiny_weights, prepared, *left_out(2), "--runtime", "onnx", "--device", "cpu")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "4 groups (patients, volumes) are held out, of 2 data sets" in result.stderr
    assert tiny_weights.read_bytes() == before


def test_weights_of_unknown_training_sets_are_refused(run, prepared, tiny_weights):
    result = run("calibrate-weights", tiny_weights, prepared, "--runtime", "onnx", "--device", "cpu")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--leave-out" in result.stderr


def test_a_place_that_cannot_be_written_is_told_before_anything_is_judged(run, prepared, tiny_weights, tmp_path):
    taken = tmp_path / "taken.safetensors"
    taken.mkdir()
    result = run("calibrate-weights", tiny_weights, prepared, *left_out(1), "--out", taken)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "taken.safetensors: cannot be written" in result.stderr  # and not that one group is too few


def test_a_name_that_is_not_of_a_weights_file_is_refused(run, prepared, tiny_weights, tmp_path):
    refused = run("calibrate-weights", tiny_weights, prepared, "--out", tmp_path / "mine.onnx")
    assert refused.exit_code == 2
    assert "mine.onnx: a name that ends in .safetensors was expected" in refused.stderr
