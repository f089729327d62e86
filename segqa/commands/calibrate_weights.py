"""`segqa calibrate-weights`: intervals and novelty for a weights file, from prepared records it did not learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segqa import console
from segqa.commands.options import DeviceOption, RuntimeOption
from segqa.commands.results import check_weights_name, spare_inputs


def calibrate_weights(
    weights: Annotated[Path, typer.Argument(help="Weights file of `segqa train`; it is written anew.", exists=True)],
    prepared: Annotated[list[Path], typer.Argument(help="The folders that it was trained on.", exists=True)],
    stand_in: Annotated[
        list[Path] | None,
        typer.Option(help="Weights trained alike without some data sets, to judge these; repeatable.", exists=True),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="Data set that was not learnt from, where a card does not tell; repeatable."),
    ] = None,
    level: Annotated[float, typer.Option(help="How often an interval shall hold the true score, 0..1.")] = 0.9,
    masks: Annotated[int, typer.Option(min=100, help="Masks to judge, and to look at for novelty.")] = 1200,
    seed: Annotated[int, typer.Option(min=0, help="Of the masks that are drawn.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File to write instead.")] = None,
    runtime: RuntimeOption = "auto",
    device: DeviceOption = "auto",
) -> None:
    """Measure how far an evaluator is off where it has not learnt, and store it in the weights file.

    Judged are the data sets that it never saw (`segqa train --leave-out`), or else the held-out groups.

    For example:

    segqa calibrate-weights weights/mine.safetensors prepared

    segqa calibrate-weights weights/mine.safetensors prepared --stand-in without-ct.safetensors
    """
    from segqa.data.files import check_writable, write_whole
    from segqa.quality.calibration import write_calibration
    from segqa.quality.library import read_library
    from segqa.quality.residuals import calibrate, make_fold
    from segqa.quality.scoring import load_evaluator

    spare_inputs(out, *(stand_in or ()))
    target = out or weights
    check_weights_name(target)
    check_writable(target)
    library = read_library(prepared)
    evaluator, *others = (load_evaluator(path, runtime=runtime, device=device) for path in (weights, *(stand_in or ())))
    own, *theirs = (make_fold(judge, library, leave_out or ()) for judge in (evaluator, *others))
    calibration = calibrate(evaluator, own.seen, theirs or [own], level=level, n_masks=masks, seed=seed)
    write_calibration(weights, calibration, target)
    graph, copy = weights.with_suffix(".onnx"), target.with_suffix(".onnx")
    if target != weights and graph.is_file():
        write_whole(copy, lambda file: file.write(graph.read_bytes()))
    for head, interval in calibration.intervals.items():
        console.result(f"{target} written: {head}: {interval.describe()}; groups are {calibration.about['groups']}")
