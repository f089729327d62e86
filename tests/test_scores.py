import json
from functools import partial

import numpy as np
import pytest

from segqa import scores
from segqa.data.reading import Reading
from segqa.errors import InputError
from segqa.phantoms import write_demo
from segqa.schema import SCORE_COLUMNS, SCORE_SCHEMA
from segqa.scores import doubts_of, plan_score, run_score, to_table


@pytest.fixture
def demo(tmp_path):
    write_demo(tmp_path / "demo", n_cases=5)
    return tmp_path / "demo"


@pytest.fixture
def plan(demo, tiny_weights):
    def make(**options):
        chosen = {"weights": tiny_weights, "workers": 1, "device": "cpu"} | options
        return plan_score(demo / "images", demo / "masks", demo / "boxes.json", **chosen)

    return make


def test_the_table_has_the_columns_of_the_schema_and_a_row_for_each_object(plan):
    table = to_table(run_score(plan()))
    assert table.columns == list(SCORE_COLUMNS)
    assert dict(table.schema) == SCORE_SCHEMA
    assert table.height == 5 * 3 * 3
    assert table["predicted_dice"].is_between(0, 1).all()
    assert table["predicted_dice"].n_unique() > 20  # the scores look at their inputs


def test_the_table_does_not_depend_on_the_number_of_workers(plan):
    tables = [to_table(run_score(plan(workers=n))).write_csv() for n in (1, 3)]
    assert tables[0] == tables[1]


def test_with_references_it_does_not_either_and_only_workers_are_threads(plan, demo, monkeypatch):
    from threadpoolctl import threadpool_info

    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    seen, score_cases = [], scores.score_cases
    monkeypatch.setattr(
        scores,
        "score_cases",
        lambda *given, **options: (seen.append(threads()) or r for r in score_cases(*given, **options)),
    )
    before = threads()
    made = [plan(workers=n, reference=(demo / "images", demo / "truth")) for n in (1, 3)]
    tables = [to_table(run_score(one)).write_csv() for one in made]
    assert tables[0] == tables[1]
    assert seen
    assert all(count == 1 for counts in seen for count in counts)
    assert threads() == before


def test_several_models_are_scored_as_each_alone(plan, demo, tiny_weights):
    together = to_table(run_score(plan()))
    alone = plan_score(
        demo / "images", demo / "masks/average", demo / "boxes.json", weights=tiny_weights, workers=1, device="cpu"
    )
    expected = to_table(run_score(alone))
    ours = together.filter(model="average")
    assert ours.drop("predicted_dice").equals(expected.drop("predicted_dice"))
    # Batches differ, and with them the last bits.
    np.testing.assert_allclose(ours["predicted_dice"], expected["predicted_dice"], atol=1e-6)


class Killed(Exception):  # noqa: N818
    """Stands for the power going off."""


def run_until_killed(plan, journal, monkeypatch, *, after):
    def dying(cases, *arguments, **options):
        for done, rows in enumerate(original(cases, *arguments, **options)):
            if done == after:
                raise Killed
            yield rows

    original = scores.score_cases
    with monkeypatch.context() as patch:
        patch.setattr(scores, "score_cases", dying)
        with pytest.raises(Killed):
            list(run_score(plan, journal=journal))


@pytest.mark.parametrize("torn", [0, 30], ids=["between two rows", "in the middle of a row"])
def test_a_resumed_run_equals_an_uninterrupted_one_byte_for_byte(plan, tmp_path, monkeypatch, torn):
    journal = tmp_path / "journal"
    whole = to_table(run_score(plan())).write_csv()
    run_until_killed(plan(), journal, monkeypatch, after=3)
    content = journal.read_bytes()
    assert content.count(b"\n") == 4  # the key and three cases
    journal.write_bytes(content[: len(content) - torn])
    begun = []
    original = scores.score_cases

    def listening(cases, *arguments, **options):
        kept = list(cases)
        begun.extend(case.name for case in kept)
        return original(kept, *arguments, **options)

    monkeypatch.setattr(scores, "score_cases", listening)
    assert to_table(run_score(plan(workers=2), journal=journal, resume=True)).write_csv() == whole
    assert len(begun) == (3 if torn else 2)  # what was finished is not scored again


def test_of_what_lies_beside_the_masks_the_journal_knows_nothing(demo, tiny_weights):
    masks = {name: demo / "masks" / name for name in ("careful", "average")}
    plan = partial(plan_score, demo / "images", masks, demo / "boxes.json", weights=tiny_weights, device="cpu")
    key = plan().key
    for folder in masks.values():
        (folder / ".DS_Store").write_text("x")
    assert plan().key == key
    (demo / "boxes.json").write_text((demo / "boxes.json").read_text() + " ")
    assert plan().key != key


def test_without_resume_a_journal_is_begun_anew(plan, tmp_path, monkeypatch):
    journal = tmp_path / "journal"
    run_until_killed(plan(), journal, monkeypatch, after=3)
    assert len(list(run_score(plan(), journal=journal))) == 5
    assert journal.read_bytes().count(b"\n") == 6


@pytest.mark.parametrize("change", ["reading", "weights", "image", "boxes"])
def test_a_journal_of_another_run_is_refused(plan, demo, tmp_path, monkeypatch, tiny_weights, change):
    journal, options = tmp_path / "journal", {}
    run_until_killed(plan(), journal, monkeypatch, after=1)
    if change == "reading":
        options = {"reading": Reading(labels=(1,))}
    elif change == "weights":
        other = tmp_path / "other.safetensors"
        other.write_bytes(tiny_weights.read_bytes().replace(b"untrained", b"retrained"))
        other.with_suffix(".onnx").write_bytes(tiny_weights.with_suffix(".onnx").read_bytes())
        options = {"weights": other}
    elif change == "image":
        path = demo / "images/phantom_05.png"
        path.write_bytes(path.read_bytes())
    else:
        (demo / "boxes.json").write_text((demo / "boxes.json").read_text() + "\n")
    with pytest.raises(InputError, match="journal is of a run with other options, weights or inputs"):
        list(run_score(plan(**options), journal=journal, resume=True))


def test_a_journal_along_another_axis_is_refused(tmp_path, tiny_weights):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "volume.npy", rng.integers(0, 256, size=(20, 20, 20), dtype=np.uint8))
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[5:15, 5:15, 5:15] = 1
    np.save(tmp_path / "mask.npy", mask)

    def plan(axis):
        paths = (tmp_path / "volume.npy", tmp_path / "mask.npy")
        return plan_score(*paths, weights=tiny_weights, workers=1, axis=axis, device="cpu")

    assert [case.name for case in plan(0).cases] == [case.name for case in plan(1).cases]
    assert plan(0).key != plan(1).key


def test_the_key_does_not_depend_on_the_number_of_workers(plan):
    assert plan(workers=1).key == plan(workers=7).key


def test_every_file_that_cannot_be_scored_is_told_before_anything_is_scored(plan, demo):
    for number in range(1, 5):
        (demo / f"images/phantom_0{number}.png").write_bytes(b"")
    (demo / "masks/average/phantom_05.png").write_text("<html>")
    (demo / "masks/careful/phantom_05.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match=r"6 files cannot be scored: .*; and 1 more\. Mend them") as caught:
        plan()
    assert "\n" not in str(caught.value)


def test_what_has_no_partner_stops_the_run_is_left_out_or_is_a_row(plan, demo):
    (demo / "masks/average/phantom_02.png").unlink()
    with pytest.raises(InputError, match=r"phantom_02\.png \(no mask of 'average'\).*--allow-missing"):
        plan()
    left_out = plan(allow_missing=True)
    assert "1 files without partner" in left_out.summary()
    assert to_table(run_score(left_out)).height == 5 * 9 - 3
    table = to_table(run_score(plan(reading=Reading(on_error="skip"))))
    (row,) = table.filter(status="error").iter_rows(named=True)
    assert (row["case"], row["model"]) == ("phantom_02", "average")
    assert row["reason"] == "without partner: phantom_02.png (no mask of 'average')"


def test_the_summary_says_what_is_scored_and_with_what(plan):
    text = plan().summary()
    assert text.startswith("5 cases, models: average, careful, careless; tiny in onnxruntime ")


def test_rows_survive_the_journal_bit_for_bit(plan, tmp_path):
    journal = tmp_path / "journal"
    rows = list(run_score(plan(), journal=journal))
    kept = [json.loads(line)["rows"] for line in journal.read_bytes().splitlines()[1:]]
    assert kept == rows


def test_a_link_that_leads_nowhere_is_named(plan, demo):
    path = demo / "masks/average/phantom_02.png"
    path.unlink()
    path.symlink_to(demo / "nowhere.png")
    with pytest.raises(InputError, match=r"average/phantom_02\.png: "):
        plan()
    skipping = plan(reading=Reading(on_error="skip"))
    (row,) = to_table(run_score(skipping, journal=demo / "journal")).filter(status="error").to_dicts()
    assert (row["case"], row["model"]) == ("phantom_02", "average")


@pytest.mark.parametrize("missing", ["images", "masks", "boxes.json"])
def test_a_path_that_does_not_exist_is_named(plan, demo, missing):
    (demo / missing).rename(demo / "away")
    with pytest.raises(InputError, match=rf"{missing}: no such file or folder"):
        plan()


def write_boxes(demo, label):
    content = json.loads((demo / "boxes.json").read_text())
    for boxes in content["boxes"].values():
        for number, box in enumerate(boxes, start=1):
            box["label"] = label(number)
    (demo / "boxes.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("label", "told"),
    [(lambda number: str(10 + number), "label 11, 12, 13"), (lambda number: str(number), None), (lambda _: "1", None)],
    ids=["other numbers", "the same numbers", "one label"],
)
def test_labels_that_only_the_boxes_know_are_told(plan, demo, label, told):
    write_boxes(demo, label)
    doubts = [doubt for doubt in doubts_of(to_table(run_score(plan()))) if "do boxes and masks number" in doubt]
    assert len(doubts) == (told is not None)
    if told:
        assert doubts[0].startswith(f"no mask has {told}, of which there are boxes; every such object counts as missed")
