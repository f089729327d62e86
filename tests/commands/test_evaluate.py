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
    assert run("evaluate", "masks", "truth", "--output", "e.csv", "--allow-missing").exit_code == 0
    assert pl.read_csv(folders / "e.csv").height == 9


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
