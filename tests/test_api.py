import json
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import segqa
from segqa.decisions import agreement, benchmarking, flagging, ranking
from segqa.errors import InputError
from segqa.output.tables import read_scores, read_truth
from segqa.schema import KEY_COLUMNS


@pytest.fixture
def tables(tmp_path):
    scores, truth = tmp_path / "scores.csv", tmp_path / "truth.csv"
    rows = [(f"c{i}", model, 0.05 * i + shift) for i in range(15) for model, shift in (("a", 0.1), ("<b>", 0.0))]
    scores.write_text("case,object,label,model,predicted_dice\n" + "".join(f"{c},1,1,{m},{d}\n" for c, m, d in rows))
    truth.write_text("case,object,label,model,true_dice\n" + "".join(f"{c},1,1,{m},{d * 0.9}\n" for c, m, d in rows))
    return scores, truth


def test_importing_segqa_imports_nothing_heavy():
    code = "import segqa, sys; print(sorted({'numpy', 'polars', 'torch', 'typer'} & sys.modules.keys()), dir(segqa))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    assert "'score'" in done.stdout


def test_what_the_user_can_cause_is_caught_by_a_name_of_the_package():
    with pytest.raises(segqa.InputError, match="no such file"):
        segqa.flag("absent.csv")
    assert issubclass(segqa.InputError, segqa.SegqaError)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'scoer'"):
        _ = segqa.scoer


def test_flag_is_the_table_of_the_command(tables):
    frame = read_scores(tables[0])
    assert_frame_equal(segqa.flag(tables[0], percentile=20).to_polars(), flagging.flag(frame, percentile=20))
    assert_frame_equal(segqa.flag(frame, threshold=0.3).to_polars(), flagging.flag(frame, threshold=0.3))


def test_rank_is_the_table_of_the_command_and_with_truth_its_quality(tables):
    frame, truth = read_scores(tables[0]), read_truth(tables[1])
    assert_frame_equal(segqa.rank(str(tables[0])).to_polars(), ranking.rank(frame))
    assert segqa.rank(frame).quality is None
    expected = ranking.selection_table(agreement.join_truth(frame, truth))
    assert_frame_equal(segqa.rank(frame, truth=tables[1]).quality, expected)
    assert_frame_equal(segqa.rank(frame, truth=truth).quality, expected)


def test_benchmark_is_the_tables_of_the_command(tables):
    frame = read_scores(tables[0])
    found = segqa.benchmark(tables[0], draws=200, seed=3)
    expected = benchmarking.benchmark(frame, n_draws=200, seed=3)
    assert_frame_equal(found.to_polars(), expected.models)
    assert_frame_equal(found.differences, expected.differences)
    assert found.agreement is None


def test_benchmark_with_truth_tells_the_agreement_and_has_all_figures(tables):
    pytest.importorskip("matplotlib")
    found = segqa.benchmark(tables[0], truth=tables[1], draws=200)
    assert "pearson" in found.agreement.columns
    assert found.order_curve.height > 0
    assert set(found.plots()) == {"histogram", "scatter", "risk_coverage", "reliability"}
    assert set(segqa.benchmark(tables[0], draws=200).plots()) == {"histogram"}


def test_a_frame_with_the_needed_columns_only_is_enough(tables):
    pytest.importorskip("matplotlib")
    frame, truth = (pl.read_csv(path) for path in tables)
    assert frame.columns == ["case", "object", "label", "model", "predicted_dice"]
    assert_frame_equal(segqa.flag(frame).to_polars(), segqa.flag(tables[0]).to_polars())
    assert_frame_equal(segqa.rank(frame).to_polars(), segqa.rank(tables[0]).to_polars())
    assert_frame_equal(segqa.rank(frame, truth=truth).quality, segqa.rank(tables[0], truth=tables[1]).quality)
    ours, theirs = (segqa.benchmark(table, truth=other) for table, other in ((frame, truth), tables))
    assert_frame_equal(ours.to_polars(), theirs.to_polars())
    assert_frame_equal(ours.agreement, theirs.agreement)


def test_what_is_refused_of_a_file_is_refused_of_a_frame(tables):
    frame, truth = (pl.read_csv(path) for path in tables)
    percent = pl.col("^.*_dice$") * 100
    for ask in (segqa.flag, segqa.rank, segqa.benchmark):
        with pytest.raises(InputError, match=r"the scores: row 1, column predicted_dice: 10 is outside of 0..1"):
            ask(frame.with_columns(percent))
        with pytest.raises(InputError, match="the scores: no column model"):
            ask(frame.drop("model"))
    with pytest.raises(InputError, match="the scores: row 31 repeats case, object, label and model"):
        segqa.flag(pl.concat([frame, frame]))
    with pytest.raises(InputError, match=r"the truth: row 1, column true_dice: 9 is outside of 0..1"):
        segqa.rank(frame, truth=truth.with_columns(percent))


def test_keys_that_were_read_as_numbers_find_their_truth(tables):
    scores, truth = read_scores(tables[0]), pl.read_csv(tables[1])
    expected = segqa.benchmark(tables[0], truth=tables[1], draws=100).agreement
    for kind in (pl.Int64, pl.Float64):
        as_numbers = truth.with_columns(pl.col("object", "label").cast(kind))
        assert_frame_equal(segqa.benchmark(segqa.api.Scores(scores), truth=as_numbers, draws=100).agreement, expected)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"use": "upper"}, "use 'upper': one of predicted, lower was expected"),
        ({"per": "case"}, "per 'case': one of None, model, label was expected"),
        ({"per": "model", "threshold": 0.5}, "per model is for a percentile"),
    ],
)
def test_a_rule_that_there_is_not_is_refused(tables, options, text):
    with pytest.raises(InputError, match=text):
        segqa.flag(tables[0], **options)


def test_what_is_no_table_is_named(tables):
    with pytest.raises(InputError, match=r"list where a table was expected: .* a polars\.DataFrame, or a path"):
        segqa.flag(segqa.flag(tables[0]).to_dicts())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"runtime": "tensorrt"}, "runtime 'tensorrt': one of auto, onnx, torch was expected"),
        ({"workers": -1}, "workers -1: a number of threads was expected"),
    ],
)
def test_scoring_in_a_way_that_there_is_not_is_refused(tiny_weights, tmp_path, options, text):
    from segqa.phantoms import write_demo

    write_demo(tmp_path, n_cases=1)
    with pytest.raises(InputError, match=text):
        segqa.score(tmp_path / "images", tmp_path / "masks", weights=tiny_weights, **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"objects": "boxes"}, "objects 'boxes': one of labels, components was expected"),
        ({"nan": "mean"}, "nan 'mean': one of error, zero was expected"),
        ({"on_error": "ignore"}, "on_error 'ignore': one of stop, skip was expected"),
        ({"window": (40, 0)}, "window 40 0: a centre and a width above 0"),
        ({"window": (1, 2, 3)}, "window 1 2 3: a centre and a width above 0"),
        ({"window": "40 400"}, "window '40 400': a centre and a width above 0"),
        ({"labels": "1,3"}, r"labels '1,3': whole numbers above 0 were expected, such as \[1, 3\]"),
        ({"labels": ["1"]}, r"labels \['1'\]: whole numbers"),
        ({"labels": [1.5]}, r"labels \[1.5\]: whole numbers"),
        ({"labels": [0, 1]}, r"labels \[0, 1\]: whole numbers above 0"),
        ({"labels": []}, r"labels \[\]: whole numbers above 0 were expected, .*; None for all"),
        ({"labels": 1}, "labels 1: whole numbers"),
    ],
)
def test_a_reading_that_there_is_not_is_refused(options, text):
    from segqa.data.reading import Reading

    with pytest.raises(InputError, match=text):
        Reading(**options)


def test_labels_of_numpy_are_numbers():
    from segqa.data.reading import Reading

    for labels in (np.array([1, 3], np.uint8), np.array([1.0, 3.0]), iter([1, 3])):
        assert Reading(labels).labels == (1, 3)


def test_a_result_hands_over_its_rows(tables, tmp_path):
    flags = segqa.flag(tables[0], threshold=0.3)
    assert len(flags) == len(flags.to_dicts()) == flags.to_polars().height > 0
    assert flags.to_dicts()[0]["case"] == "c0"
    written = flags.to_csv(tmp_path / "flags.csv")
    assert pl.read_csv(written).height == len(flags)
    assert "Flags of" in repr(flags)


def test_a_notebook_gets_escaped_html(tables):
    html = segqa.flag(tables[0], percentile=100)._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


def test_pandas_is_used_where_it_is_and_named_where_it_is_not(tables, monkeypatch):
    flags = segqa.flag(tables[0])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        flags.to_pandas()
    monkeypatch.undo()
    pandas = pytest.importorskip("pandas")
    assert isinstance(flags.to_pandas(), pandas.DataFrame)


def test_scores_of_files_go_on_to_flags_ranks_and_models(tiny_weights, tmp_path):
    from segqa.phantoms import write_demo

    write_demo(tmp_path, n_cases=2)
    scores = segqa.score(
        tmp_path / "images", tmp_path / "masks", tmp_path / "boxes.json", weights=tiny_weights, workers=1
    )
    assert len(scores) == 2 * 3 * 3
    assert scores.to_polars()["predicted_dice"].is_between(0, 1).all()
    assert len(scores.flag(percentile=10)) >= 2
    assert len(scores.rank()) == 2 * 3
    assert len(scores.benchmark(draws=100)) == 3
    if pytest.importorskip("matplotlib"):
        assert scores.plot().axes


def test_scoring_takes_the_options_of_the_command(tiny_weights, tmp_path):
    from segqa.phantoms import write_demo

    write_demo(tmp_path, n_cases=2)
    (tmp_path / "masks" / "careful" / "phantom_01.png").write_bytes(b"no picture")
    options = {"labels": iter([1, 2]), "on_error": "skip", "weights": tiny_weights, "workers": 1}
    frame = segqa.score(tmp_path / "images", tmp_path / "masks" / "careful", **options).to_polars()
    assert frame["status"].to_list().count("error") == 1
    assert set(frame["label"]) == {"", "1", "2"}


def test_evaluating_is_what_the_command_writes(run, tmp_path, monkeypatch):
    from segqa.phantoms import write_demo

    monkeypatch.chdir(tmp_path)
    write_demo(tmp_path, n_cases=2)
    call = ("evaluate", "masks", "truth", "--boxes", "boxes.json", "--labels", "1,3", "--output", "e.csv")
    assert run(*call).exit_code == 0
    found = segqa.evaluate("masks", "truth", "boxes.json", labels=[1, 3])
    assert found.agreement is None
    assert_frame_equal(read_truth(found.to_csv("own.csv")), read_truth(tmp_path / "e.csv"))
    scores = found.to_polars().select(*KEY_COLUMNS, predicted_dice="true_dice").drop_nulls()
    options = {"boxes": "boxes.json", "labels": [1, 3], "scores": scores.filter(model="careful")}
    known = segqa.evaluate({"careful": "masks/careful"}, tmp_path / "truth", **options).agreement
    assert known["mae"].to_list() == pytest.approx([0, 0], abs=1e-9)
    assert len(segqa.benchmark(scores, truth=found, draws=10).agreement) == 4
    (tmp_path / "masks" / "careful" / "phantom_01.png").unlink()
    with pytest.raises(InputError, match="1 files without partner"):
        segqa.evaluate("masks", "truth")
    with pytest.warns(UserWarning, match="1 files without partner are left out: phantom_01.png") as told:
        segqa.evaluate("masks", "truth", allow_missing=True)
    assert told[0].filename == __file__


def test_references_are_taken_as_the_command_takes_them(run, tiny_weights, tmp_path, monkeypatch):
    from segqa.phantoms import write_demo

    write_demo(tmp_path, n_cases=2)
    reference = (str(tmp_path / "images"), tmp_path / "truth")
    with pytest.warns(UserWarning, match="objects have a remark"):
        found = segqa.score(
            tmp_path / "images", tmp_path / "masks", reference=reference, weights=tiny_weights, workers=1
        )
    call = ("score", tmp_path / "images", tmp_path / "masks", "--reference", *reference, "--weights", tiny_weights)
    assert run(*call, "--output", tmp_path / "scores.csv").exit_code == 0
    assert_frame_equal(found.to_polars(), read_scores(tmp_path / "scores.csv"))
    assert found.to_polars()["reference_dice"].null_count() == 0


@pytest.mark.parametrize("reference", ["folder", ("folder",), ("a", "b", "c")])
def test_anything_but_two_paths_of_references_is_refused(tmp_path, reference):
    with pytest.raises(InputError, match="two paths were expected, those of the images and of their masks"):
        segqa.score(tmp_path, tmp_path, reference=reference)


def test_images_are_scored_ranked_and_the_best_copied(tiny_weights, tmp_path):
    from segqa.phantoms import write_demo

    write_demo(tmp_path, n_cases=2)
    masks = {path.name: path for path in sorted((tmp_path / "masks").iterdir())}
    options = {"boxes": tmp_path / "boxes.json", "weights": tiny_weights, "workers": 1}
    ranked = segqa.rank(tmp_path / "images", masks=masks, copy_best=tmp_path / "best", **options)
    scores = segqa.score(tmp_path / "images", masks, **options)
    assert_frame_equal(ranked.to_polars(), ranking.rank(scores.to_polars()))
    scores.rank(copy_best=tmp_path / "again")
    segqa.rank(scores.to_polars(), masks=tmp_path / "masks", copy_best=tmp_path / "third")
    written = [sorted((tmp_path / name).glob("*.png")) for name in ("best", "again", "third")]
    assert [len(paths) for paths in written] == [2, 2, 2]
    assert len({tuple(path.read_bytes() for path in paths) for paths in written}) == 1


def test_ranking_says_what_it_lacks(tables, tmp_path):
    with pytest.raises(InputError, match="to score images, say where"):
        segqa.rank(tmp_path)
    with pytest.raises(InputError, match="to copy the best, say where"):
        segqa.rank(tables[0], copy_best=tmp_path / "best")
    with pytest.raises(InputError, match="boxes: for images"):
        segqa.rank(tables[0], boxes="boxes.json")
    with pytest.raises(InputError, match="masks: for images that are scored first, or for copy_best"):
        segqa.rank(tables[0], masks=tmp_path)


def test_what_the_command_tells_on_stderr_is_a_warning(tiny_weights, tmp_path):
    from segqa.phantoms import write_demo

    write_demo(tmp_path, n_cases=2)
    boxes = json.loads((tmp_path / "boxes.json").read_text())
    boxes["boxes"]["nobody"] = [[1, 1, 9, 9]]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    with pytest.warns(UserWarning, match="the boxes of 1 cases belong to no image: nobody") as told:
        segqa.score(tmp_path / "images", tmp_path / "masks", tmp_path / "boxes.json", weights=tiny_weights, workers=1)
    assert told[0].filename == __file__
    shutil.rmtree(tmp_path / "masks" / "careful")
    np.save(tmp_path / "masks" / "average" / "phantom_01.npy", np.zeros((256, 256), np.uint8))
    (tmp_path / "masks" / "average" / "phantom_01.png").unlink()
    masks = {"average": tmp_path / "masks" / "average"}
    with pytest.warns(UserWarning, match="objects have a remark; see `reason`") as told:
        segqa.rank(tmp_path / "images", masks=masks, weights=tiny_weights, workers=1)
    assert {one.filename for one in told} == {__file__}


def test_objects_that_only_the_truth_has_and_models_that_share_few_are_told(tables):
    scores, truth = (pl.read_csv(path) for path in tables)
    with pytest.warns(UserWarning, match="1 of 30 true rows have no score") as told:
        segqa.rank(scores[1:], truth=truth)
    assert told[0].filename == __file__
    apart = pl.concat([scores.filter(model="a"), scores.filter(model="<b>")[:1]])
    with pytest.warns(UserWarning, match="are placed by different objects: 15 and 1 are scored"):
        segqa.benchmark(apart, draws=100)


def test_scoring_volumes_leaves_no_volume_in_memory(tiny_weights, tmp_path):
    from segqa.data import volumes

    voxels = np.zeros((40, 40, 5), np.uint8)
    voxels[8:30, 10:28] = 1
    for folder, factor in (("images", 200), ("masks", 1)):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "v.npy", voxels * np.uint8(factor))
    assert len(segqa.score(tmp_path / "images", tmp_path / "masks", weights=tiny_weights, workers=1)) == 5
    assert not volumes._slots
