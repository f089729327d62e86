"""The quality benchmark: baselines beside the evaluator, on phantoms and a segmenter that fills its box."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import polars as pl
import pytest
from PIL import Image

from benchmarks.quality import judge, report
from benchmarks.quality import tables as made
from benchmarks.quality.__main__ import AGREEMENTS, main
from benchmarks.quality.own_box import Memory, agreement_with_own_box, window_of
from benchmarks.quality.trials import all_trials
from segqa.data.reading import Reading
from segqa.errors import InputError
from segqa.phantoms import make_phantom
from segqa.prepared import plan_prepare, run_prepare
from segqa.quality.library import read_library
from segqa.quality.preparation import Settings
from segqa.quality.scoring import load_evaluator
from segqa.segmenters.base import Segmentation


class BoxFiller:
    """Fills each box; with `everywhere` the whole image whatever the box."""

    name = "litemedsam"
    takes_points = False

    def __init__(self, *, everywhere=False):
        self.everywhere, self.images = everywhere, 0

    def segment(self, image, prompts):
        self.images += 1
        masks = np.full((len(prompts), *image.shape[:2]), self.everywhere)
        for mask, prompt in zip(masks, prompts, strict=True):
            mask[prompt.box.y0 : prompt.box.y1, prompt.box.x0 : prompt.box.x1] = True
        return Segmentation(masks, np.linspace(0.2, 0.9, len(prompts), dtype=np.float32))


def prepare(data, out, side):
    plan = plan_prepare(data, None, settings=Settings(side=side, min_side=4), reading=Reading())
    list(run_prepare(plan, [BoxFiller()], out))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`data/phantoms`, three pictures of three objects each, and `prepared`, the records of it."""
    root = tmp_path_factory.mktemp("quality")
    data = root / "data" / "phantoms"
    for part in ("images", "masks"):
        (data / part).mkdir(parents=True)
    for index in range(3):
        phantom = make_phantom(np.random.default_rng(index), side=96)
        Image.fromarray(phantom.image).save(data / "images" / f"c{index}.png")
        Image.fromarray(phantom.truth.astype(np.uint8)).save(data / "masks" / f"c{index}.png")
    about = {"labels": {"1": "left", "2": "right", "3": "lesion"}, "mask_kind": "semantic", "split": "test"}
    (data / "dataset.json").write_text(json.dumps(about))
    prepare(data, root / "prepared" / "phantoms", 2048)
    return root


@pytest.fixture(scope="module")
def records(folder):
    return read_library([folder / "prepared"], validation_share=0.0).training


@pytest.fixture
def agreements(folder, records, tmp_path):
    """Compute the agreements of all masks: `agreements(segmenter)`."""

    def compute(segmenter, *, data=folder / "data", some=records):
        memory = Memory.read(tmp_path / "kept.json")
        return agreement_with_own_box(some, 0, data=data, memory=memory, load=lambda: segmenter)

    return compute


def masks_of(records):
    return [(record, trial.mask) for record, trials in all_trials(records, 0) for trial in trials]


def own_box_area(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)


def test_agreement_is_the_dice_with_what_the_masks_own_box_gives(agreements, records):
    found = agreements(BoxFiller())

    masks = [mask for _, mask in masks_of(records)]
    expected = [2 * mask.sum() / (mask.sum() + own_box_area(mask)) if mask.any() else 0.0 for mask in masks]
    assert found == pytest.approx(expected)
    assert 0.0 in found  # the empty ones


def test_what_the_segmenter_finds_beyond_the_record_counts(agreements, records):
    found = agreements(BoxFiller(everywhere=True))

    assert any(mask.size < 96 * 96 for _, mask in masks_of(records))
    assert found == pytest.approx([2 * mask.sum() / (mask.sum() + 96 * 96) for _, mask in masks_of(records)])


def test_a_record_knows_its_place_in_the_image(folder, records):
    for record in records:
        window = window_of(record)
        with Image.open(folder / "data" / "phantoms" / "images" / f"{record.case}.png") as picture:
            cut = np.asarray(picture.crop((window.x0, window.y0, window.x1, window.y1)))
        assert np.array_equal(cut, record.image)


def test_each_image_is_encoded_once_and_never_again(agreements, tmp_path):
    first = BoxFiller()
    found = agreements(first)

    assert first.images == 3
    assert agreements(None, data=tmp_path / "absent") == found


def test_a_run_that_broke_goes_on_at_the_image_where_it_was(agreements, records):
    class Broken(BoxFiller):
        def segment(self, image, prompts):
            if self.images == 2:
                raise RuntimeError("power cut")
            return super().segment(image, prompts)

    with pytest.raises(RuntimeError, match="power cut"):
        agreements(Broken())
    rest = BoxFiller()
    agreements(rest)

    assert rest.images == 1


def test_records_that_were_shrunk_are_refused(folder, agreements, tmp_path):
    prepare(folder / "data" / "phantoms", tmp_path / "small", 32)
    small = read_library([tmp_path / "small"], validation_share=0.0).training

    with pytest.raises(InputError, match=r"phantoms/c0: .*--side 2048"):
        agreements(BoxFiller(), some=small)


def test_an_image_that_is_another_or_absent_is_named(folder, agreements, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(folder / "data", data)
    with pytest.raises(InputError, match="elsewhere/phantoms: no such folder"):
        agreements(BoxFiller(), data=tmp_path / "elsewhere")
    shutil.copy(data / "phantoms" / "images" / "c0.png", data / "phantoms" / "images" / "c1.png")
    with pytest.raises(InputError, match="phantoms/c1: its record has other pixels"):
        agreements(BoxFiller(), data=data)
    for part in ("images", "masks"):
        (data / "phantoms" / part / "c2.png").unlink()
        shutil.copy(data / "phantoms" / part / "c0.png", data / "phantoms" / part / "c1.png")
    with pytest.raises(InputError, match="c1"):
        agreements(BoxFiller(), data=data)
    shutil.copy(folder / "data" / "phantoms" / "images" / "c1.png", data / "phantoms" / "images" / "c1.png")
    with pytest.raises(InputError, match="phantoms: no case c2"):
        agreements(BoxFiller(), data=data)


def rows(dataset, true, predicted, source="litemedsam exact", **columns):
    n = len(true)
    return pl.DataFrame(
        {
            "dataset": [dataset] * n,
            "case": ["c"] * n,
            "object": [f"{dataset}/o{index // 3}" for index in range(n)],
            "source": [source] * n,
            "true": true,
            "predicted": predicted,
            "confidence": [0.5] * n,
            "area": [0.6] * n,
            **columns,
        }
    )


def test_a_constant_is_the_mean_of_its_set_and_orders_nothing():
    table = pl.concat([rows("a", [0.0, 0.4, 0.8], [0.1, 0.2, 0.9]), rows("b", [0.9, 0.9, 0.6], [0.1, 0.2, 0.3])])
    found = made.compare(table, {"segqa": "predicted", "constant": "constant"}).filter(judge="constant")

    assert found["pearson"].to_list() == [None, None]
    assert found["auroc<0.7"].to_list() == [0.5, 0.5]
    assert found["mae"].to_list() == pytest.approx([0.8 / 3, 0.4 / 3])
    assert found["regret"].to_list() == pytest.approx([0.4, 0.1])
    assert found["best found"].to_list() == pytest.approx([1 / 3, 2 / 3])


def test_the_mean_of_evaluator_and_agreement_is_a_judge_when_there_is_an_agreement():
    table = rows("a", [0.0, 0.4, 0.8], [0.2, 0.4, 0.3])
    with_agreement = table.with_columns(pl.Series(made.OWN_BOX, [0.1, 0.3, 0.8]))

    assert list(made.judges_of(table)) == ["segqa", "mask area", "constant"]
    judges = made.judges_of(with_agreement)
    assert list(judges) == ["segqa", "own box", "segqa + own box", "mask area", "constant"]
    found = made.compare(with_agreement, judges).filter(judge="segqa + own box")
    assert found["mae"][0] == pytest.approx(np.abs(np.array([0.15, 0.35, 0.55]) - [0.0, 0.4, 0.8]).mean())
    assert found["regret"][0] == 0


def test_the_best_of_candidates_is_sought_without_the_reference_and_ties_share():
    table = pl.concat(
        [
            rows("a", [0.2, 0.9, 0.5], [0.7, 0.7, 0.1]),
            rows("a", [1.0], [0.9], source="reference"),
        ]
    )
    found = made.selection_row("a", table)

    assert found["n"] == 1
    assert found["best found"] == 0.5
    assert found["regret"] == pytest.approx(0.9 - 0.55)
    assert found["regret of chance"] == pytest.approx(0.9 - 1.6 / 3)


def test_masks_without_an_estimate_of_their_segmenter_do_not_count_for_it():
    table = rows("a", [0.0, 0.4, 0.8], [0.1, 0.2, 0.9], confidence=[0.3, None, 0.6])
    found = made.compare(table, {"segqa": "predicted", "head": "confidence"})

    assert found["masks"].to_list() == [3, 2]
    assert found.filter(judge="head")["pearson"][0] == pytest.approx(1.0)
    spread = made.spread_out(found, "pearson")
    assert spread["group"].to_list() == ["a", "mean of sets"]
    assert spread["masks"].to_list() == [3, 3]


def test_means_are_those_of_the_sets_where_a_figure_is_defined():
    table = pl.concat([rows("a", [0.0, 0.4, 0.9], [0.0, 0.4, 0.9]), rows("b", [0.9, 0.8, 0.7], [0.1, 0.2, 0.3])])
    found = made.means(made.compare(table, {"segqa": "predicted"})).row(0, named=True)

    assert found["pearson"] == pytest.approx(0.0)
    assert found["worst pearson"] == pytest.approx(-1.0)
    assert found["auroc<0.7"] == 1.0  # set b has no mask below 0.7
    spread = made.spread_out(made.compare(table, {"segqa": "predicted"}), "auroc<0.7")
    assert spread["segqa"].to_list() == [1.0, None, 1.0]


def test_hopeless_masks_are_shown_with_what_they_are_worth():
    table = pl.concat(
        [rows("a", [0.0, 0.4, 0.8], [0.1, 0.2, 0.9]), rows("a", [0.7, 0.1], [0.2, 0.1], source="whole box")]
    )
    low = dict(report(table))["Hopeless masks"].row(0, named=True)

    assert low == {"source": "whole box", "n": 2, "share under 0.3": 1.0, "truly under 0.3": 0.5}


def test_the_command_prints_the_baselines_and_keeps_the_agreements(
    folder, records, tiny_weights, tmp_path, monkeypatch, capsys
):
    prepared = tmp_path / "prepared"
    shutil.copytree(folder / "prepared", prepared)
    loaded = []
    monkeypatch.setattr("benchmarks.quality.__main__.load_segmenter", lambda name: loaded.append(name) or BoxFiller())
    words = [str(prepared), "--weights", str(tiny_weights), "--beside", f"paper={tiny_weights}"]
    words += ["--data", str(folder / "data"), "--out", str(tmp_path / "quality.csv")]
    main(words)
    main(words)

    text = capsys.readouterr().out
    assert loaded == ["litemedsam"]  # not for the second run
    assert text[: len(text) // 2] == text[len(text) // 2 :]
    assert all(f"│ {name} " in text for name in ("segqa", "paper", "own box", "segqa + own box", "constant"))
    table = pl.read_csv(tmp_path / "quality.csv")
    plain = judge(records, load_evaluator(tiny_weights, runtime="auto", threads=1), 0)
    assert table["predicted"].to_list() == pytest.approx(plain["predicted"].to_list(), abs=1e-5)
    assert table["beside paper"].equals(table["predicted"].rename("beside paper"))
    assert len(json.loads((prepared / AGREEMENTS).read_text())) <= table.height
    titles = [title for title, _ in report(table)]
    assert any("exact and jittered" in title for title in titles)
    empty = table.filter(source="empty")
    assert (empty["own box"] == 0).all()
    assert not any(math.isnan(value) for value in table["own box"])


def test_without_data_there_is_no_agreement_and_a_wrong_name_is_told(folder, tiny_weights, capsys):
    main([str(folder / "prepared"), "--weights", str(tiny_weights)])
    assert "own box" not in capsys.readouterr().out

    with pytest.raises(SystemExit) as stopped:
        main([str(folder / "prepared"), "--weights", str(tiny_weights), "--beside", "paper"])
    assert stopped.value.code == 2
    assert "NAME=WEIGHTS was expected" in capsys.readouterr().err
