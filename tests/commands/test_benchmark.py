import json

import numpy as np
import pytest


@pytest.fixture
def tables(tmp_path):
    rng = np.random.default_rng(0)
    scores, truth = tmp_path / "scores.csv", tmp_path / "evaluation.csv"
    head = "case,object,label,model,"
    scored, true = [head + "predicted_dice"], [head + "true_dice"]
    for case in range(40):
        for model, mean in (("good", 0.8), ("bad", 0.5)):
            dice = np.clip(mean + rng.normal(0, 0.05), 0, 1)
            scored.append(f"c{case},1,1,{model},{dice}")
            true.append(f"c{case},1,1,{model},{np.clip(dice + rng.normal(0, 0.02), 0, 1)}")
    scores.write_text("\n".join(scored) + "\n")
    truth.write_text("\n".join(true) + "\n")
    return scores, truth


def test_models_are_printed_best_first(run, tables):
    result = run("benchmark", tables[0], "--format", "json")
    assert [row["model"] for row in json.loads(result.stdout)["rows"]] == ["good", "bad"]


def test_a_missing_mask_is_an_object_without_score_of_its_model(run, tables):
    with tables[0].open("a") as file:
        file.write("x,1,1,good,0.9\nx,,,bad,\n")
    rows = json.loads(run("benchmark", tables[0], "--format", "json").stdout)["rows"]
    assert [(row["model"], row["n"], row["n_unscored"]) for row in rows] == [("good", 41, 0), ("bad", 40, 1)]


def test_people_see_the_differences_too(run, tables):
    result = run("benchmark", tables[0])
    assert result.exit_code == 0
    assert "Differences of models" in result.stdout
    assert "True" in result.stdout


def test_one_image_is_shown_without_intervals(run, tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("case,object,label,model,predicted_dice\na,1,1,x,0.9\na,1,1,y,0.5\n")
    result = run("benchmark", path)
    assert result.exit_code == 0, result.stderr
    assert "0.4000" in result.stdout
    assert "True" not in result.stdout
    assert "1.0000" not in result.stdout


def test_with_truth_the_agreement_is_shown(run, tables):
    result = run("benchmark", tables[0], "--truth", tables[1])
    assert result.exit_code == 0
    for text in ("pearson", "aurc", "right_order", "Kendall's tau 1.0000"):
        assert text in result.stdout


def test_truth_of_other_cases_is_refused(run, tables):
    tables[0].write_text(tables[0].read_text().replace("\nc", "\ncase"))
    result = run("benchmark", tables[0], "--truth", tables[1])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no score has a true value: the scores begin with (case0, 1, 1, good), the truth with (c0," in result.stderr


def test_figures_are_written(run, tables, tmp_path):
    folder = tmp_path / "figures"
    result = run("benchmark", tables[0], "--truth", tables[1], "--plots", folder)
    assert result.exit_code == 0, result.stderr
    names = {"histogram", "scatter", "risk_coverage", "reliability"}
    assert {path.name for path in folder.iterdir()} == {f"{name}.{end}" for name in names for end in ("png", "svg")}


@pytest.mark.parametrize("file_format", ["table", "csv", "json"])
def test_models_of_different_cases_are_warned_of(run, tables, file_format):
    lines = tables[0].read_text().splitlines()
    kept = [line for line in lines if "good" in line or "bad" not in line or line.startswith("c1,")]
    tables[0].write_text("\n".join(kept) + "\n")
    result = run("benchmark", tables[0], "--format", file_format)
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: good and bad are placed by different objects: 40 and 1 are scored, 1 of ")
    assert "different objects" not in result.stdout


def test_the_seed_changes_the_draws_only(run, tables):
    first, again, other = (run("benchmark", tables[0], "--format", "csv", "--seed", seed).stdout for seed in (0, 0, 1))
    assert first == again != other


def test_a_level_in_percent_is_refused(run, tables):
    assert run("benchmark", tables[0], "--level", 95).exit_code == 2


def test_an_empty_table_is_refused(run, tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("case,object,label,model,predicted_dice\n")
    result = run("benchmark", path)
    assert result.exit_code == 2
    assert "no row" in result.stderr
