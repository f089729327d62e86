import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from PIL import Image

from segqa.phantoms import write_demo

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


@pytest.mark.parametrize("step", [1, -1])
def test_objects_of_one_label_come_each_from_their_own_model_in_any_order_of_rows(run, tmp_path, step):
    scores = tmp_path / "scores.csv"
    table = ["a,1,1,x,0.9,0,0,4,8", "a,2,1,x,0.1,4,0,8,8", "a,1,1,y,0.5,0,0,4,8", "a,2,1,y,0.6,4,0,8,8"]
    scores.write_text(HEADER + "\n".join(table[::step]) + "\n")
    for row, model in ((1, "x"), (5, "y")):
        pixels = np.zeros((8, 8))
        pixels[row, [1, 6]] = 1
        save(tmp_path / "masks" / model / "a.png", pixels)
    best = tmp_path / "best"
    assert run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", best).exit_code == 0
    assert np.argwhere(np.asarray(Image.open(best / "a.png"))).tolist() == [[1, 1], [5, 6]]


def test_where_chosen_objects_of_two_models_overlap_the_later_one_is_on_top(run, scores, tmp_path):
    scores.write_text(HEADER + "a,1,1,x,0.9,0,0,8,8\na,1,2,x,0.1,0,0,8,8\na,1,1,y,0.1,0,0,8,8\na,1,2,y,0.9,0,0,8,8\n")
    save(tmp_path / "masks" / "x" / "a.png", [[1, 1, 1, 2]])
    save(tmp_path / "masks" / "y" / "a.png", [[1, 0, 2, 2]])
    assert run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", tmp_path / "best").exit_code == 0
    assert np.asarray(Image.open(tmp_path / "best" / "a.png")).tolist() == [[1, 1, 2, 2]]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--copy-best", "best"], "--copy-best needs --masks"),
        (["--truth", "t.csv", "--format", "parquet", "--output", "s.parquet"], "comparison with --truth is printed"),
        (["--masks", "masks"], "--masks: for images that are scored first"),
        (["--boxes", "boxes.json", "--labels", "1"], "--boxes, --labels: for images"),
    ],
)
def test_what_would_have_no_effect_on_a_table_is_refused(run, scores, arguments, text):
    result = run("rank", scores, *arguments)
    assert result.exit_code == 2
    assert text in result.stderr


def test_images_without_masks_are_refused_in_one_line(run, tmp_path):
    result = run("rank", tmp_path)
    assert result.exit_code == 2
    assert "--masks NAME=DIR" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_model_without_masks_there_is_named(run, scores, tmp_path):
    save(tmp_path / "masks" / "x" / "a.png", np.eye(8))
    result = run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", tmp_path / "best")
    assert result.exit_code == 2
    assert "no masks of the model 'y'" in result.stderr


def test_masks_may_be_named_one_by_one(run, scores, tmp_path):
    for folder, row in (("first", 1), ("second", 2)):
        for case in "ab":
            pixels = np.zeros((8, 8))
            pixels[row] = 1
            save(tmp_path / folder / f"{case}.png", pixels)
    named = ("--masks", f"x={tmp_path / 'first'}", "--masks", f"y={tmp_path / 'second'}")
    result = run("rank", scores, *named, "--copy-best", tmp_path / "best")
    assert result.exit_code == 0, result.stderr
    rows = [np.flatnonzero(np.asarray(Image.open(tmp_path / "best" / f"{case}.png")).any(axis=1)) for case in "ab"]
    assert [row.tolist() for row in rows] == [[1], [2]]


def test_objects_of_one_label_without_boxes_are_refused_in_one_line(run, tmp_path):
    scores = tmp_path / "scores.csv"
    scores.write_text("case,object,label,model,predicted_dice\na,1,1,x,0.9\na,2,1,x,0.1\n")
    save(tmp_path / "masks" / "x" / "a.png", np.eye(8))
    result = run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", tmp_path / "best")
    assert result.exit_code == 2
    fact = "case a: label 1 has no boxes to tell its 2 objects apart"
    assert result.stderr == f"error: {fact}; use the table that `segqa score` wrote\n"


def test_a_case_without_any_score_has_no_file(run, scores, tmp_path):
    scores.write_text(HEADER + "a,1,1,x,0.9,0,0,8,8\na,1,1,y,,0,0,8,8\nb,,,x,,,,,\nb,,,y,,,,,\n")
    for case, model in (("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")):
        save(tmp_path / "masks" / model / f"{case}.png", np.eye(8))
    assert run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", tmp_path / "best").exit_code == 0
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["a.png"]


def test_an_object_without_the_others_of_its_label_is_not_drawn_as_all_of_them(run, scores, tmp_path):
    pixels = np.zeros((8, 8))
    pixels[1, 1] = pixels[6, 6] = 1
    save(tmp_path / "masks" / "x" / "a.png", pixels)
    scores.write_text(HEADER + "a,2,1,x,0.9,4,4,8,8\n")
    result = run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", tmp_path / "best")
    assert result.exit_code == 2
    assert "object 2 of label 1 is one of 1 in the table; give the whole table" in result.stderr


def test_a_missed_box_of_unknown_label_draws_nothing(run, scores, tmp_path):
    scores.write_text(HEADER + "a,1,1,x,0.9,0,0,8,8\na,1,unknown,x,0.1,5,5,8,8\n")
    save(tmp_path / "masks" / "x" / "a.png", np.eye(8))
    assert run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", tmp_path / "best").exit_code == 0
    assert np.asarray(Image.open(tmp_path / "best" / "a.png")).sum() == 8


def test_slices_along_another_axis_are_found_and_one_that_all_missed_is_empty(run, scores, tmp_path):
    volume = np.zeros((3, 8, 8), np.uint8)
    volume[1, 2] = 1
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks" / "v.npy", volume)
    scores.write_text(HEADER + "v:1,1,1,masks,0.9,0,0,8,8\nv:2,1,1,masks,0.1,0,0,8,8\n")
    result = run("rank", scores, "--masks", tmp_path / "masks", "--axis", 0, "--copy-best", tmp_path / "best")
    assert result.exit_code == 0, result.stderr
    rows = [np.asarray(Image.open(tmp_path / "best" / f"v_{i}.png")).any(axis=1) for i in (1, 2)]
    assert [np.flatnonzero(row).tolist() for row in rows] == [[2], []]


def test_images_are_scored_as_score_does_and_the_best_is_copied(run, tmp_path, tiny_weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_demo(tmp_path, n_cases=2)
    shared = ("--boxes", "boxes.json", "--weights", tiny_weights, "--workers", 1)
    assert run("score", "images", "masks", *shared, "--output", "apart.csv").exit_code == 0
    models = sorted(path.name for path in (tmp_path / "masks").iterdir())
    named = [part for model in models for part in ("--masks", f"{model}=masks/{model}")]
    result = run("rank", "images", *named, *shared, "--copy-best", "best", "--output", "selection.csv")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "segqa/scores.csv").read_text() == (tmp_path / "apart.csv").read_text()
    assert run("rank", "apart.csv", "--output", "again.csv").exit_code == 0
    assert (tmp_path / "selection.csv").read_text() == (tmp_path / "again.csv").read_text()
    result = run("rank", "apart.csv", "--masks", "masks", "--copy-best", "best2")
    assert result.exit_code == 0, result.stderr
    first, second = (sorted((tmp_path / name).rglob("*.png")) for name in ("best", "best2"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert len(first) == 2


def test_ranking_a_table_imports_no_torch(scores):
    code = (
        "import sys; from segqa.cli import app; app(sys.argv[1:], standalone_mode=False);"
        "print('torch' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    arguments = [sys.executable, "-c", code, "rank", str(scores)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"


def test_masks_of_other_cases_are_refused(run, scores, tmp_path):
    for model in "xy":
        save(tmp_path / "masks" / model / "z.png", np.eye(8))
    result = run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", tmp_path / "best")
    assert result.exit_code == 2
    assert "2 cases of the scores have no mask of their chosen model" in result.stderr


@pytest.mark.parametrize("place", ["masks", "masks/y", "masks/y/best", "masks/../masks/x", "link", "."])
def test_the_masks_that_were_scored_are_not_overwritten(run, scores, tmp_path, place):
    for model in "xy":
        for case in "ab":
            save(tmp_path / "masks" / model / f"{case}.png", np.eye(8))
    (tmp_path / "link").symlink_to("masks/x")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    result = run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", tmp_path / place)
    assert result.exit_code == 2
    assert f"--copy-best {tmp_path / place}: shares a folder with the masks that were scored" in result.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before


def test_the_chosen_masks_do_not_become_a_model(run, scores, tmp_path):
    for model in "xy":
        for case in "ab":
            save(tmp_path / "masks" / model / f"{case}.png", np.eye(8))
    before = sorted(tmp_path.rglob("*"))
    result = run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", tmp_path / "masks/best")
    assert result.exit_code == 2
    assert f"masks/best: lies in {tmp_path / 'masks'} and would be one of its models" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before
    named = [word for model in "xy" for word in ("--masks", f"{model}={tmp_path / 'masks' / model}")]
    assert run("rank", scores, *named, "--copy-best", tmp_path / "masks/best").exit_code == 0


def test_a_place_among_the_masks_is_refused_before_they_are_scored(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks/x", "masks/y"):
        save(tmp_path / folder / "a.png", np.eye(8))
    monkeypatch.setattr("segqa.commands.rank._score", lambda plan: pytest.fail("scored"))
    for place, fact in (
        ("x", "shares a folder with the masks that were scored"),
        ("z", "lies in masks and would be one"),
    ):
        result = run("rank", "images", "--masks", "masks", "--copy-best", f"masks/{place}")
        assert result.exit_code == 2
        assert f"error: --copy-best masks/{place}: {fact}" in result.stderr


def test_beside_a_mask_that_was_given_as_a_file_there_is_room(run, scores, tmp_path):
    scores.write_text(HEADER + "x,1,1,x,0.9,0,0,8,8\n")
    save(tmp_path / "x.png", np.eye(8))
    result = run("rank", scores, "--masks", f"x={tmp_path / 'x.png'}", "--copy-best", tmp_path / "best")
    assert result.exit_code == 0, result.stderr
    assert np.asarray(Image.open(tmp_path / "best" / "x.png")).sum() == 8


def test_a_lone_mask_of_an_image_in_a_sub_folder_is_copied(run, tmp_path, tiny_weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "images" / "deep" / "x.png", 200 * np.eye(24))
    save(tmp_path / "x.png", np.eye(24))
    result = run("rank", "images", "--masks", "unet=x.png", "--copy-best", "best", "--weights", tiny_weights)
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in (tmp_path / "best" / "deep").iterdir()] == ["x.png"]


def test_scores_that_rank_writes_have_their_own_record(run, tmp_path, tiny_weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for case in "ab":
        save(tmp_path / "images" / f"{case}.png", 200 * np.eye(24))
        save(tmp_path / "masks" / f"{case}.png", np.eye(24))
    assert run("score", "images", "masks", "--weights", tiny_weights).exit_code == 0
    (tmp_path / "images" / "b.png").unlink()
    (tmp_path / "masks" / "b.png").unlink()
    assert run("rank", "images", "--masks", "masks", "--weights", tiny_weights).exit_code == 0
    assert json.loads((tmp_path / "segqa" / "scores.run.json").read_text())["counts"]["read"] == 1


def test_masks_of_a_model_that_was_not_named_are_not_looked_for_elsewhere(run, scores, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in "xy":  # folders of the models' names, in the working directory by chance
        for case in "ab":
            save(tmp_path / folder / f"{case}.png", np.eye(8))
    result = run("rank", scores, "--masks", f"x={tmp_path / 'x'}", "--copy-best", tmp_path / "best")
    assert result.exit_code == 2
    assert "no masks of the model 'y'" in result.stderr


def test_a_place_that_cannot_be_written_is_refused_in_one_line(run, scores, tmp_path):
    for model in "xy":
        for case in "ab":
            save(tmp_path / "masks" / model / f"{case}.png", np.eye(8))
    result = run("rank", scores, "--masks", tmp_path / "masks", "--copy-best", scores / "best")
    assert result.exit_code == 2
    assert "cannot be written (" in result.stderr
    assert result.stderr.count("\n") == 1


def test_images_are_scored_with_references_before_they_are_ranked(run, tmp_path, monkeypatch, tiny_weights):
    monkeypatch.chdir(tmp_path)
    write_demo(tmp_path / "demo", n_cases=3)
    call = ("rank", "demo/images", "--masks", "demo/masks", "--weights", tiny_weights, "--workers", 1)
    result = run(*call, "--reference", "demo/images", "demo/truth")
    assert result.exit_code == 0, result.stderr
    assert "label 1: 3 objects of 3 labelled images" in result.stderr
    assert pl.read_csv("segqa/scores.csv")["reference_dice"].null_count() == 0


def test_references_have_no_effect_on_a_table(run, scores):
    result = run("rank", scores, "--reference", "a", "b")
    assert result.exit_code == 2
    assert "--reference: for images that are scored first" in result.stderr
