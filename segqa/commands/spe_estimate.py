"""`segqa spe-estimate`: what a model is worth on images without labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from segqa import console
from segqa.commands.results import spare_inputs
from segqa.errors import GateError


def spe_estimate(
    bundle: Annotated[Path, typer.Option(help="File that `segqa spe-fit` wrote.")],
    images: Annotated[Path, typer.Option(help="Images without labels.")],
    predictions: Annotated[Path, typer.Option(help="The model's masks of these images.")],
    fail_under: Annotated[
        list[str] | None,
        typer.Option(help="Exit with 3 when the lower bound is less: dice=0.85; repeatable."),
    ] = None,
    fail_over: Annotated[
        list[str] | None,
        typer.Option(help="Exit with 3 when the upper bound is more: hd95=10; repeatable."),
    ] = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Level of the intervals.")] = 0.9,
    engine_weights: Annotated[Path | None, typer.Option(help="UniverSeg's weights file.")] = None,
    device: Annotated[str, typer.Option(help="Of UniverSeg: auto, cpu, cuda, mps.")] = "auto",
    file_format: Annotated[Literal["table", "json"], typer.Option("--format", help="What to print.")] = "table",
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit report of the gates.")] = None,
) -> None:
    """Estimate a model's performance on unlabelled images, with an interval for each metric.

    For example:

    segqa spe-estimate --bundle spe.bundle --images new/images --predictions new/masks
    --fail-under dice=0.85 --fail-over hd95=10
    """
    from segqa.output import estimate_ci
    from segqa.spe import estimating, gating
    from segqa.spe.bundle import load_bundle
    from segqa.spe.engines import create_engine
    from segqa.spe.readout import Readout

    spare_inputs(junit, bundle, engine_weights, images, predictions)
    under, over = gating.parse_gates(fail_under or [], "under"), gating.parse_gates(fail_over or [], "over")
    fitted = load_bundle(bundle)
    settings = fitted.settings
    precision = settings.engine_settings.get("precision", "fp32")
    engine = create_engine(settings.engine, weights=engine_weights, precision=precision, device=device)
    if engine.notice:
        console.note(engine.notice)
    found = estimating.estimate(
        fitted,
        engine,
        images,
        predictions,
        embedder=engine if isinstance(engine, Readout) else Readout(),
        level=level,
        watch=console.progress,
    )
    if file_format == "json":
        console.result(json.dumps(found.as_json(), indent=2, allow_nan=False))
    else:
        unknown, share = "novelty unknown: all training images are of one patient or volume", found.novel_share
        novelty = unknown if share is None else f"{share:.0%} of the images novel"
        title = f"{found.n_images} images, {level:.0%} intervals, {novelty}"
        console.table(gating.estimate_table(found), title=title)
    for warning in found.warnings:
        console.warn(warning)
    gates = gating.check_gates(found, under=under, over=over)
    if junit is not None:
        estimate_ci.write_junit(gates, junit)
    for line in estimate_ci.github_lines(found, gates):
        console.annotate(line)
    broken = [gate.sentence for gate in gates if gate.is_broken]
    if broken:
        raise GateError("; ".join(broken))
