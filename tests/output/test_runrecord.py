import json
from pathlib import Path

import PIL
import polars as pl

from segqa.output.runrecord import Counts, RunRecord, WeightsUsed, count_rows, write_run_record


def test_rows_are_counted_by_status():
    frame = pl.DataFrame({"status": ["ok", "ok", "warning", "error"]})
    assert count_rows(frame) == Counts(read=4, scored=3, warned=1, failed=1)


def test_the_record_holds_what_is_needed_to_repeat_the_run(tmp_path):
    path = tmp_path / "new" / "run.json"
    record = RunRecord(
        command="score",
        options={"masks": Path("masks"), "batch_size": 8},
        seed=0,
        device="cpu",
        weights=WeightsUsed("lite0", "ab" * 32, "Apache-2.0"),
        counts=Counts(3, 3, 0, 0),
        seconds=1.5,
    )
    write_run_record(path, record)
    found = json.loads(path.read_text())
    assert found["options"] == {"masks": "masks", "batch_size": 8}
    assert found["weights"] == {"name": "lite0", "sha256": "ab" * 32, "licence": "Apache-2.0"}
    assert found["counts"] == {"read": 3, "scored": 3, "warned": 0, "failed": 0}
    assert (found["schema"], found["version"], found["seed"], found["device"]) == ("segqa.run", 1, 0, "cpu")
    assert {"segqa", "python", "polars"} <= set(found["versions"])
    assert found["versions"]["pillow"] == PIL.__version__


def test_a_run_without_weights_says_so(tmp_path):
    path = tmp_path / "run.json"
    write_run_record(path, RunRecord("flag", {}, None, "cpu", None, Counts(0, 0, 0, 0), 0.0))
    assert json.loads(path.read_text())["weights"] is None
