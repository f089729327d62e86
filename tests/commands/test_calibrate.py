import json
import re

import numpy as np
import polars as pl
import pytest

from segqa.output.tables import read_scores
from segqa.phantoms import write_demo


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Scores and truth of 20 cases of 2 objects, as `score` and `evaluate` write them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    cases = [f"c{i:02d}" for i in range(20) for _ in range(2)]
    keys = {"case": cases, "object": ["1", "2"] * 20, "label": ["1"] * 40, "model": ["m"] * 40}
    predicted = rng.uniform(0.2, 0.8, 40)
    pl.DataFrame(keys | {"predicted_dice": predicted}).write_csv("scores.csv")
    true = np.clip(predicted + rng.uniform(-0.1, 0.1, 40), 0, 1)
    pl.DataFrame(keys | {"true_dice": true}).write_csv("truth.csv")
    return tmp_path


def test_a_calibration_is_written_with_what_it_was_made_of(run, tables):
    result = run("calibrate", "scores.csv", "truth.csv")
    assert result.exit_code == 0
    assert "level 0.9 from 40 objects of 20 groups" in result.stdout
    assert "the calibration will not check the weights" in result.stderr
    content = json.loads((tables / "segqa/calibration.json").read_text())
    assert content["schema"] == "segqa.calibration"
    assert content["weights_sha256"] is None
    interval = content["intervals"]["dice"]
    assert (interval["level"], interval["n_groups"], interval["widening"]) == (0.9, 20, 0.0)
    assert 0.05 < interval["reach"] < 0.2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_cases_of_one_group_count_as_one(run, tables, encoding):
    groups = {f"c{i:02d}": f"p{i // 2}" for i in range(20)}
    (tables / "groups.json").write_text(json.dumps(groups), encoding=encoding)
    result = run("calibrate", "scores.csv", "truth.csv", "--groups", "groups.json", "--out", "mine.json")
    assert "40 objects of 10 groups" in result.stdout
    assert json.loads((tables / "mine.json").read_text())["intervals"]["dice"]["n_groups"] == 10


def test_slices_of_one_volume_count_as_one_and_a_volume_may_have_a_group(run, tables):
    for name in ("scores.csv", "truth.csv"):
        text = re.sub(r"(?m)^c(\d)(\d)", r"v\2:0\1", (tables / name).read_text())
        (tables / name).write_text(text)
    assert "40 objects of 10 groups" in run("calibrate", "scores.csv", "truth.csv").stdout
    (tables / "groups.json").write_text(json.dumps({f"v{i}": f"p{i // 2}" for i in range(10)}))
    result = run("calibrate", "scores.csv", "truth.csv", "--groups", "groups.json", "--level", "0.8")
    assert "40 objects of 5 groups" in result.stdout


def test_rows_without_a_score_or_a_truth_are_left_out_and_counted(run, tables):
    truth = pl.read_csv("truth.csv", schema_overrides={"object": pl.String, "label": pl.String})
    truth.head(30).write_csv("truth.csv")
    result = run("calibrate", "scores.csv", "truth.csv")
    assert "30 objects of 15 groups" in result.stdout
    assert "10 of 40 rows have no score or no truth: left out" in result.stderr


def test_too_few_cases_are_refused_and_nothing_is_written(run, tables):
    result = run("calibrate", "scores.csv", "truth.csv", "--level", "0.99")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "40 objects of 20 groups" in result.stderr
    assert "at least 99 groups" in result.stderr
    assert not (tables / "segqa").exists()


@pytest.mark.parametrize("text", ["", "[]", "3", '{"c00": "p0"}'])
def test_a_groups_file_that_lacks_cases_is_refused(run, tables, text):
    (tables / "groups.json").write_text(text)
    result = run("calibrate", "scores.csv", "truth.csv", "--groups", "groups.json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "groups.json" in result.stderr.splitlines()[-1]


def test_score_takes_the_calibration_of_its_own_weights_only(run, tables, tiny_weights):
    write_demo(tables / "demo", n_cases=9)
    options = ("--weights", tiny_weights, "--runtime", "onnx", "--device", "cpu", "--workers", 1)
    assert run("score", "demo/images", "demo/masks", *options).exit_code == 0
    plain = read_scores(tables / "segqa/scores.csv")
    assert plain["lower"].null_count() == plain["upper"].null_count() == plain["novelty"].null_count() == plain.height
    assert run("evaluate", "demo/masks", "demo/truth").exit_code == 0
    assert run("calibrate", "segqa/scores.csv", "segqa/evaluation.csv").exit_code == 0
    calibration = tables / "segqa/calibration.json"
    again = run("score", "demo/images", "demo/masks", *options, "--calibration", calibration)
    assert again.exit_code == 0
    assert "lower" in again.stdout
    table = read_scores(tables / "segqa/scores.csv")
    assert table["predicted_dice"].equals(plain["predicted_dice"])
    assert (table["lower"] <= table["predicted_dice"]).to_list() == [True] * table.height  # and none is null
    assert (table["upper"] >= table["predicted_dice"]).to_list() == [True] * table.height
    assert run("flag", "--threshold", "0.5", "--use", "lower").exit_code == 0
    content = json.loads(calibration.read_text())
    calibration.write_text(json.dumps(content | {"weights_sha256": "0" * 64}))
    refused = run("score", "demo/images", "demo/masks", *options, "--calibration", calibration)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "was made for the scores of other weights" in refused.stderr


def test_a_calibration_is_for_scores_with_references_or_for_those_without(run, tables, tiny_weights):
    write_demo(tables / "demo", n_cases=3)
    reference = ("--reference", "demo/images", "demo/truth")
    call = (
        "score",
        "demo/images",
        "demo/masks",
        "--weights",
        tiny_weights,
        "--runtime",
        "onnx",
        "--workers",
        1,
        "--labels",
        1,
    )
    assert run("evaluate", "demo/masks", "demo/truth").exit_code == 0
    for with_them, without, words in (
        (reference, (), "with --reference; leave --reference in"),
        ((), reference, "without --reference; leave it out"),
    ):
        assert run(*call, *with_them).exit_code == 0
        assert run("calibrate", "segqa/scores.csv", "segqa/evaluation.csv", "--level", 0.6).exit_code == 0
        calibrated = ("--calibration", "segqa/calibration.json")
        assert run(*call, *with_them, *calibrated).exit_code == 0
        refused = run(*call, *without, *calibrated)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert f"was made for scores {words}" in refused.stderr
