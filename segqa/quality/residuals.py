"""How far an evaluator's scores are off on records that it did not learn from, and the calibration that follows.

Groups for the intervals are data sets when enough of them are held out, so that an interval speaks of a data set that
is new; else patients and volumes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from segqa.errors import InputError
from segqa.quality.calibration import Calibration
from segqa.quality.intervals import LEVEL, Floats, fit_interval, needed_groups
from segqa.quality.library import Library
from segqa.quality.novelty import Reference, fit_novelty, fit_reference
from segqa.quality.records import Record
from segqa.quality.sampling import Example, Mixture, Sampler, is_wrong
from segqa.quality.scoring import Evaluator
from segqa.quality.weights_file import KNOWN_HEADS

MASKS = 1200
"""Masks judged, and as many of the training records looked at: a minute or two on one core."""


@dataclass(frozen=True, slots=True)
class Fold:
    """An evaluator with what it learnt from and what it did not."""

    evaluator: Evaluator
    seen: list[Record]
    unseen: list[Record]


def make_fold(evaluator: Evaluator, library: Library, leave_out: Sequence[str] = ()) -> Fold:
    """Return what an evaluator has not learnt from: the data sets it never saw, or else the held-out groups.

    Args:
        evaluator: Its card lists the data sets it was trained on.
        library: Of `read_library`, split by group as in training.
        leave_out: Data sets it never saw, when the card does not tell.

    Raises:
        InputError: Neither tells.
    """
    every = [*library.training, *library.validation]
    names = {record.dataset for record in every}
    trained_on = set(evaluator.info.card.get("records", ())) or (names - set(leave_out) if leave_out else set())
    if not trained_on & names:
        msg = (
            f"{evaluator.info.path}: was trained on none of the prepared data sets, as far as its card tells; give "
            "the records that it was trained on, or name the sets that it was not trained on with --leave-out"
        )
        raise InputError(msg)
    if {record.dataset for record in library.training} <= trained_on:
        return Fold(evaluator, library.training, library.validation)
    seen = [record for record in every if record.dataset in trained_on]
    return Fold(evaluator, seen, [record for record in every if record.dataset not in trained_on])


def calibrate(
    evaluator: Evaluator,
    seen: Sequence[Record],
    folds: Sequence[Fold],
    *,
    level: float = LEVEL,
    n_masks: int = MASKS,
    seed: int = 0,
) -> Calibration:
    """Return the calibration of an evaluator.

    Args:
        evaluator: Whose scores the intervals are for.
        seen: What it learnt from.
        folds: Who judges what it has not seen: the evaluator itself, or stand-ins that were trained alike without
            some data sets each; each stand-in measures novelty against what it has learnt from itself.
        level: Of the intervals, between 0 and 1.
        n_masks: How many masks are judged in all, about.
        seed: Of the masks that are drawn.

    Raises:
        InputError: Too few groups are held out for the level, or a stand-in predicts other metrics.
    """
    _check_heads(evaluator, folds)
    whole = _check_groups(folds, level)
    own = _reference(evaluator, seen, n_masks, seed)
    references = [own if f.evaluator is evaluator else _reference(f.evaluator, f.seen, n_masks, seed) for f in folds]
    clusters = [
        (fold.evaluator, reference, name, records)
        for fold, reference in zip(folds, references, strict=True)
        for name, records in _clusters(fold.unseen, whole)
    ]
    each = -(-n_masks // len(clusters))
    parts = [_judge(*cluster, each, seed) for cluster in clusters]
    groups = [part.group for part in parts for _ in part.distances]
    data_sets = [part.data_set for part in parts for _ in part.distances]
    predicted = np.concatenate([part.predicted for part in parts])
    true = np.concatenate([part.true for part in parts])
    novelty = fit_novelty(own, np.concatenate([part.distances for part in parts]))
    shares = novelty.share(np.concatenate([part.distances for part in parts]))
    intervals = {
        head: fit_interval(predicted[:, i], true[:, i], groups, data_sets=data_sets, novelty=shares, level=level)
        for i, head in enumerate(_heads(evaluator))
    }
    about = {
        "groups": "data sets" if whole else "cases",
        "judges": [fold.evaluator.info.path.name for fold in folds],
        "data_sets": sorted({record.dataset for fold in folds for record in fold.unseen}),
        "seed": seed,
    }
    return Calibration(intervals, novelty, about)


def _check_heads(evaluator: Evaluator, folds: Sequence[Fold]) -> None:
    """Refuse stand-ins whose errors say nothing of the evaluator's scores."""
    wanted = _heads(evaluator)
    for fold in folds:
        if _heads(fold.evaluator) != wanted:
            msg = (
                f"{fold.evaluator.info.path}: predicts {','.join(_heads(fold.evaluator))} where "
                f"{evaluator.info.path.name} predicts {','.join(wanted)}; a stand-in must be trained alike (--heads)"
            )
            raise InputError(msg)


def _check_groups(folds: Sequence[Fold], level: float) -> bool:
    """Return whether data sets are the groups; refuse, before any work, what is too little for the level."""
    needed = needed_groups(level)
    n_sets, n_cases = (
        len({name for fold in folds for name, _ in _clusters(fold.unseen, whole)}) for whole in (True, False)
    )
    if n_cases < needed:
        msg = (
            f"{n_cases} groups (patients, volumes) are held out, of {n_sets} data sets: an interval of level {level:g} "
            f"needs at least {needed}; prepare more cases, or give a lower --level"
        )
        raise InputError(msg)
    return n_sets >= needed


@dataclass(frozen=True, slots=True)
class _Judged:
    """Masks of one group."""

    group: str
    data_set: str
    predicted: Floats
    """Shape `(n, heads)`."""
    true: Floats
    """Shape `(n, heads)`."""
    distances: Floats
    """Shape `(n,)`."""


def _reference(evaluator: Evaluator, seen: Sequence[Record], n_masks: int, seed: int) -> Reference:
    """Look at what was learnt from, all data sets alike."""
    clusters = _clusters(seen, whole=True)
    each = -(-n_masks // max(len(clusters), 1))
    blocks = [evaluator.look([e.inputs for e in _draw(evaluator, r, each, seed)])[1] for _, r in clusters]
    return fit_reference(np.concatenate(blocks))


def _judge(
    evaluator: Evaluator, reference: Reference, group: str, records: list[Record], n_masks: int, seed: int
) -> _Judged:
    examples = list(_draw(evaluator, records, n_masks, seed + 1))
    scores, embeddings = evaluator.look([example.inputs for example in examples])
    predicted = scores[:, [evaluator.heads.index(head) for head in _heads(evaluator)]]
    true = np.stack([example.targets for example in examples])
    return _Judged(
        group,
        records[0].dataset,
        predicted.astype(np.float64),
        true.astype(np.float64),
        reference.distances(embeddings),
    )


def _draw(evaluator: Evaluator, records: list[Record], n_masks: int, seed: int) -> Iterator[Example]:
    """Yield masks as training shows them, pictures as they are."""
    mixture = Mixture(turn=False, vary=False)
    sampler = Sampler(records, evaluator.profile, heads=_heads(evaluator), mixture=mixture, seed=seed)
    return (sampler.draw(index) for index in range(n_masks))


def _heads(evaluator: Evaluator) -> list[str]:
    return [head for head in evaluator.heads if head in KNOWN_HEADS]


def _clusters(records: Sequence[Record], whole: bool) -> list[tuple[str, list[Record]]]:
    """Return records by data set, or by case group; the sampler needs one around the object's own box in each."""
    clusters: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        clusters[record.dataset if whole else f"{record.dataset}/{record.group}"].append(record)
    return [(name, clusters[name]) for name in sorted(clusters) if not all(map(is_wrong, clusters[name]))]
