"""A training to its end: the state beside the weights on the way, weights and card in the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from segqa.data.files import check_writable
from segqa.quality.training import Progress, Trainer
from segqa.quality.weights_file import read_info


def train_to_file(
    trainer: Trainer,
    out: Path,
    *,
    recipe: str,
    counts: dict[str, int],
    licence: str = "not stated",
    resume: bool = False,
    stop_after: int | None = None,
) -> Iterator[Progress]:
    """Train, keep the state beside the weights, write weights and graph at the end; yield the progress.

    Args:
        trainer: With its data.
        out: The weights file; the state is `NAME.state` beside it and is removed at the end of the plan.
        recipe: Name, for the card.
        counts: Records by data set, for the card.
        licence: Of the weights, for the card.
        resume: Go on from the state, if there is one; do nothing when `is_finished`.
        stop_after: End after so many examples, in the middle of the plan's schedule; the state stays, to go on from.

    Raises:
        InputError: The state is of another training, or `out` cannot be written.
    """
    check_writable(out)
    state = _state_of(out)
    if resume and is_finished(trainer, out):
        return
    if resume and state.exists():
        trainer.load_state(state)
    last: dict[str, float] = {}
    for progress in trainer.run(stop_after=stop_after):
        if trainer.rank == 0:
            trainer.save_state(state)
        last = progress.validation or last
        yield progress
    if trainer.rank:
        return
    paused = stop_after is not None and trainer.has_reached(stop_after) and not trainer.has_reached(None)
    card = {
        "licence": licence,
        "recipe": recipe,
        "plan": asdict(trainer.plan),
        "mixture": asdict(trainer.mixture),
        "examples": trainer.done,
        "records": counts,
        "validation": last,
        "curve": trainer.curve,
        "finished": None if paused else trainer.digest(),
    }
    trainer.save_weights(out, card)
    if not paused:
        state.unlink(missing_ok=True)


def is_finished(trainer: Trainer, out: Path) -> bool:
    """Tell whether the weights file is the end of this very training: same data, plan and network.

    Raises:
        InputError: It is no whole weights file.
    """
    if _state_of(out).exists() or not out.exists():
        return False
    return read_info(out).card.get("finished") == trainer.digest()


def _state_of(out: Path) -> Path:
    return out.with_suffix(".state")
