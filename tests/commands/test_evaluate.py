import json

import numpy as np
import polars as pl
import pytest
from PIL import Image


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two models, five cases; the shift of a mask makes its Dice."""
    monkeypatch.chdir(tmp_path)
    for case in range(5):
        for folder, shift in (("truth", 0), ("masks/x", case), ("masks/y", 1)):
            pixels = np.zeros((20, 20), np.uint8)
            pixels[5:15, 5 + shift : 15 + shift] = 255
            path = tmp_path / folder / f"c{case}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path


def write_scores(folder):
    rows = [f"c{case},1,1,{model},{0.9 - 0.1 * case}" for case in range(5) for model in "xy"]
    (folder / "scores.csv").write_text("case,object,label,model,predicted_dice\n" + "\n".join(rows) + "\n")


def test_the_true_metrics_are_written_and_printed(run, folders):
    result = run("evaluate", "masks", "truth")
    assert result.exit_code == 0, result.stderr
    table = pl.read_csv(folders / "segqa" / "evaluation.csv").filter(model="x").sort("case")
    assert table["true_dice"].to_list() == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6])
    assert table["true_hd_px"].to_list() == pytest.approx([0, 1, 2, 3, 4])
    assert "true_dice" in result.stdout


def test_with_scores_the_agreement_is_printed(run, folders):
    write_scores(folders)
    result = run("evaluate", "masks", "truth", "--scores", "scores.csv", "--format", "json", "--output", "e.csv")
    assert result.exit_code == 0, result.stderr
    rows = {row["model"]: row for row in json.loads(result.stdout)["rows"]}
    assert rows["x"]["pearson"] == pytest.approx(1.0)
    assert rows["x"]["mae"] == pytest.approx(0.1)
    assert rows["x"]["auroc"] == 1.0
    assert rows["y"]["pearson"] is None
    assert rows["(all)"]["n"] == 10


def test_a_file_without_partner_is_refused_unless_allowed(run, folders):
    (folders / "masks" / "x" / "c3.png").unlink()
    result = run("evaluate", "masks", "truth", "--output", "e.csv")
    assert result.exit_code == 2
    assert not (folders / "e.csv").exists()
    allowed = run("evaluate", "masks", "truth", "--output", "e.csv", "--allow-missing")
    assert allowed.exit_code == 0
    assert "warning: 1 files without partner are left out: c3.png (no mask of 'x')" in allowed.stderr
    assert pl.read_csv(folders / "e.csv").height == 9


def test_objects_that_have_no_score_are_counted_and_lower_the_true_mean(run, folders):
    write_scores(folders)
    for path in (folders / "truth").iterdir():
        pixels = np.asarray(Image.open(path)) // 255
        pixels[:3, :3] = 2
        Image.fromarray(pixels).save(path)
    result = run("evaluate", "masks", "truth", "--scores", "scores.csv", "--format", "json", "--output", "e.csv")
    assert "warning: 10 of 20 true rows have no score" in result.stderr
    rows = {row["model"]: row for row in json.loads(result.stdout)["rows"]}
    assert (rows["x"]["n"], rows["x"]["n_undefined"]) == (5, 5)
    assert rows["x"]["mean_true"] == pytest.approx(0.4)


def test_boxes_that_belong_to_no_image_are_told(run, folders):
    boxes = {f"c{case}": [[4, 4, 20, 20]] for case in (0, 1, 2, 3, 7)}
    (folders / "boxes.json").write_text(json.dumps({"format": "xyxy", "boxes": boxes}))
    result = run("evaluate", "masks", "truth", "--boxes", "boxes.json", "--output", "e.csv")
    assert "warning: the boxes of 1 cases belong to no image: c7; the keys must be stems" in result.stderr
    assert "warning: 1 of 5 cases have no box" in result.stderr


def test_boxes_number_the_objects(run, folders):
    boxes = {f"c{case}": [[0, 0, 20, 4], [4, 4, 20, 20]] for case in range(5)}
    (folders / "boxes.json").write_text(json.dumps({"format": "xyxy", "boxes": boxes}))
    run("evaluate", "masks", "truth", "--boxes", "boxes.json", "--output", "e.csv")
    table = pl.read_csv(folders / "e.csv", schema_overrides={"object": pl.String})
    assert table.filter(object="1")["true_dice"].null_count() == 10
    assert table.filter(object="2")["true_dice"].min() == pytest.approx(0.6)


@pytest.mark.parametrize(
    "arguments",
    [["--labels", "liver"], ["--labels", "0"], ["--output", "e.xlsx"], ["--scores", "none.csv"]],
)
def test_a_bad_call_exits_two_and_writes_nothing(run, folders, arguments):
    before = sorted(folders.iterdir())
    assert run("evaluate", "masks", "truth", *arguments).exit_code == 2
    assert sorted(folders.iterdir()) == before


def test_models_may_be_named_one_by_one(run, folders):
    result = run("evaluate", "first=masks/x", "second=masks/y", "truth", "--output", "e.csv")
    assert result.exit_code == 0, result.stderr
    table = pl.read_csv(folders / "e.csv")
    assert table.filter(model="first").sort("case")["true_dice"].to_list() == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6])
    assert table.filter(model="second")["true_dice"].to_list() == pytest.approx([0.9] * 5)


@pytest.mark.parametrize(
    ("pred", "text"),
    [
        (["masks/x", "masks/y"], "these masks need a name, NAME=DIR"),
        (["a=masks/x", "a=masks/y"], "two masks are named a"),
        (["a=nowhere"], "no such file or folder"),
        (["=masks/x"], "NAME=DIR"),
    ],
)
def test_masks_without_a_name_of_their_own_are_refused(run, folders, pred, text):
    result = run("evaluate", *pred, "truth")
    assert result.exit_code == 2
    assert text in result.stderr


def test_a_folder_with_an_equals_sign_in_its_name_is_a_folder(run, folders):
    (folders / "masks" / "x").rename(folders / "epoch=3")
    assert run("evaluate", "epoch=3", "truth", "--output", "e.csv").exit_code == 0
    assert pl.read_csv(folders / "e.csv")["model"].unique().to_list() == ["epoch=3"]


def test_volumes_are_cut_along_the_axis_that_score_was_given(run, folders):
    volume = np.zeros((4, 6, 6), np.uint8)
    volume[1:3, 1:4, 1:4] = 1
    for name in ("pred", "reference"):
        (folders / name).mkdir()
        np.save(folders / name / "v.npy", volume)
    cases = {}
    for axis in (-1, 0):
        assert run("evaluate", "pred", "reference", "--axis", axis, "--output", "e.csv").exit_code == 0
        cases[axis] = pl.read_csv(folders / "e.csv")["case"].to_list()
    assert cases == {-1: ["v:1", "v:2", "v:3"], 0: ["v:1", "v:2"]}
