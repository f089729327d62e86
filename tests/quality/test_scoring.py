import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PillowImage

from segqa.data.boxes import Box, read_boxes
from segqa.data.cases import find_cases
from segqa.data.masks import write_mask
from segqa.data.reading import Reading
from segqa.errors import InputError
from segqa.output.tables import write_table
from segqa.phantoms import MODELS, write_demo
from segqa.quality.calibration import Calibration
from segqa.quality.intervals import Interval
from segqa.quality.novelty import Novelty, Reference
from segqa.quality.preprocessing import Profile, build_input, view_of
from segqa.quality.scoring import (
    INPUTS_AT_ONCE,
    LEAST,
    Evaluator,
    Opinion,
    score_case,
    score_cases,
    score_mask,
)
from segqa.quality.weights_file import CheckpointInfo
from segqa.schema import SCORE_COLUMNS
from segqa.scores import to_table
from segqa.workers import Threads


class MeanOfMask:
    """A runner whose scores can be told by hand: the mean of the mask channel, and a fixed distance."""

    name = "mean of mask"

    def __init__(self, n_heads, *, nan_above=2.0):
        self.n_heads = n_heads
        self.nan_above = nan_above
        self.sizes = []

    def run(self, inputs):
        self.sizes.append(len(inputs))
        scores = inputs[:, 3].mean(axis=(1, 2))
        scores = np.where(scores > self.nan_above, np.nan, scores)
        both = np.stack([scores, np.full(len(inputs), 0.25)], axis=1).astype(np.float32)
        return both[:, : self.n_heads], np.zeros((len(inputs), 1), np.float32)


class Fixed:
    """A runner that always says the same."""

    name = "fixed"

    def __init__(self, said):
        self.said = said

    def run(self, inputs):
        scores = np.tile(np.array(self.said, np.float32), (len(inputs), 1))
        return scores, np.zeros((len(inputs), 1), np.float32)


def make_evaluator(path, *, heads=("dice",), **options):
    runner = MeanOfMask(len(heads), **options)
    return Evaluator(CheckpointInfo(path / "none.safetensors", {}, {}, {}), runner, Profile(size=32), heads)


@pytest.fixture
def demo(tmp_path):
    write_demo(tmp_path / "demo", n_cases=3)
    return tmp_path / "demo"


def demo_cases(demo, *, boxes=False, **options):
    known = read_boxes(demo / "boxes.json") if boxes else None
    return find_cases(demo / "images", demo / "masks", boxes=known, **options)


def rows_of(cases, evaluator, **options):
    return [row for rows in score_cases(cases, evaluator, **options) for row in rows]


def test_every_object_of_every_model_has_one_row_in_order(demo, tmp_path):
    cases = demo_cases(demo)
    rows = rows_of(cases, make_evaluator(tmp_path))
    keys = [(row["case"], row["model"], row["label"]) for row in rows]
    expected = [
        (case.name, model, str(label))
        for case in cases
        for model in case.masks
        for label in np.unique(PillowImage.open(demo / "masks" / model / f"{case.name}.png"))
        if label
    ]
    assert keys == expected
    assert all(tuple(row) == SCORE_COLUMNS for row in rows)


def test_rows_do_not_depend_on_the_number_of_workers(demo, tmp_path):
    tables = [rows_of(demo_cases(demo), make_evaluator(tmp_path), workers=Threads(n)) for n in (1, 2, 5)]
    assert tables[0] == tables[1] == tables[2]


def test_a_row_says_what_psi_and_the_network_say(demo, tmp_path):
    cases = demo_cases(demo, boxes=True)
    evaluator = make_evaluator(tmp_path)
    row = score_case(cases[0], evaluator, Reading())[0]
    image = np.asarray(PillowImage.open(demo / "images/phantom_01.png").convert("RGB"))
    mask = np.asarray(PillowImage.open(demo / f"masks/{row['model']}/phantom_01.png")) == int(row["label"])
    box = Box(row["x0"], row["y0"], row["x1"], row["y1"])
    assert box == read_boxes(demo / "boxes.json")["phantom_01"][0].box
    assert row["box_source"] == "file"
    assert row["status"] == "ok"
    assert row["reason"] is None
    expected = float(build_input(image, mask, box, evaluator.profile)[3].mean())
    assert row["predicted_dice"] == pytest.approx(expected)
    assert row["predicted_dice"] == score_mask(image, mask, evaluator, box=box)


def test_without_boxes_a_row_has_the_masks_own(demo, tmp_path):
    row = rows_of(demo_cases(demo), make_evaluator(tmp_path))[0]
    mask = np.asarray(PillowImage.open(demo / f"masks/{row['model']}/phantom_01.png")) == int(row["label"])
    assert Box(row["x0"], row["y0"], row["x1"], row["y1"]) == Box.from_mask(mask)
    assert row["box_source"] == "mask"


def one_case(folder, image, mask, *, boxes=None):
    for name in ("images", "masks"):
        (folder / name).mkdir()
    PillowImage.fromarray(image).save(folder / "images/a.png")
    write_mask(folder / "masks/a.png", mask)
    known = None
    if boxes is not None:
        (folder / "boxes.json").write_text(json.dumps({"a": boxes}))
        known = read_boxes(folder / "boxes.json")
    return find_cases(folder / "images", folder / "masks", boxes=known)


def test_an_empty_mask_is_scored_on_the_whole_image_with_a_remark(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, size=(30, 40), dtype=np.uint8)
    cases = one_case(tmp_path, image, np.zeros((30, 40), np.int32))
    (row,) = rows_of(cases, make_evaluator(tmp_path))
    assert (row["x0"], row["y0"], row["x1"], row["y1"]) == (0, 0, 40, 30)
    assert row["box_source"] == "image"
    assert row["status"] == "warning"
    assert row["reason"] == "empty-prediction"
    assert row["predicted_dice"] == 0


def test_a_constant_image_is_scored_with_a_remark(tmp_path):
    mask = np.zeros((30, 40), np.int32)
    mask[5:15, 5:20] = 1
    (row,) = rows_of(one_case(tmp_path, np.full((30, 40), 7, np.uint8), mask), make_evaluator(tmp_path))
    assert row["status"] == "warning"
    assert row["reason"] == "constant-image"
    assert row["predicted_dice"] > 0


def test_remarks_of_image_and_mask_are_told_once_each(tmp_path):
    soft = np.zeros((30, 40), np.uint8)
    soft[5:15, 5:20], soft[5:15, 20] = 255, np.arange(200, 210)
    (case,) = one_case(tmp_path, np.eye(30, 40, dtype=np.uint8) * 99, (soft > 127).astype(np.int32))
    PillowImage.fromarray(soft).save(tmp_path / "masks/a.png")
    for path in (tmp_path / "images/a.png", tmp_path / "masks/a.png"):
        path.write_bytes(path.read_bytes()[:-12])
    (row,) = score_case(case, make_evaluator(tmp_path), Reading())
    assert row["status"] == "warning"
    assert row["reason"] == "missing-iend; non-binary: 10 pixels between 0 and 255, cut at 127"


@pytest.mark.parametrize(("distance", "reason"), [(2.0, "novel-input"), (0.5, None)])
def test_an_input_beyond_all_that_was_calibrated_is_remarked(tmp_path, distance, reason):
    mask = np.zeros((30, 40), np.int32)
    mask[5:15, 5:20] = 1
    cases, evaluator = one_case(tmp_path, np.eye(30, 40, dtype=np.uint8), mask), make_evaluator(tmp_path)
    # The runner's embedding is 0, and the calibration knows of distances up to 1.
    reference = Reference(np.full(1, distance, np.float32), np.ones((1, 1), np.float32))
    calibration = Calibration({}, Novelty(reference, np.linspace(0, 1, 101, dtype=np.float32)), {})
    (row,) = rows_of(cases, replace(evaluator, calibration=calibration))
    assert row["novelty"] == pytest.approx(min(distance, 1))
    assert row["reason"] == reason


class Says:
    """A second judge with fixed opinions by label, that knows one case."""

    def __init__(self, opinions, known=""):
        self.opinions, self.known = opinions, known

    def judge(self, image, one):
        assert image.shape[:2] == one.mask.shape
        return self.opinions.get(one.label)

    def hold(self, case):
        return case.name == self.known


def test_a_second_opinion_is_averaged_geometrically_by_its_weight(demo, tmp_path):
    cases = demo_cases(demo)
    evaluator = replace(make_evaluator(tmp_path), runner=Fixed((0.64,)))
    opinions = {"1": Opinion(0.25, 0.5), "2": Opinion(0.8, 0.1), "3": Opinion(0.0, 0.2)}
    rows = rows_of(cases, evaluator, references=Says(opinions))
    # A 0 does not wipe out what the other says.
    expected = {"1": 0.4, "2": 0.64**0.9 * 0.8**0.1, "3": 0.64**0.8 * LEAST**0.2}
    assert {row["label"] for row in rows} == set(expected)
    for row in rows:
        assert row["predicted_dice"] == pytest.approx(expected[row["label"]])
        assert row["reference_dice"] == opinions[row["label"]].dice
        assert row["reason"] is None


def test_where_the_second_judge_has_no_opinion_the_score_stays_with_a_remark(demo, tmp_path):
    cases, evaluator = demo_cases(demo), make_evaluator(tmp_path)
    alone = rows_of(cases, evaluator)
    rows = rows_of(cases, evaluator, references=Says({"1": Opinion(0.5, 0.5)}))
    assert [row["predicted_dice"] for row in rows if row["label"] != "1"] == [
        row["predicted_dice"] for row in alone if row["label"] != "1"
    ]
    assert {row["label"]: (row["reference_dice"], row["reason"]) for row in rows} == {
        "1": (0.5, None),
        "2": (None, "no-reference"),
        "3": (None, "no-reference"),
    }
    assert all(row["reference_dice"] is None and row["reason"] is None for row in alone)


def test_masks_of_a_labelled_image_are_judged_with_a_remark(demo, tmp_path):
    opinions = dict.fromkeys("123", Opinion(0.5, 0.5))
    rows = rows_of(demo_cases(demo), make_evaluator(tmp_path), references=Says(opinions, known="phantom_02"))
    assert {row["case"]: row["reason"] for row in rows} == {
        "phantom_01": None,
        "phantom_02": "is-reference",
        "phantom_03": None,
    }


def test_the_interval_is_about_the_score_of_both_judges(tmp_path):
    mask = np.zeros((60, 60), np.int32)
    mask[10:30, 10:30] = 1
    interval = Interval(0.9, 0.3, 0.0, 20, 400)
    evaluator = replace(
        make_evaluator(tmp_path), runner=Fixed((0.9,)), calibration=Calibration({"dice": interval}, None, {})
    )
    cases = one_case(tmp_path, np.eye(60, dtype=np.uint8), mask)
    (row,) = rows_of(cases, evaluator, references=Says({"1": Opinion(0.4, 0.5)}))
    lower, upper = interval.around(np.array([0.6]))
    assert (row["predicted_dice"], row["lower"], row["upper"]) == pytest.approx((0.6, lower[0], upper[0]))


def test_a_score_beyond_its_bounds_is_clipped_before_it_is_averaged(tmp_path):
    mask = np.zeros((60, 60), np.int32)
    mask[10:30, 10:30] = 1
    cases = one_case(tmp_path, np.eye(60, dtype=np.uint8), mask)
    for said, expected in ((1.2, 0.5), (-0.2, 0.5 * LEAST**0.5)):
        evaluator = replace(make_evaluator(tmp_path), runner=Fixed((said,)))
        (row,) = rows_of(cases, evaluator, references=Says({"1": Opinion(0.25, 0.5)}))
        assert row["predicted_dice"] == pytest.approx(expected)


def test_a_missed_box_is_a_row_of_its_own(tmp_path):
    mask = np.zeros((60, 60), np.int32)
    mask[5:15, 5:15] = 1
    image = np.random.default_rng(0).integers(0, 256, size=(60, 60), dtype=np.uint8)
    rows = rows_of(one_case(tmp_path, image, mask, boxes=[[5, 5, 15, 15], [40, 40, 55, 55]]), make_evaluator(tmp_path))
    assert [(row["object"], row["status"], row["reason"]) for row in rows] == [
        ("1", "ok", None),
        ("2", "warning", "empty-prediction"),
    ]


def test_labels_and_components_are_chosen(tmp_path):
    mask = np.zeros((60, 60), np.int32)
    mask[5:15, 5:15], mask[30:40, 5:15], mask[30:40, 40:50] = 1, 2, 2
    image = np.random.default_rng(0).integers(0, 256, size=(60, 60), dtype=np.uint8)
    cases, evaluator = one_case(tmp_path, image, mask), make_evaluator(tmp_path)

    def labels(**reading):
        return [row["label"] for row in rows_of(cases, evaluator, reading=Reading(**reading))]

    assert labels() == ["1", "2"]
    assert labels(labels=(2,)) == ["2"]
    assert labels(objects="components") == ["1", "2", "2"]


def test_a_score_that_is_not_finite_leaves_the_others_alone(tmp_path):
    mask = np.zeros((60, 60), np.int32)
    mask[5:20, 5:20], mask[40, 10:40] = 1, 2  # a full square and a thin line
    image = np.random.default_rng(0).integers(0, 256, size=(60, 60), dtype=np.uint8)
    cases = one_case(tmp_path, image, mask)
    healthy = rows_of(cases, make_evaluator(tmp_path))
    broken = rows_of(cases, make_evaluator(tmp_path, nan_above=0.2))
    assert broken[0]["status"] == "error"
    assert broken[0]["predicted_dice"] is None
    assert broken[0]["reason"].startswith("the network gave no finite score")
    assert broken[1] == healthy[1]


@pytest.mark.parametrize(
    ("said", "kept"), [((1.02, 1.5), (1.0, 1.0)), ((-0.3, -0.1), (0.0, 0.0)), ((0.4, -0.1), (0.4, 0.0))]
)
def test_scores_of_a_network_without_bounds_are_clipped_with_a_remark(tmp_path, said, kept):
    mask = np.zeros((60, 60), np.int32)
    mask[10:30, 10:30] = 1
    image = np.random.default_rng(0).integers(0, 256, size=(60, 60), dtype=np.uint8)
    cases, evaluator = one_case(tmp_path, image, mask), make_evaluator(tmp_path, heads=("dice", "hd95"))
    calibration = Calibration(dict.fromkeys(evaluator.heads, Interval(0.9, 0.3, 0.0, 20, 400)), None, {})
    evaluator = replace(evaluator, runner=Fixed(said), calibration=calibration)
    (row,) = rows_of(cases, evaluator)
    assert (row["status"], row["reason"]) == ("warning", "score-clipped")
    side = view_of(mask == 1, None, evaluator.profile).width
    assert (row["predicted_dice"], row["predicted_hd95_px"]) == pytest.approx((kept[0], kept[1] * np.hypot(side, side)))
    assert 0 <= row["lower"] <= row["predicted_dice"] <= row["upper"] <= 1
    assert 0 <= row["lower_hd95_px"] <= row["predicted_hd95_px"] <= row["upper_hd95_px"]
    assert score_mask(np.stack([image] * 3, axis=2), mask == 1, evaluator) == pytest.approx(kept[0])


def test_a_head_that_no_table_shows_is_not_remarked(demo, tmp_path):
    # EvanySeg's own second head: a Hausdorff distance in pixels of the crop.
    evaluator = replace(make_evaluator(tmp_path, heads=("dice", "hd")), runner=Fixed((0.7, 22.0)))
    for row in rows_of(demo_cases(demo, boxes=True), evaluator):
        assert "score-clipped" not in (row["reason"] or "")
        assert (row["predicted_dice"], row["predicted_hd95_px"]) == (pytest.approx(0.7), None)


def test_a_table_of_a_network_without_bounds_can_be_flagged(run, demo, tmp_path):
    evaluator = replace(make_evaluator(tmp_path), runner=Fixed((1.02,)))
    write_table(to_table(score_cases(demo_cases(demo), evaluator)), tmp_path / "scores.csv")
    assert run("flag", tmp_path / "scores.csv").exit_code == 0


def test_that_a_box_was_clipped_stands_on_the_rows_of_that_box(demo, tmp_path):
    boxes = json.loads((demo / "boxes.json").read_text())
    own = boxes["boxes"]["phantom_01"]
    own[0]["box"][2] = 257  # the pictures are 256 wide
    own[0]["box"][0] = 20
    (demo / "boxes.json").write_text(json.dumps(boxes))
    cases = find_cases(demo / "images", demo / "masks", boxes=read_boxes(demo / "boxes.json"))
    rows = rows_of(cases, make_evaluator(tmp_path))
    clipped = [row for row in rows if "box-clipped" in (row["reason"] or "")]
    assert {(row["case"], row["label"]) for row in clipped} == {("phantom_01", own[0]["label"])}
    assert len(clipped) == len(MODELS)


def test_an_infinite_score_is_an_error_and_not_clipped(tmp_path):
    mask = np.zeros((60, 60), np.int32)
    mask[10:30, 10:30] = 1
    evaluator = replace(make_evaluator(tmp_path), runner=Fixed((np.inf,)))
    (row,) = rows_of(one_case(tmp_path, np.eye(60, dtype=np.uint8), mask), evaluator)
    assert (row["status"], row["reason"]) == ("error", "the network gave no finite score")


def test_the_second_head_is_a_distance_in_pixels_of_the_image(tmp_path):
    mask = np.zeros((60, 60), np.int32)
    mask[10:30, 10:30] = 1
    image = np.random.default_rng(0).integers(0, 256, size=(60, 60), dtype=np.uint8)
    (row,) = rows_of(one_case(tmp_path, image, mask), make_evaluator(tmp_path, heads=("dice", "hd95")))
    side = view_of(mask == 1, None, Profile(size=32)).width
    assert row["predicted_hd95_px"] == pytest.approx(0.25 * np.hypot(side, side))


def test_a_crowded_case_is_judged_in_bounded_batches(tmp_path):
    mask = np.zeros((100, 200), np.int32)
    for n in range(40):
        mask[10 * (n // 10) : 10 * (n // 10) + 5, 20 * (n % 10) : 20 * (n % 10) + 9] = n + 1
    evaluator = make_evaluator(tmp_path)
    assert len(rows_of(one_case(tmp_path, np.zeros((100, 200), np.uint8), mask), evaluator)) == 40
    assert evaluator.runner.sizes == [INPUTS_AT_ONCE, INPUTS_AT_ONCE, 40 - 2 * INPUTS_AT_ONCE]


def test_a_crowded_picture_is_compared_with_its_first_pixel_once(tmp_path, monkeypatch):
    mask = np.zeros((100, 200), np.int32)
    for n in range(40):
        mask[10 * (n // 10) : 10 * (n // 10) + 5, 20 * (n % 10) : 20 * (n % 10) + 9] = n + 1
    cases, seen = one_case(tmp_path, np.zeros((100, 200), np.uint8), mask), []
    monkeypatch.setattr("segqa.quality.scoring._is_constant", lambda image: not seen.append(image.shape))
    rows = rows_of(cases, make_evaluator(tmp_path))
    assert seen == [(100, 200, 3)]
    assert {row["reason"] for row in rows} == {"constant-image"}


def test_the_masks_of_a_crowded_case_are_not_kept(tmp_path):
    mask = np.zeros((512, 512), bool)
    mask[::32, ::16] = True  # 512 objects: their masks together take 128 MiB
    write_mask(tmp_path / "masks" / "c.png", mask)
    PillowImage.new("L", (512, 512), 9).save(tmp_path / "c.png")
    (case,) = find_cases(tmp_path / "c.png", tmp_path / "masks" / "c.png")
    evaluator, reading = make_evaluator(tmp_path), Reading(objects="components")
    tracemalloc.start()
    rows = score_case(case, evaluator, reading)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == 512
    assert peak < 2**25


def test_a_broken_mask_stops_the_run_or_costs_its_own_model_only(demo, tmp_path):
    path = demo / "masks/average/phantom_02.png"
    path.write_bytes(path.read_bytes()[:-60])
    cases, evaluator = demo_cases(demo), make_evaluator(tmp_path)
    with pytest.raises(InputError, match=r"phantom_02\.png"):
        rows_of(cases, evaluator)
    rows = rows_of(cases, evaluator, reading=Reading(on_error="skip"))
    (failed,) = [row for row in rows if row["status"] == "error"]
    assert (failed["case"], failed["model"], failed["predicted_dice"]) == ("phantom_02", "average", None)
    assert "phantom_02.png" in failed["reason"]
    assert {row["model"] for row in rows if row["case"] == "phantom_02" and row["status"] == "ok"} == {
        "careful",
        "careless",
    }


def test_a_broken_image_costs_every_model_of_its_case(demo, tmp_path):
    path = demo / "images/phantom_02.png"
    path.write_bytes(path.read_bytes()[:-60])
    rows = rows_of(demo_cases(demo), make_evaluator(tmp_path), reading=Reading(on_error="skip"))
    assert [row["model"] for row in rows if row["status"] == "error"] == sorted(MODELS)
