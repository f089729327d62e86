"""What the commands that score tell and keep beside their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segqa import console

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from segqa.output.runrecord import Counts
    from segqa.scores import ScorePlan


def announce(plan: ScorePlan) -> None:
    """Say what will be scored with what, and warn of what is odd about the files."""
    console.note(plan.summary())
    for remark in plan.cases.remarks():
        console.warn(remark)


def learn(plan: ScorePlan, *, journal: Path | None = None) -> ScorePlan:
    """Learn from labelled images, if there are any and the journal lacks a case, and tell what came of it."""
    from segqa.scores import is_scored, learn_references, reference_doubts

    if plan.labelled is None:
        return plan
    if journal is not None and is_scored(plan, journal):
        console.note("all cases are scored already: nothing is learnt from the labelled images")
        return plan
    console.note(f"learning from {len(plan.labelled)} labelled images")
    learnt = learn_references(plan, watch=console.progress)
    for line in learnt.references.summary() if learnt.references else ():
        console.note(line)
    for doubt in reference_doubts(learnt):
        console.warn(doubt)
    return learnt


def write_record(table: pl.DataFrame, plan: ScorePlan, target: Path, seconds: float) -> None:
    """Write beside a table of scores how it was made."""
    import shlex
    import sys
    from dataclasses import asdict

    from segqa.output.runrecord import RunRecord, WeightsUsed, count_rows, record_path, write_run_record
    from segqa.weights import hash_file

    info = plan.evaluator.info
    used = WeightsUsed(info.path.stem, info.sha256, str(info.card.get("licence", "not stated")))
    record = RunRecord(
        command=shlex.join(sys.argv[1:]),
        options={
            **asdict(plan.reading),
            "paths": [str(path) for path in plan.paths],
            "references": _taught(plan),
            "workers": str(plan.workers),
        },
        seed=None,
        device=plan.evaluator.runner.name,
        weights=used,
        counts=count_rows(table),
        seconds=seconds,
        key=plan.key,
        table_sha256=hash_file(target) if target.is_file() else None,
    )
    write_run_record(record_path(target), record)


def read_finished(plan: ScorePlan, target: Path) -> pl.DataFrame | None:
    """Return the table of a run of the same plan that came to its end; `None` if there is none, or it was changed."""
    import json

    from segqa.output.runrecord import record_path
    from segqa.output.tables import read_scores
    from segqa.weights import hash_file

    try:
        record = json.loads(record_path(target).read_text(encoding="utf-8"))
        is_same = record["key"] == plan.key and record["table_sha256"] == hash_file(target)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return read_scores(target) if is_same else None


def _taught(plan: ScorePlan) -> list[str] | None:
    if plan.labelled is None:
        return None
    return plan.references.summary() if plan.references else ["learnt by the run that was killed"]


def tell_doubts(table: pl.DataFrame) -> Counts:
    """Warn of rows that need a look, and return how many rows there are of each kind."""
    from segqa.output.runrecord import count_rows
    from segqa.scores import doubts_of

    for doubt in doubts_of(table):
        console.warn(doubt)
    return count_rows(table)
