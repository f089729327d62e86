import gzip
import json
import os
import re
import shutil

import numpy as np
import polars as pl
import pytest
from PIL import Image as PillowImage
from polars.testing import assert_frame_equal

from segqa import scores
from segqa.data.masks import read_mask, write_mask
from segqa.data.types import Source
from segqa.output.tables import read_scores
from segqa.phantoms import write_demo
from segqa.schema import SCORE_COLUMNS


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """A folder `demo` in the working directory, so that what the command leaves behind is seen."""
    monkeypatch.chdir(tmp_path)
    write_demo(tmp_path / "demo", n_cases=2)
    return tmp_path / "demo"


@pytest.fixture
def score(run, tiny_weights):
    def invoke(*arguments):
        return run("score", *arguments, "--weights", tiny_weights, "--device", "cpu", "--workers", 1)

    return invoke


def left_behind(folder):
    """Return the files that the command has made, hidden ones too."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "demo" not in path.relative_to(folder).parts
    )


def assert_refused(result, folder, *words):
    """Exit code 2, one line on stderr, nothing on stdout and no file."""
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr
    assert left_behind(folder) == []


def test_parquet_is_not_written_into_another_kind_of_file(score, demo, tmp_path):
    assert_refused(score("demo/images", "demo/masks", "--format", "parquet"), tmp_path, "parquet", "--output")
    result = score("demo/images", "demo/masks", "--format", "parquet", "--output", "n.csv")
    assert_refused(result, tmp_path, "n.csv", "name a .parquet file")


def test_boxes_of_other_images_and_images_without_a_box_are_told(score, demo):
    boxes = json.loads((demo / "boxes.json").read_text())
    boxes["boxes"]["patient_1"] = boxes["boxes"].pop(sorted(boxes["boxes"])[0])
    (demo / "boxes.json").write_text(json.dumps(boxes))
    result = score("demo/images", "demo/masks", "--boxes", "demo/boxes.json")
    assert "warning: the boxes of 1 cases belong to no image: patient_1" in result.stderr
    assert "warning: 1 of 2 cases have no box" in result.stderr


def test_images_given_as_masks_are_refused(score, demo, tmp_path):
    assert_refused(score("demo/images", "demo/images"), tmp_path, "image and mask are the same file", "phantom_01.png")
    (tmp_path / "demo/linked").symlink_to(tmp_path / "demo/images")
    assert_refused(score("demo/images", "demo/linked", "--on-error", "skip"), tmp_path, "the same file")


def test_a_boxes_file_without_boxes_is_told(score, demo):
    (demo / "boxes.json").write_text('{"boxes": {}}')
    result = score("demo/images", "demo/masks", "--boxes", "demo/boxes.json")
    assert result.exit_code == 0
    assert "warning: 2 of 2 cases have no box" in result.stderr


def test_the_boxes_of_a_coco_file_belong_to_the_label_of_their_category(score, demo):
    boxes = json.loads((demo / "boxes.json").read_text())["boxes"]
    stems = sorted(boxes)
    annotations = [
        {"image_id": index, "category_id": 2, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for index, stem in enumerate(stems)
        for x0, y0, x1, y1 in (entry["box"] for entry in boxes[stem] if entry["label"] == "2")
    ]
    content = {
        "images": [{"id": index, "file_name": f"{stem}.png"} for index, stem in enumerate(stems)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cytoplasm"}, {"id": 2, "name": "nucleus"}],
    }
    (demo / "coco.json").write_text(json.dumps(content))
    for path in (demo / "masks").rglob("*.png"):  # missed by every model
        write_mask(path, (read_mask(Source(path)).pixels == 1).astype(np.int32))
    assert score("demo/images", "demo/masks", "--boxes", "demo/coco.json").exit_code == 0
    boxed = read_scores(demo.parent / "segqa" / "scores.csv").filter(pl.col("box_source") == "file")
    assert len(annotations) == 2
    assert set(boxed["label"].to_list()) == {"2"}
    assert boxed["reason"].str.contains("empty-prediction").all()


def test_a_volume_in_which_nothing_was_found_is_no_silent_success(score, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "v.npy", np.random.default_rng(0).random((16, 16, 5)))
    np.save(tmp_path / "m.npy", np.full((16, 16, 5), 0.4))
    result = score("v.npy", "m.npy")
    assert result.exit_code == 0
    (row,) = read_scores(tmp_path / "segqa" / "scores.csv").to_dicts()
    assert (row["case"], row["box_source"], row["status"]) == ("v:2", "image", "warning")
    assert row["reason"] == "probability-map: cut at 0.5; the largest is 0.4; empty-prediction"


def test_a_volume_that_cannot_be_read_is_a_row_when_errors_are_skipped(score, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    volume = np.zeros((30, 30, 2), np.uint8)
    volume[5:20, 5:20] = 1
    for name in "images", "masks/x", "masks/y":
        (tmp_path / name).mkdir(parents=True)
        for stem in "ab":
            np.save(tmp_path / name / f"{stem}.npy", volume)
    np.save(tmp_path / "masks/y/a.npy", volume[:, :20])
    stopped = score("images", "masks", "--axis", "2")
    assert stopped.exit_code == 2
    assert "1 volumes cannot be read: y/a.npy: mask 30 x 20 x 2" in stopped.stderr
    assert score("images", "masks", "--axis", "2", "--on-error", "skip").exit_code == 4
    table = read_scores(tmp_path / "segqa/scores.csv")
    assert table.group_by("case", "model").len().height == 7
    (row,) = table.filter(status="error").to_dicts()
    assert (row["case"], row["model"]) == ("a", "y")
    assert row["reason"].startswith("y/a.npy: mask 30 x 20 x 2, image 30 x 30 x 2")
    shown = run("report", "--images", "images", "--masks", "masks", "--axis", "2")
    assert shown.exit_code == 0, shown.stderr
    assert run("rank", "--masks", "masks", "--axis", "2", "--copy-best", "best").exit_code == 0
    (tmp_path / "images/b.npy").write_bytes((tmp_path / "images/b.npy").read_bytes()[:20])
    assert score("images", "masks", "--axis", "2", "--on-error", "skip", "--overwrite").exit_code == 4
    lost = read_scores(tmp_path / "segqa/scores.csv").filter(case="b")
    assert lost["model"].to_list() == ["x", "y"]
    assert lost["reason"].str.starts_with("images/b.npy: ").all()  # what is wrong is the image, not the masks
    np.save(tmp_path / "masks/x/a.npy", volume[:, :20])
    (tmp_path / "images/b.npy").unlink()
    lone = score("images", "masks", "--axis", "2", "--on-error", "skip")
    assert lone.exit_code == 4
    assert "4 of 4 rows could not be scored" in lone.stderr


def test_labels_of_a_volume_are_scored_evaluated_and_shown_where_they_are(score, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = np.zeros((40, 40, 6), np.uint8)
    labels[5:20, 5:20, :3], labels[22:38, 22:38, 3:] = 1, 2
    np.save(tmp_path / "v.npy", np.random.default_rng(0).random((40, 40, 6)))
    np.save(tmp_path / "m.npy", labels)
    assert score("v.npy", "m.npy", "--axis", "2", "--output", "all.csv").exit_code == 0
    assert score("v.npy", "m.npy", "--axis", "2", "--labels", "1,2", "--output", "some.csv").exit_code == 0
    every = read_scores(tmp_path / "all.csv")
    assert every.height == 6
    assert_frame_equal(read_scores(tmp_path / "some.csv"), every)
    assert run("evaluate", "m.npy", "m.npy", "--axis", "2", "--labels", "1,2", "--output", "e.csv").exit_code == 0
    assert pl.read_csv(tmp_path / "e.csv")["true_dice"].to_list() == [1.0] * 6
    call = ("report", "some.csv", "--images", "v.npy", "--masks", "m.npy", "--axis", "2", "--labels", "1,2")
    assert "have no picture" not in run(*call).stderr


def test_a_demo_is_scored_to_a_table_a_file_and_a_record(score, demo, tmp_path):
    result = score("demo/images", "demo/masks", "--boxes", "demo/boxes.json")
    assert result.exit_code == 0
    assert "Predicted quality of 18 objects" in result.stdout
    assert "2 cases, models: average, careful, careless" in result.stderr
    assert left_behind(tmp_path) == ["segqa/scores.csv", "segqa/scores.run.json"]
    table = read_scores(tmp_path / "segqa/scores.csv")
    assert table.columns == list(SCORE_COLUMNS)
    assert table.height == 18
    assert table["box_source"].unique().to_list() == ["file"]


def test_the_record_tells_what_was_run_with_what_on_how_much(score, demo, tmp_path, tiny_weights):
    import hashlib

    assert score("demo/images", "demo/masks", "--labels", "1,3").exit_code == 0
    record = json.loads((tmp_path / "segqa/scores.run.json").read_text())
    assert record["weights"] == {
        "name": "tiny",
        "sha256": hashlib.sha256(tiny_weights.read_bytes()).hexdigest(),
        "licence": "Apache-2.0",
    }
    assert record["options"]["labels"] == [1, 3]
    assert record["options"]["paths"] == ["demo/images", "demo/masks"]
    assert record["device"].startswith("onnxruntime ")
    assert record["counts"] == {"read": 12, "scored": 12, "warned": record["counts"]["warned"], "failed": 0}
    assert record["seconds"] > 0


def test_the_command_of_the_record_can_be_typed_again(score, demo, tmp_path, monkeypatch):
    arguments = ["score", "demo/images", "demo/masks", "--output", "my scores.csv"]
    monkeypatch.setattr("sys.argv", ["segqa", *arguments])
    assert score(*arguments[1:]).exit_code == 0
    record = json.loads((tmp_path / "my scores.run.json").read_text())
    assert record["command"] == "score demo/images demo/masks --output 'my scores.csv'"


def test_models_that_lie_apart_are_named_one_by_one(score, demo, tmp_path):
    assert score("demo/images", "demo/masks", "--output", "together.csv").exit_code == 0
    models = sorted(path.name for path in (demo / "masks").iterdir())
    for model in models:
        (demo / "masks" / model).rename(demo / f"of {model}")
    result = score("demo/images", *(f"{model}=demo/of {model}" for model in models), "--output", "apart.csv")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "apart.csv").read_text() == (tmp_path / "together.csv").read_text()
    result = score("demo/images", "demo/of average", "demo/of careful", "--output", "none.csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "these masks need a name, NAME=DIR" in result.stderr


@pytest.mark.parametrize("labels", ["0", "1,0", "00"])
def test_the_background_is_no_label_to_look_at(score, run, labels):
    # Nothing is there to read: the label is refused before the first look at the disk.
    for result in (score("images", "masks", "--labels", labels), run("evaluate", "masks", "truth", "--labels", labels)):
        assert (result.exit_code, result.stdout) == (2, "")
        told = f"error: --labels {labels}: 0 is the background; choose among the labels above it\n"
        assert result.stderr == told


@pytest.mark.parametrize("file_format", ["csv", "json", "jsonl"])
def test_what_is_printed_for_machines_is_the_whole_table(score, demo, tmp_path, file_format):
    result = score("demo/images", "demo/masks", "--format", file_format)
    (tmp_path / f"printed.{file_format}").write_text(result.stdout)
    assert read_scores(tmp_path / f"printed.{file_format}").equals(read_scores(tmp_path / "segqa/scores.csv"))


def test_scores_can_go_to_a_named_file_of_any_format(score, demo, tmp_path):
    assert score("demo/images", "demo/masks", "--output", "deep/mine.parquet").exit_code == 0
    assert left_behind(tmp_path) == ["deep/mine.parquet", "deep/mine.run.json"]
    assert pl.read_parquet(tmp_path / "deep/mine.parquet").height == 18


def test_a_named_file_is_never_replaced_unless_told(score, demo, tmp_path):
    (tmp_path / "mine.csv").write_text("precious")
    for more in ((), ("--resume",), ("--dry-run",)):
        result = score("demo/images", "demo/masks", "--output", "mine.csv", *more)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: mine.csv: exists; ")
        assert (tmp_path / "mine.csv").read_text() == "precious"
    assert score("demo/images", "demo/masks", "--output", "mine.csv", "--overwrite").exit_code == 0
    assert read_scores(tmp_path / "mine.csv").height == 18


def test_the_default_file_is_replaced_and_the_same_again(score, demo, tmp_path):
    contents = []
    for _ in range(2):
        assert score("demo/images", "demo/masks").exit_code == 0
        contents.append((tmp_path / "segqa/scores.csv").read_bytes())
    assert contents[0] == contents[1]


def test_a_window_without_width_is_refused_before_a_dry_run(score, demo, tmp_path):
    result = score("demo/images", "demo/masks", "--window", 40, 0, "--dry-run")
    assert_refused(result, tmp_path, "window 40", "a width above 0")


def test_a_dry_run_says_what_would_be_scored_and_writes_nothing(score, demo, tmp_path):
    result = score("demo/images", "demo/masks", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout == "2 cases would be scored into segqa/scores.csv\n"
    assert left_behind(tmp_path) == []


def die_after_one(patch):
    """Let scoring be interrupted after its first case."""
    original = scores.score_cases

    def dying(*arguments, **options):
        yield next(original(*arguments, **options))
        raise KeyboardInterrupt

    patch.setattr(scores, "score_cases", dying)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(score, demo, tmp_path, monkeypatch):
    assert score("demo/images", "demo/masks").exit_code == 0
    whole = (tmp_path / "segqa/scores.csv").read_bytes()
    (tmp_path / "segqa/scores.csv").unlink()
    with monkeypatch.context() as patch:
        die_after_one(patch)
        result = score("demo/images", "demo/masks")
    assert result.exit_code == 130
    assert not (tmp_path / "segqa/scores.csv").exists()
    assert (tmp_path / "segqa/.scores.csv.journal").exists()
    refused = score("demo/images", "demo/masks", "--resume", "--labels", "1")
    assert refused.exit_code == 2
    assert "journal is of a run with other options" in refused.stderr
    assert score("demo/images", "demo/masks", "--resume").exit_code == 0
    assert (tmp_path / "segqa/scores.csv").read_bytes() == whole
    assert not (tmp_path / "segqa/.scores.csv.journal").exists()


def test_a_run_that_came_to_its_end_is_not_done_again(score, demo, tmp_path, monkeypatch):
    call = ("demo/images", "demo/masks", "--output", "mine.csv", "--format", "csv")
    first = score(*call)
    with monkeypatch.context() as patch:
        patch.setattr(scores, "score_cases", None)
        again = score(*call, "--resume")
        assert (again.exit_code, again.stdout) == (0, first.stdout)
        assert "mine.csv: this run came to its end; nothing is left to score" in again.stderr
    other = score(*call, "--resume", "--labels", 1)
    assert other.exit_code == 2
    assert other.stderr.startswith("error: mine.csv: exists; ")
    (tmp_path / "mine.csv").write_bytes((tmp_path / "mine.csv").read_bytes() + b"\n")
    assert score(*call, "--resume").exit_code == 2
    assert score(*call, "--resume", "--overwrite").exit_code == 0
    (tmp_path / "mine.run.json").unlink()
    assert score(*call, "--resume").exit_code == 2


def test_a_run_that_ended_with_rows_that_failed_ends_so_again(score, demo, tmp_path):
    path = tmp_path / "demo/masks/careful/phantom_01.png"
    path.write_bytes(path.read_bytes()[:-60])
    codes = {score("demo/images", "demo/masks", "--on-error", "skip", *more).exit_code for more in ((), ("--resume",))}
    assert codes == {4}


def test_a_file_that_came_without_partner_is_a_row_of_the_resumed_run(score, demo, tmp_path):
    call = ("demo/images", "demo/masks", "--on-error", "skip")
    assert score(*call).exit_code == 0
    lonely = tmp_path / "demo/masks/careful/lonely.png"
    shutil.copy(tmp_path / "demo/masks/careful/phantom_01.png", lonely)
    assert score(*call, "--resume").exit_code == 4
    lonely.unlink()
    assert score(*call, "--resume").exit_code == 0


def test_a_file_that_changes_while_the_run_goes_on_is_scored_by_the_resumed_run(score, demo, tmp_path, monkeypatch):
    original, mask = scores.score_cases, tmp_path / "demo/masks/careful/phantom_01.png"

    def overtaken(*arguments, **options):
        yield from original(*arguments, **options)
        shutil.copy(tmp_path / "demo/masks/careless/phantom_01.png", mask)

    with monkeypatch.context() as patch:
        patch.setattr(scores, "score_cases", overtaken)
        assert score("demo/images", "demo/masks").exit_code == 0
    old = (tmp_path / "segqa/scores.csv").read_bytes()
    assert score("demo/images", "demo/masks", "--resume").exit_code == 0
    assert (tmp_path / "segqa/scores.csv").read_bytes() != old


def test_boxes_change_the_scores(score, demo, tmp_path):
    assert score("demo/images", "demo/masks", "--output", "without.csv").exit_code == 0
    assert score("demo/images", "demo/masks", "--output", "with.csv", "--boxes", "demo/boxes.json").exit_code == 0
    without, with_boxes = (read_scores(tmp_path / name) for name in ("without.csv", "with.csv"))
    assert not without["predicted_dice"].equals(with_boxes["predicted_dice"])


def test_one_image_and_one_mask_can_be_given(score, demo):
    result = score("demo/images/phantom_01.png", "demo/masks/careful/phantom_01.png", "--format", "json")
    assert result.exit_code == 0
    assert {row["case"] for row in json.loads(result.stdout)["rows"]} == {"phantom_01"}


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def as_jpeg(path):
    PillowImage.open(path).save(path.with_suffix(".jpg"))
    path.unlink()


def colourful(path):
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[:100, :, 0], pixels[100:, :, 1] = 200, 90
    PillowImage.fromarray(pixels).save(path)


def object_array(path):
    with path.open("wb") as file:
        np.save(file, np.array([{}], dtype=object))


IMAGE, MASK = "demo/images/phantom_02.png", "demo/masks/average/phantom_02.png"

BROKEN = {
    "missing mask": (MASK, lambda path: path.unlink(), "--allow-missing"),
    "missing image": (IMAGE, lambda path: path.unlink(), "--allow-missing"),
    "truncated image": (IMAGE, truncate, "phantom_02.png"),
    "truncated mask": (MASK, truncate, "phantom_02.png"),
    "empty image": (IMAGE, lambda path: path.write_bytes(b""), "phantom_02.png"),
    "empty mask": (MASK, lambda path: path.write_bytes(b""), "phantom_02.png"),
    "page of an error": (IMAGE, lambda path: path.write_text("<html>404</html>"), "phantom_02.png"),
    "git lfs pointer": (IMAGE, lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "LFS"),
    "other size": (MASK, lambda path: write_mask(path, np.ones((9, 12), np.int32)), "12 x 9"),
    "transposed": (MASK, lambda path: write_mask(path, np.ones((12, 9), np.int32)), "phantom_02.png"),
    "jpeg mask": (MASK, as_jpeg, "JPEG mask"),
    "colour mask": (MASK, colourful, "colour mask"),
    "object array": (MASK, object_array, "phantom_02.png"),
    "half a gzip": (IMAGE, lambda path: path.write_bytes(gzip.compress(b"n" * 999)[:20]), "phantom_02.png"),
}
FOUND_WHILE_DECODING = {"truncated image", "truncated mask", "colour mask"}
"""Their headers are whole: the run has begun, and its journal stays for `--resume`."""


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_file_ends_the_run_with_one_line(score, demo, tmp_path, name):
    path, spoil, word = BROKEN[name]
    spoil(tmp_path / path)
    result = score("demo/images", "demo/masks")
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert word in lines[0]
    assert "phantom_02" in lines[0]
    begun = name in FOUND_WHILE_DECODING
    assert len(result.stderr.splitlines()) == 1 + begun  # the note on what is scored
    assert left_behind(tmp_path) == (["segqa/.scores.csv.journal"] if begun else [])


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_file_is_a_row_with_its_reason_when_errors_are_skipped(score, demo, tmp_path, name):
    path, spoil, _ = BROKEN[name]
    spoil(tmp_path / path)
    result = score("demo/images", "demo/masks", "--on-error", "skip")
    assert result.exit_code == 4
    assert "could not be scored; see `reason`" in result.stderr
    assert left_behind(tmp_path) == ["segqa/scores.csv", "segqa/scores.run.json"]
    table = read_scores(tmp_path / "segqa/scores.csv")
    failed = table.filter(status="error")
    assert failed.height == (3 if path == IMAGE else 1)  # an image costs all its models
    assert set(failed["case"]) == {"phantom_02"}
    assert failed["predicted_dice"].null_count() == failed.height
    assert failed["reason"].str.contains("phantom_02").all()
    assert table.filter(case="phantom_01").height == 9  # nobody else pays
    assert (table.filter(case="phantom_01")["status"] != "error").all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "demo/masks"], ["nowhere: no such file or folder"]),
        (["demo/images", "nowhere"], ["nowhere: no such file or folder"]),
        (["demo/images", "demo/masks", "--boxes", "nowhere.json"], ["nowhere.json: no such file"]),
        (["demo/images", "demo/masks", "--labels", "liver"], ["--labels liver: numbers such as 1,3"]),
        (["demo/images", "demo/masks", "--output", "scores.xlsx"], ["scores.xlsx"]),
        (["demo/images", "demo/masks", "--runtime", "onnx", "--device", "cuda"], ["--device cuda"]),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(run, demo, tmp_path, tiny_weights, arguments, words):
    assert_refused(run("score", *arguments, "--weights", tiny_weights), tmp_path, *words)


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ({"phantom_01": [[10, 10, 5, 5]]}, ["phantom_01", "no area"]),
        ({"phantom_01": [[0.1, 0.1, 0.5, 0.5]]}, ["phantom_01", "normalised"]),
        ({"phantom_01": [["a", 1, 2, 3]]}, ["phantom_01"]),
        ({"other": [[1, 1, 20, 20]]}, ["no box belongs to an image"]),
    ],
)
def test_bad_boxes_are_refused_before_anything_is_scored(score, demo, tmp_path, boxes, words):
    (demo / "boxes.json").write_text(json.dumps(boxes))
    assert_refused(score("demo/images", "demo/masks", "--boxes", "demo/boxes.json"), tmp_path, *words)


def test_boxes_that_are_no_json_are_refused(score, demo, tmp_path):
    (demo / "boxes.json").write_text("{")
    assert_refused(score("demo/images", "demo/masks", "--boxes", "demo/boxes.json"), tmp_path, "boxes.json")


def test_an_empty_folder_is_refused(score, demo, tmp_path):
    os.mkdir("empty")  # noqa: PTH102
    assert_refused(score("empty", "demo/masks"), tmp_path, "no pictures")


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle"], ids=["empty", "pickle"])
def test_bad_weights_are_refused(run, demo, tmp_path, content):
    (demo / "weights.safetensors").write_bytes(content)
    result = run("score", "demo/images", "demo/masks", "--weights", "demo/weights.safetensors")
    assert_refused(result, tmp_path, "weights.safetensors")


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_scored(score, demo, tmp_path):
    (tmp_path / "demo/file").write_text("")
    result = score("demo/images", "demo/masks", "--output", "demo/file/scores.csv")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "error: demo/file" in result.stderr
    assert "Traceback" not in result.stderr


def test_remarks_are_counted_and_do_not_fail_the_run(score, demo, tmp_path):
    write_mask(demo / "masks/average/phantom_01.png", np.zeros((256, 256), np.int32))
    result = score("demo/images", "demo/masks")
    assert result.exit_code == 0
    assert "objects have a remark; see `reason`" in result.stderr
    row = read_scores(tmp_path / "segqa/scores.csv").filter(case="phantom_01", model="average")
    assert row["reason"].to_list() == ["empty-prediction"]


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (False, True)], ids=["0/1", "0/255", "bool"])
def test_the_same_binary_mask_gives_the_same_bytes_however_it_is_stored(score, demo, tmp_path, values):
    (demo / "one").mkdir()
    (demo / "two").mkdir()
    inside = np.asarray(PillowImage.open(demo / "truth/phantom_01.png")) == 1
    write_mask(demo / "one/phantom_01.png", inside.astype(np.int32))
    stored = np.array(values, dtype=bool if values[1] is True else np.uint8)[inside.astype(int)]
    np.save(demo / "two/phantom_01.npy", stored)
    rows = []
    for folder in ("one", "two"):
        result = score("demo/images/phantom_01.png", f"demo/{folder}", "--format", "json")
        (row,) = json.loads(result.stdout)["rows"]
        rows.append({name: value for name, value in row.items() if name != "model"})
    assert rows[0] == rows[1]


def test_error_maps_are_pictures_of_every_object(demo, tiny_weights, run, tmp_path):
    pytest.importorskip("torch")
    result = run(
        "score", demo / "images", demo / "masks", "--weights", tiny_weights, "--output", tmp_path / "scores.csv",
        "--error-maps", tmp_path / "maps", "--workers", 1,
    )  # fmt: skip

    assert result.exit_code == 0, result.stderr
    n_rows = len((tmp_path / "scores.csv").read_text().splitlines()) - 1
    assert len(list((tmp_path / "maps").rglob("*.png"))) == n_rows
    assert f"{n_rows} error maps written" in result.stderr


def test_a_run_that_was_stopped_among_its_error_maps_goes_on_with_them(demo, score, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    call = ("demo/images", "demo/masks", "--output", "scores.csv", "--error-maps", "maps")
    with monkeypatch.context() as patch:
        patch.setattr("segqa.output.overlays.write_error_maps", stop)
        assert score(*call).exit_code == 130
    first = (tmp_path / "scores.csv").read_bytes()
    assert (tmp_path / "scores.run.json").is_file()
    with monkeypatch.context() as patch:
        patch.setattr("segqa.scores.score_cases", stop_if_any)
        result = score(*call, "--resume")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "scores.csv").read_bytes() == first
    assert "18 error maps written to maps" in result.stderr
    assert [name for name in left_behind(tmp_path) if not name.startswith("maps/")] == ["scores.csv", "scores.run.json"]


def test_error_maps_that_a_run_did_not_draw_are_drawn_when_it_is_resumed(demo, score, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    call = ("demo/images", "demo/masks", "--output", "scores.csv")
    assert score(*call).exit_code == 0
    monkeypatch.setattr("segqa.scores.score_cases", stop_if_any)
    assert score(*call, "--resume", "--error-maps", "maps", "--dry-run").exit_code == 0
    assert not (tmp_path / "maps").exists()
    result = score(*call, "--resume", "--error-maps", "maps")
    assert result.exit_code == 0, result.stderr
    assert "18 error maps written to maps" in result.stderr
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 18


def stop(*_, **__):
    raise KeyboardInterrupt


def stop_if_any(cases, *_, **__):
    """Stand in for scoring where all is scored already."""
    assert list(cases) == []
    yield from ()


@pytest.mark.parametrize("folder", ["demo/masks", "demo/masks/../masks", "demo"])
def test_error_maps_do_not_lie_among_what_is_scored(score, demo, tmp_path, folder):
    pytest.importorskip("torch")
    (demo / "careful").symlink_to("masks/careful")
    before = sorted(tmp_path.rglob("*"))
    result = score("demo/images", "demo/masks", "--error-maps", folder)
    assert_refused(result, tmp_path, f"--error-maps {folder}: ", " holds files that are scored; choose another folder")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def labelled(demo):
    """Two labelled images beside those of the demo, as the two paths of `--reference`."""
    write_demo(demo.parent / "demo/more", n_cases=4, seed=5)
    for part in ("images", "truth"):
        for number in (1, 2):
            (demo / f"more/{part}/phantom_0{number}.png").unlink()
    return "demo/more/images", "demo/more/truth"


def test_references_change_the_scores_and_are_told(score, demo, labelled, tmp_path):
    assert score("demo/images", "demo/masks", "--boxes", "demo/boxes.json", "--output", "alone.csv").exit_code == 0
    result = score("demo/images", "demo/masks", "--boxes", "demo/boxes.json", "--reference", *labelled)
    assert result.exit_code == 0, result.stderr
    told = r"label (\d): 2 objects of 2 labelled images, found again with Dice 0\.\d\d; weight ([\d.]+),"
    weights = re.findall(told, result.stderr)
    assert [label for label, _ in weights] == ["1", "2", "3"]
    alone, table = read_scores(tmp_path / "alone.csv"), read_scores(tmp_path / "segqa/scores.csv")
    assert alone["reference_dice"].null_count() == alone.height
    weight = table["label"].replace_strict(dict(weights)).cast(float).to_numpy()
    expected = alone["predicted_dice"] ** (1 - weight) * table["reference_dice"] ** weight
    np.testing.assert_allclose(table["predicted_dice"], expected, atol=0.01)  # the weights are told in two digits
    right, wrong = (table.filter(model=model)["reference_dice"].mean() for model in ("careful", "careless"))
    assert right > wrong
    record = json.loads((tmp_path / "segqa/scores.run.json").read_text())
    assert record["options"]["paths"][-2:] == list(labelled)


def test_scores_of_references_themselves_are_remarked(score, demo, tmp_path):
    write_demo(tmp_path / "demo/more", n_cases=3)  # the two of the demo, and one more
    for part in ("images", "truth"):
        (tmp_path / f"demo/more/{part}/phantom_02.png").unlink()
    result = score("demo/images", "demo/masks", "--reference", "demo/more/images", "demo/more/truth")
    assert result.exit_code == 0, result.stderr
    table = read_scores(tmp_path / "segqa/scores.csv")
    assert set(table.filter(case="phantom_01")["reason"]) == {"is-reference"}
    assert set(table.filter(case="phantom_02")["reason"]) == {None}


def test_references_come_from_the_configuration(score, demo, labelled, tmp_path, monkeypatch):
    (tmp_path / "segqa.toml").write_text(f"[score]\nreference = {json.dumps(labelled)}\n")
    assert "; 2 labelled images" in score("demo/images", "demo/masks", "--dry-run").stderr
    (tmp_path / "segqa.toml").unlink()
    monkeypatch.setenv("SEGQA_SCORE_REFERENCE", " ".join(labelled))
    assert "; 2 labelled images" in score("demo/images", "demo/masks", "--dry-run").stderr


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (("nowhere", "demo/truth"), ["nowhere: no such file or folder"]),
        (
            ("demo/images", "demo/masks"),
            ["references: demo/masks: masks of average, careful, careless", "one true mask"],
        ),
        (
            ("demo/images", "demo/truth/phantom_01.png"),
            ["references: ", "files without partner", "give each labelled image its mask"],
        ),
        (
            ("demo/images/phantom_01.png", "demo/truth/phantom_01.png"),
            ["references: images/phantom_01.png: one image or volume alone", "give more"],
        ),
    ],
)
def test_bad_references_are_refused_before_anything_is_scored(score, demo, tmp_path, reference, words):
    assert_refused(score("demo/images", "demo/masks", "--reference", *reference), tmp_path, *words)


def test_a_run_is_not_gone_on_with_when_references_changed(score, demo, labelled, tmp_path, monkeypatch):
    call = ("demo/images", "demo/masks", "--reference", *labelled)
    with monkeypatch.context() as patch:
        patch.setattr("segqa.commands.score.hand_over", stop)
        assert score(*call).exit_code == 130
    assert score(*call, "--resume", "--dry-run").exit_code == 0
    write_mask(demo / "more/truth/phantom_03.png", np.eye(256, dtype=np.int32))
    result = score(*call, "--resume")
    assert result.exit_code == 2
    assert "journal" in result.stderr


def test_nothing_is_learnt_when_all_is_scored_or_the_journal_is_of_another_run(
    score, demo, labelled, tmp_path, monkeypatch
):
    call = ("demo/images", "demo/masks", "--reference", *labelled)
    with monkeypatch.context() as patch:
        patch.setattr("segqa.commands.score.write_record", stop)
        assert score(*call).exit_code == 130
    first = (tmp_path / "segqa/scores.csv").read_bytes()
    monkeypatch.setattr("segqa.references.learn", stop)
    other = score(*call, "--labels", 1, "--resume")
    assert other.exit_code == 2
    assert "journal is of a run with other options" in other.stderr
    result = score(*call, "--resume")
    assert result.exit_code == 0, result.stderr
    assert "all cases are scored already: nothing is learnt from the labelled images" in result.stderr
    assert (tmp_path / "segqa/scores.csv").read_bytes() == first
    record = json.loads((tmp_path / "segqa/scores.run.json").read_text())
    assert record["options"]["references"] == ["learnt by the run that was killed"]


def test_a_killed_run_learns_anew_and_ends_with_the_same_bytes(score, demo, labelled, tmp_path, monkeypatch):
    call = ("demo/images", "demo/masks", "--reference", *labelled)
    assert score(*call).exit_code == 0
    whole = (tmp_path / "segqa/scores.csv").read_bytes()
    with monkeypatch.context() as patch:
        die_after_one(patch)
        assert score(*call).exit_code == 130
    result = score(*call, "--resume")
    assert result.exit_code == 0, result.stderr
    assert "label 1: 2 objects of 2 labelled images" in result.stderr
    assert (tmp_path / "segqa/scores.csv").read_bytes() == whole


def test_references_that_do_not_fit_are_told(score, demo, labelled, tmp_path):
    for number, kept in ((3, {1: 1, 2: 7}), (4, {1: 1})):
        path = demo / f"more/truth/phantom_0{number}.png"
        truth = read_mask(Source(path)).pixels
        write_mask(path, sum((truth == label) * value for label, value in kept.items()))
    boxes = json.loads((demo / "boxes.json").read_text())
    for some in boxes["boxes"].values():
        some[0]["label"] = some[1]["label"] = "1"
    (demo / "boxes.json").write_text(json.dumps(boxes))
    result = score("demo/images", "demo/masks", "--boxes", "demo/boxes.json", "--reference", *labelled)
    assert result.exit_code == 0, result.stderr
    assert "warning: label 7 of the references is in fewer than 2 labelled images" in result.stderr
    assert "warning: references: there are boxes of parts of a label" in result.stderr
    assert "warning: references tell nothing of label 2, 3: the evaluator's scores stay" in result.stderr
