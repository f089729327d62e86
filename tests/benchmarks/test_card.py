"""The card of shipped weights names every data set with its licence, wherever the set lies."""

from __future__ import annotations

import json

import polars as pl
import pytest

from benchmarks.card import data_table, markdown


def about(folder, name, licence, **more):
    path = folder / name / "dataset.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"name": name, "modality": "MRI", "licence": licence} | more), encoding="utf-8")


def test_sets_are_found_in_any_of_the_folders(tmp_path):
    about(tmp_path / "real", "hearts", "CC BY 4.0", original_dataset="ACDC")
    about(tmp_path / "made", "generated-1", "Apache-2.0")
    table = data_table({"hearts": 12, "generated-1": 3}, tmp_path / "real", tmp_path / "made")
    assert table.rows() == [
        ("hearts", 12, "MRI", "ACDC", "CC BY 4.0"),
        ("generated-1", 3, "MRI", "generated-1", "Apache-2.0"),
    ]


def test_a_set_that_lies_nowhere_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="hearts"):
        data_table({"hearts": 12}, tmp_path)


def test_markdown_leaves_what_is_unknown_empty():
    frame = pl.DataFrame({"set": ["a", "b"], "pearson": [0.5, float("nan")]})
    assert markdown(frame).splitlines() == ["| set | pearson |", "|---|---|", "| a | 0.500 |", "| b |  |"]
