"""Scoring from files to table, as the command and the Python interface share it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from segqa.data.boxes import read_boxes
from segqa.data.cases import Cases, check_cases, find_cases
from segqa.data.checks import refuse_images
from segqa.data.files import files_below, list_some
from segqa.data.objects import UNKNOWN_LABEL
from segqa.data.reading import Reading
from segqa.data.types import Case
from segqa.errors import InputError
from segqa.journal import Journal, finished_rows, journal_key
from segqa.quality.calibration import use_interval
from segqa.quality.novelty import NOVEL
from segqa.quality.runners import RuntimeName
from segqa.quality.scoring import EMPTY_PREDICTION, NO_REFERENCE, Evaluator, Row, error_row, load_evaluator, score_cases
from segqa.schema import BOX_FROM_FILE, SCORE_SCHEMA, STATUS_ERROR
from segqa.weights import DEFAULT_EVALUATOR, find_weights
from segqa.workers import Workers, choose_workers

if TYPE_CHECKING:
    import polars as pl

    from segqa.references import References, Watch

SHOWN_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class ScorePlan:
    """Everything that is checked before the first slow step."""

    cases: Cases
    evaluator: Evaluator
    reading: Reading
    workers: Workers
    paths: tuple[Path, ...]
    """What was asked for: images, masks, boxes, calibration, references."""
    side_files: tuple[Path, ...]
    """Those of them that are read beside the cases: boxes, calibration, references."""
    labelled: Cases | None = None
    """Labelled images to learn from."""
    references: References | None = None
    """What they taught, once `learn_references` was called."""
    key: str = ""
    """What a resumed run must share with the killed one: options, weights, and input files as they were at first."""

    def summary(self) -> str:
        """Return one line on what will be scored, and with what."""
        models = dict.fromkeys(model for case in self.cases for model in case.masks)
        left_out = f", {len(self.cases.skipped)} files without partner" if self.cases.skipped else ""
        others = f", {list_some(self.cases.ignored, limit=2)} left alone" if self.cases.ignored else ""
        empty = f", {self.cases.empty_slices} empty slices are no cases" if self.cases.empty_slices else ""
        who = f"{self.evaluator.info.path.stem} in {self.evaluator.runner.name}"
        taught = f"; {len(self.labelled)} labelled images" if self.labelled else ""
        return f"{len(self.cases)} cases, models: {', '.join(models)}{left_out}{others}{empty}; {who}{taught}"


def _make_key(plan: ScorePlan) -> str:
    files = {source.path for case in plan.cases for source in (case.image, *case.masks.values())}
    inputs = files_below(sorted(files))
    # The axis: slices along another one have the same names.
    axes = sorted({source.axis for case in plan.cases for source in (case.image, *case.masks.values())})
    options = asdict(plan.reading) | {"paths": [str(path) for path in plan.paths], "axes": axes}
    options["models"] = sorted({model for case in plan.cases for model in case.masks})
    options["runner"] = plan.evaluator.runner.name
    options["lost"] = [list(row.values()) for row in _lost_rows(plan)]
    return journal_key(
        options=options, weights=plan.evaluator.info.sha256, inputs=[*inputs, *files_below(plan.side_files)]
    )


def plan_score(
    images: Path,
    masks: Path | Mapping[str, Path],
    boxes: Path | None = None,
    *,
    weights: str | Path = DEFAULT_EVALUATOR,
    reading: Reading | None = None,
    calibration: Path | None = None,
    reference: tuple[Path, Path] | None = None,
    axis: int = -1,
    allow_missing: bool = False,
    runtime: RuntimeName = "auto",
    device: str = "auto",
    workers: int = 0,
    ray: str | None = None,
) -> ScorePlan:
    """Find and check everything that scoring needs.

    Args:
        images: Folder or file.
        masks: Folder or file; sub-folders are models. Or a path for each model.
        boxes: Prompt boxes, `boxes.json` or COCO.
        weights: A shipped evaluator's name, or a file.
        reading: How cases are read; what to do with errors.
        calibration: A `calibration.json` of `segqa calibrate`, whose intervals replace those of the weights.
        reference: Images like these and their true masks, which the masks are compared with in a second judgement;
            see `references`.
        axis: Slicing axis of volumes.
        allow_missing: Leave out files without partner (they are counted).
        runtime: See `runners.load_runner`.
        device: See `runners.load_runner`.
        workers: Threads, or cases at a time of a cluster; 0 for as many as there are cores.
        ray: Address of a Ray cluster whose processes do the work; see `workers.RayCluster`.

    Raises:
        InputError: Files are missing or cannot be scored and errors stop the run; all of them in one line. Or an
            option is out of range.
    """
    chosen = reading or Reading()
    skip = chosen.on_error == "skip"
    mask_paths = tuple(masks.values()) if isinstance(masks, Mapping) else (masks,)
    side_files = (*(path for path in (boxes, calibration) if path is not None), *(reference or ()))
    paths = (images, *mask_paths, *side_files)
    for path in paths:
        if not path.exists():
            msg = f"{path}: no such file or folder; give paths that exist"
            raise InputError(msg)
    known = read_boxes(boxes) if boxes else None
    found = find_cases(
        images,
        masks,
        boxes=known,
        labels=chosen.labels,
        allow_missing=allow_missing or skip,
        axis=axis,
        skip_unreadable=skip,
    )
    refuse_images(found)
    if not skip:
        _refuse_damaged(found)
    labelled = None
    if reference is not None:
        from segqa.labelled import find_labelled  # with scipy.linalg, which most calls do without

        labelled = find_labelled(*reference, scored=found, axis=axis)
    evaluator = load_evaluator(find_weights(weights), runtime=runtime, device=device, threads=1)
    if calibration is not None:
        own, sha256 = evaluator.calibration, evaluator.info.sha256
        new = use_interval(calibration, own, weights=sha256, with_references=reference is not None)
        evaluator = replace(evaluator, calibration=new)
    who = choose_workers(workers, ray=ray, device=evaluator.runner.device)
    plan = ScorePlan(found, evaluator, chosen, who, paths, side_files, labelled)
    return replace(plan, key=_make_key(plan))


def _refuse_damaged(cases: Cases) -> None:
    problems = check_cases(cases)
    if problems:
        shown = "; ".join(problems[:SHOWN_PROBLEMS])
        rest = f"; and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        msg = f"{len(problems)} files cannot be scored: {shown}{rest}. Mend them, or use --on-error skip"
        raise InputError(msg)


def learn_references(plan: ScorePlan, *, watch: Watch = lambda labels, *_: labels) -> ScorePlan:
    """Return the plan with what its labelled images taught, if it has any and has not learnt from them.

    Args:
        plan: What `plan_score` returned.
        watch: Is handed the labels.

    Raises:
        InputError: A labelled image cannot be read, or no object in them is large enough.
    """
    if plan.labelled is None or plan.references is not None:
        return plan
    from segqa.labelled import read_examples, same_images
    from segqa.references import learn

    with _one_thread():
        examples = read_examples(plan.labelled, plan.evaluator, plan.reading)
        return replace(plan, references=learn(examples, held=same_images(plan.cases, plan.labelled), watch=watch))


def is_scored(plan: ScorePlan, journal: Path) -> bool:
    """Tell whether a journal has all cases of a plan, so that a resumed run only writes its table.

    Raises:
        InputError: The journal is of another run.
    """
    return not _cases_left(plan, finished_rows(journal, plan.key))


def _cases_left(plan: ScorePlan, finished: Iterable[Mapping[str, list[Row]]]) -> list[Case]:
    # One line of the journal is one case, so that a torn line never leaves half a case behind.
    done = {row["case"] for entry in finished for row in entry["rows"]}
    return [case for case in plan.cases if case.name not in done]


def reference_doubts(plan: ScorePlan) -> list[str]:
    """Return a line on each thing that is odd about what the labelled images of a plan taught."""
    if plan.references is None:
        return []
    from segqa.labelled import share_boxes

    doubts = plan.references.doubts()
    if plan.reading.objects == "labels" and share_boxes(plan.cases, list(plan.references.lessons)):
        fact = "references: there are boxes of parts of a label, but what is learnt is whole labels"
        doubts.append(f"{fact}; add --objects components")
    return doubts


def _one_thread() -> AbstractContextManager[object]:
    """Keep the library of matrices from using threads of its own.

    Workers would wait for each other, and sums have other last digits with another number of threads.
    """
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits


def run_score(plan: ScorePlan, *, journal: Path | None = None, resume: bool = False) -> Iterator[list[Row]]:
    """Yield the rows of each case in order; with a journal, finished cases survive a kill.

    Labelled images are learnt from if that was not done yet and a case is left to score.

    Args:
        plan: What `plan_score` returned.
        journal: Where to keep finished rows; the caller removes it with its table written.
        resume: Take what the journal has instead of scoring it again.

    Raises:
        InputError: A case cannot be read and errors stop the run; the journal is of another run.
    """
    if journal is None:
        yield from _score(plan, plan.cases)
    else:
        with Journal(journal, plan.key, resume=resume) as kept:
            left = _cases_left(plan, kept.rows)
            yield from [entry["rows"] for entry in kept.rows]
            for rows in _score(plan, left) if left else ():
                kept.append([{"rows": rows}])
                yield rows
    if lost := _lost_rows(plan):
        yield lost


def _lost_rows(plan: ScorePlan) -> list[Row]:
    """Return the rows of files that are no part of a case; none unless errors become rows."""
    if plan.reading.on_error == "stop":
        return []
    lost = [error_row(one.case, model, f"without partner: {one}") for one in plan.cases.skipped for model in one.models]
    return lost + [error_row(one.case, model, one.text) for one in plan.cases.unreadable for model in one.models]


def _score(plan: ScorePlan, cases: Iterable[Case]) -> Iterator[list[Row]]:
    plan = learn_references(plan)
    rows = score_cases(cases, plan.evaluator, reading=plan.reading, references=plan.references, workers=plan.workers)
    if plan.references is None:
        yield from rows
        return
    with _one_thread():
        yield from rows


def to_table(rows: Iterable[list[Row]]) -> pl.DataFrame:
    """Return rows as a table with the columns of `schema.SCORE_SCHEMA`."""
    import polars as pl

    return pl.DataFrame(list(chain.from_iterable(rows)), schema=SCORE_SCHEMA)


def _labels_of_boxes_only(table: pl.DataFrame) -> list[str]:
    """Return the labels of boxes that no mask of any model has, where the masks have other labels."""
    import polars as pl

    scored = table.filter((pl.col("status") != STATUS_ERROR) & (pl.col("label") != UNKNOWN_LABEL))
    is_missed = pl.col("reason").str.contains(EMPTY_PREDICTION).fill_null(value=False) & (
        pl.col("box_source") == BOX_FROM_FILE
    )
    by_label = scored.group_by("label", maintain_order=True).agg(is_missed.all().alias("missed"))
    return [] if by_label["missed"].all() else by_label.filter("missed")["label"].to_list()


def doubts_of(table: pl.DataFrame) -> list[str]:
    """Return a line on each kind of rows that need a look before the scores are trusted."""
    import polars as pl

    from segqa.output.runrecord import count_rows

    counts = count_rows(table)
    if not counts.read:
        return ["no object was scored: there is neither a box nor foreground in any mask; probabilities count from 0.5"]
    doubts = []
    if n_novel := table.filter(pl.col("novelty") > NOVEL).height:
        fact = f"{n_novel} of {counts.read} objects are unlike what the evaluator knows (novelty above {NOVEL:g})"
        doubts.append(f"{fact}; look at some of them before you trust their scores")
    if lacking := table.filter(pl.col("reason").str.contains(NO_REFERENCE))["label"].unique().sort().to_list():
        doubts.append(f"references tell nothing of label {list_some(lacking, limit=3)}: the evaluator's scores stay")
    if labels := _labels_of_boxes_only(table):
        fact = f"no mask has label {list_some(labels, limit=3)}, of which there are boxes"
        doubts.append(f"{fact}; every such object counts as missed: do boxes and masks number labels alike?")
    if counts.warned:
        doubts.append(f"{counts.warned} of {counts.read} objects have a remark; see `reason`")
    return doubts
