import json
import math
import time

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from segqa.data.files import write_whole
from segqa.errors import InputError
from segqa.output import tables
from segqa.schema import SCORE_COLUMNS, SCORE_SCHEMA


@pytest.fixture
def scores() -> pl.DataFrame:
    rows = [
        {"case": 'a "b", ü\n-x', "object": "1", "label": "001", "model": "sam", "predicted_dice": 1 / 3},
        {"case": "c", "object": "2", "label": "", "model": "", "reason": "empty mask", "x0": 4},
    ]
    frame = pl.DataFrame(rows, schema=SCORE_SCHEMA)
    return frame.with_columns(pl.lit("ok").alias("status"), true_dice=pl.Series([0.5, None]))


@pytest.mark.parametrize("suffix", tables.FORMATS)
def test_a_table_comes_back_as_it_was_written(tmp_path, scores, suffix):
    path = tmp_path / "new" / f"scores.{suffix}"
    tables.write_table(scores, path)
    assert_frame_equal(tables.read_scores(path), scores)


@pytest.mark.parametrize("suffix", tables.FORMATS)
def test_an_empty_table_comes_back_empty(tmp_path, suffix):
    path = tmp_path / f"scores.{suffix}"
    tables.write_table(pl.DataFrame(schema=SCORE_SCHEMA), path)
    assert tables.read_scores(path).columns == list(SCORE_COLUMNS)
    assert tables.read_scores(path).is_empty()


@pytest.mark.parametrize("suffix", tables.FORMATS)
def test_nan_is_written_as_not_available(tmp_path, scores, suffix):
    path = tmp_path / f"scores.{suffix}"
    tables.write_table(scores.with_columns(predicted_dice=pl.lit(math.nan)), path)
    assert tables.read_scores(path)["predicted_dice"].to_list() == [None, None]


def test_nan_in_somebody_elses_csv_is_not_available(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("case,object,label,model,predicted_dice\na,1,1,m,NaN\nb,1,1,m,0.5\n")
    assert tables.read_scores(path)["predicted_dice"].to_list() == [None, 0.5]


def test_infinity_is_refused_in_both_directions(tmp_path, scores):
    path = tmp_path / "scores.csv"
    with pytest.raises(ValueError, match=r"predicted_hd95_px.*finite_distance"):
        tables.write_table(scores.with_columns(predicted_hd95_px=pl.lit(math.inf)), path)
    assert list(tmp_path.iterdir()) == []
    path.write_text("case,object,label,model,predicted_dice\na,1,1,m,0.5\nb,1,1,m,inf\n")
    with pytest.raises(InputError, match="row 2, column predicted_dice: inf where a number"):
        tables.read_scores(path)


def test_json_carries_schema_and_versions(tmp_path, scores):
    path = tmp_path / "scores.json"
    tables.write_table(scores, path)
    document = json.loads(path.read_text())
    assert (document["schema"], document["version"]) == ("segqa.scores", 1)
    assert document["segqa_version"]
    assert list(document["rows"][0])[: len(SCORE_COLUMNS)] == list(SCORE_COLUMNS)


def test_parquet_carries_schema_and_versions(tmp_path, scores):
    path = tmp_path / "scores.parquet"
    tables.write_table(scores, path)
    metadata = pl.read_parquet_metadata(path)
    assert (metadata["schema"], metadata["version"]) == ("segqa.scores", "1")


def test_columns_that_a_foreign_table_lacks_are_filled(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("model,case,object,label,predicted_dice,patient\nm,a,1,1,0.5,007\n")
    frame = tables.read_scores(path)
    assert frame.columns == [*SCORE_COLUMNS, "patient"]
    assert frame.row(0, named=True)["status"] == "ok"
    assert frame.row(0, named=True)["patient"] == "007"


def test_missing_columns_are_named(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("case,object,dice\na,1,0.5\n")
    with pytest.raises(InputError, match=r"scores.csv: no column label, model, predicted_dice \(found case"):
        tables.read_scores(path)


def test_a_cell_of_the_wrong_type_is_named_with_its_row(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("case,object,label,model,predicted_dice\na,1,1,m,0.5\nb,1,1,m,good\n")
    with pytest.raises(InputError, match=r"scores.csv: row 2, column predicted_dice: 'good'"):
        tables.read_scores(path)


FROM_PANDAS = """case,object,label,model,predicted_dice,x0
a,1.0,2.0,m,0.5,27.0
b,,,m,,
"""


def test_whole_numbers_that_pandas_wrote_as_fractions_are_whole(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(FROM_PANDAS)
    from_text = tables.read_scores(path)
    assert from_text.select("object", "label", "x0").rows() == [("1", "2", 27), ("", "", None)]
    as_numbers = pl.read_csv(path).with_columns(pl.col("object", "x0").fill_null(math.nan))
    assert_frame_equal(tables.check_scores(as_numbers), from_text)


def test_names_with_a_fraction_stay_when_not_all_are_whole(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("case,object,label,model,predicted_dice\na,1,1.0,m,0.5\nb,1,1.5,m,0.5\nc,1,liver,m,0.5\n")
    assert tables.read_scores(path)["label"].to_list() == ["1.0", "1.5", "liver"]
    assert tables.read_scores(path)["object"].to_list() == ["1", "1", "1"]
    assert tables.check_scores(pl.read_csv(path)[:2].cast({"label": float}))["label"].to_list() == ["1.0", "1.5"]


@pytest.mark.parametrize("text", ["27.5", "inf", "left"])
def test_a_coordinate_that_is_not_whole_is_refused(tmp_path, text):
    path = tmp_path / "scores.csv"
    path.write_text(f"case,object,label,model,predicted_dice,x0\na,1,1,m,0.5,3.0\nb,1,1,m,0.5,{text}\n")
    fact = f"row 2, column x0: .*{text}.* where a whole number was expected"
    with pytest.raises(InputError, match=fact):
        tables.read_scores(path)
    with pytest.raises(InputError, match=fact):
        tables.check_scores(pl.read_csv(path))


def test_blanks_after_the_commas_belong_to_nothing(tmp_path):
    spaced, path = tmp_path / "spaced.csv", tmp_path / "scores.csv"
    path.write_text("case,object,label,model,predicted_dice,reason\na b,1,1,m,0.5,\nc,1,1,m,,lost\n")
    spaced.write_text(path.read_text().replace(",", ", "))
    assert_frame_equal(tables.read_scores(spaced), tables.read_scores(path))


def test_semicolons_are_named(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("case;object;label;model;predicted_dice\na;1;1;m;0,5\n")
    with pytest.raises(InputError, match=r"scores\.csv: its columns are separated by semicolons; save it with commas"):
        tables.read_scores(path)


def test_a_row_without_a_case_is_named(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("case,object,label,model,predicted_dice\na,1,1,m,0.5\n,1,1,m,0.5\n")
    with pytest.raises(InputError, match="row 2 has no case"):
        tables.read_scores(path)


def test_a_repeated_row_is_named(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("case,object,label,model,predicted_dice\na,1,1,m,0.5\nb,1,1,m,0.5\na,1,1,m,0.6\n")
    with pytest.raises(InputError, match="row 3 repeats case"):
        tables.read_scores(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b""),
        ("a.csv", b"case,object\n1,2,3\n"),
        ("a.csv", b"case,object\n\xff\xfe,2\n"),
        ("a.json", b""),
        ("a.json", b"{"),
        ("a.json", b"[1, 2]"),
        ("a.json", b'{"a": 1}'),
        ("a.json", b'{"rows": 3}'),
        ("a.json", b'{"rows": [1, 2]}'),
        ("a.json", b'{"rows": [], "version": 2}'),
        ("a.jsonl", b"{"),
        ("a.jsonl", b"\x00\x01"),
        ("a.parquet", b"PAR1"),
        ("a.parquet", b""),
    ],
)
def test_an_unreadable_table_is_one_line_with_its_name(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{name}: [^\n]+$"):
        tables.read_scores(path)


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(InputError, match="segqa score"):
        tables.read_scores(tmp_path / "scores.csv")


def test_an_unknown_extension_lists_the_known_ones(tmp_path, scores):
    with pytest.raises(InputError, match=r"scores.xlsx.*\.csv, \.json, \.jsonl, \.parquet"):
        tables.write_table(scores, tmp_path / "scores.xlsx")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("old")

    def dump(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        write_whole(path, dump)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["scores.csv"]


def test_a_folder_in_the_way_is_an_input_error(tmp_path, scores):
    (tmp_path / "scores.csv").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        tables.write_table(scores, tmp_path / "scores.csv")
    assert [found.name for found in tmp_path.iterdir()] == ["scores.csv"]


@pytest.mark.parametrize("file_format", ["csv", "json", "jsonl"])
def test_rendered_text_is_what_a_file_would_hold(tmp_path, scores, file_format):
    path = tmp_path / f"scores.{file_format}"
    tables.write_table(scores, path)
    assert tables.render(scores, file_format) == path.read_text()


def test_parquet_is_not_printed(scores):
    with pytest.raises(InputError, match="binary"):
        tables.render(scores, "parquet")


def test_bytes_of_a_file_that_is_no_table_are_escaped(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes(b"\x1b[2J\x07,b\nc,d\n")
    with pytest.raises(InputError, match=r"no column case, .* \(found '\\x1b\[2J\\x07', b\); give") as error:
        tables.read_scores(path)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("value", [1.7, 85, -0.1])
def test_percentages_are_refused(tmp_path, value):
    path = tmp_path / "s.csv"
    path.write_text(f"case,object,label,model,predicted_dice,true_dice\na,1,1,m,1.0000001,0\nb,1,1,m,{value},{value}\n")
    for read, name in ((tables.read_scores, "predicted_dice"), (tables.read_truth, "true_dice")):
        with pytest.raises(InputError, match=rf"s.csv: row 2, column {name}: {value:g} is outside of 0..1; divide"):
            read(path)


def test_read_truth_needs_the_true_dice(tmp_path, scores):
    path = tmp_path / "evaluation.csv"
    tables.write_table(scores, path)
    assert tables.read_truth(path)["true_dice"].to_list() == [0.5, None]
    path.write_text("case,object,label,model\na,1,1,m\n")
    with pytest.raises(InputError, match="true_dice"):
        tables.read_truth(path)


@pytest.mark.parametrize("suffix", tables.FORMATS)
def test_many_rows_are_read_in_seconds(tmp_path, scores, suffix):
    path = tmp_path / f"scores.{suffix}"
    many = scores[[0, 1] * 50_000].with_columns(case=pl.int_range(100_000).cast(pl.String))
    start = time.process_time()
    tables.write_table(many, path)
    assert tables.read_scores(path).height == 100_000
    assert time.process_time() - start < 10  # of about one; a step that looks at all pairs of rows takes minutes


def test_a_csv_in_utf_16_is_named(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("case,object,label,model,predicted_dice\na,1,1,m,0.5\n", encoding="utf-16")
    with pytest.raises(InputError, match=r"scores\.csv: text in UTF-16, .* save it as CSV in UTF-8"):
        tables.read_scores(path)
