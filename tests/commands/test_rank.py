import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

HEADER = "case,object,label,model,predicted_dice,x0,y0,x1,y1\n"


@pytest.fixture
def scores(tmp_path):
    path = tmp_path / "scores.csv"
    rows = ["a,1,1,x,0.9,0,0,8,8", "a,1,1,y,0.5,0,0,8,8", "b,1,1,x,0.2,0,0,8,8", "b,1,1,y,0.6,0,0,8,8"]
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


def rows(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["rows"]


def test_the_best_model_of_each_case_is_printed(run, scores):
    chosen = rows(run("rank", scores, "--format", "json"))
    assert [(row["case"], row["model"], row["margin"]) for row in chosen] == [
        ("a", "x", pytest.approx(0.4)),
        ("b", "y", pytest.approx(0.4)),
    ]


def test_the_selection_is_written(run, scores, tmp_path):
    path = tmp_path / "selection.csv"
    assert run("rank", scores, "--output", path).exit_code == 0
    assert pl.read_csv(path)["model"].to_list() == ["x", "y"]


def test_with_truth_the_choice_is_judged_and_still_written(run, scores, tmp_path):
    truth, path = tmp_path / "evaluation.csv", tmp_path / "selection.csv"
    values = ["a,1,1,x,0.9", "a,1,1,y,0.5", "b,1,1,x,0.8", "b,1,1,y,0.6"]
    truth.write_text("case,object,label,model,true_dice\n" + "\n".join(values) + "\n")
    found = {
        row["strategy"]: row
        for row in rows(run("rank", scores, "--truth", truth, "--output", path, "--format", "json"))
    }
    assert found["predicted"]["accuracy"] == 0.5
    assert found["always x"]["regret"] == 0.0
    assert pl.read_csv(path).height == 2


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def test_the_chosen_masks_are_copied(run, scores, tmp_path):
    for index, (case, model) in enumerate([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]):
        pixels = np.zeros((8, 8))
        pixels[index, :] = 1
        save(tmp_path / "masks" / model / f"{case}.png", pixels)
    best = tmp_path / "best"
    result = run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", best)
    assert result.exit_code == 0, result.stderr
    for case, row in (("a", 0), ("b", 3)):
        found = np.asarray(Image.open(best / f"{case}.png"))
        assert np.flatnonzero(found.any(axis=1)).tolist() == [row]


def test_objects_of_one_label_come_each_from_their_own_model(run, tmp_path):
    scores = tmp_path / "scores.csv"
    table = ["a,1,1,x,0.9,0,0,4,8", "a,2,1,x,0.1,4,0,8,8", "a,1,1,y,0.5,0,0,4,8", "a,2,1,y,0.6,4,0,8,8"]
    scores.write_text(HEADER + "\n".join(table) + "\n")
    for row, model in ((1, "x"), (5, "y")):
        pixels = np.zeros((8, 8))
        pixels[row, [1, 6]] = 1
        save(tmp_path / "masks" / model / "a.png", pixels)
    best = tmp_path / "best"
    assert run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", best).exit_code == 0
    assert np.argwhere(np.asarray(Image.open(best / "a.png"))).tolist() == [[1, 1], [5, 6]]


@pytest.mark.parametrize("arguments", [["--copy-best", "best"], ["--masks", "masks"]])
def test_copying_needs_both_folders(run, scores, arguments):
    result = run("rank", scores, *arguments)
    assert result.exit_code == 2
    assert "belong together" in result.stderr


def test_masks_of_other_cases_are_refused(run, scores, tmp_path):
    for model in "xy":
        save(tmp_path / "masks" / model / "z.png", np.eye(8))
    result = run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", tmp_path / "best")
    assert result.exit_code == 2
    assert "2 cases of the scores have no mask" in result.stderr
