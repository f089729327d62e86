"""What a call of segqa costs as a process of its own."""

import pytest

from benchmarks.processes import measure


def test_a_call_is_run_in_its_folder_and_its_cost_is_plausible(tmp_path):
    cost = measure(["demo", "--cases", "1", "--out", "here"], tmp_path)
    assert (tmp_path / "stdout").read_text() == "here\n"
    assert (tmp_path / "here" / "boxes.json").exists()
    assert 0 < cost.cpu < 1000
    assert 0 < cost.wall < 1000
    assert 20 < cost.megabytes < 2000


def test_a_call_that_fails_ends_the_benchmark_with_its_words(tmp_path):
    with pytest.raises(SystemExit, match="segqa demo --nonsense failed"):
        measure(["demo", "--nonsense"], tmp_path)
