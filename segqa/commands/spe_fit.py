"""`segqa spe-fit`: learn what pseudo performance says about real performance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segqa import console
from segqa.commands.options import RayOption, SeedOption
from segqa.commands.results import keep_apart, spare_inputs


def spe_fit(
    train_images: Annotated[Path, typer.Option(help="Images that the models were trained on.")],
    train_masks: Annotated[Path, typer.Option(help="Their true masks.")],
    test_images: Annotated[Path, typer.Option(help="Labelled images that no model was trained on.")],
    test_masks: Annotated[Path, typer.Option(help="Their true masks.")],
    predictions: Annotated[
        Path, typer.Option(help="Masks of the test images: one sub-folder for each checkpoint or model.")
    ],
    out: Annotated[Path, typer.Option(help="The bundle to write.")] = Path("spe.bundle"),
    engine: Annotated[Literal["readout", "universeg"], typer.Option(help="In-context segmenter.")] = "readout",
    engine_weights: Annotated[Path | None, typer.Option(help="UniverSeg's weights file.")] = None,
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="Of UniverSeg; bf16 is not exact.")] = "fp32",
    device: Annotated[str, typer.Option(help="Of UniverSeg: auto, cpu, cuda, mps.")] = "auto",
    mapping: Annotated[
        Literal["auto", "linear", "quadratic", "log", "isotonic"],
        typer.Option(help="Kind of mapping; auto takes the least leave-one-out error, metric by metric."),
    ] = "auto",
    support_size: Annotated[int, typer.Option(min=1, help="Pairs in a support set, at most.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Random support sets for each model.")] = 6,
    every_draw: Annotated[
        bool, typer.Option("--every-draw", help="Query each training image with every support set (slower).")
    ] = False,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="Stop querying when the pseudo Dice is known to +- this.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Write the figures of the mappings there.")] = None,
    seed: SeedOption = 0,
    ray: RayOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the journal beside --out.")] = False,
) -> None:
    """Fit the estimator of a model's performance and write it into one file.

    For example:

    segqa spe-fit --train-images train/images --train-masks train/masks --test-images test/images
    --test-masks test/masks --predictions test/predictions --out spe.bundle
    """
    from segqa.data.files import check_writable
    from segqa.journal import remove_journal
    from segqa.spe import fitting
    from segqa.spe.bundle import save_bundle
    from segqa.spe.engines import create_engine
    from segqa.workers import join_cluster

    spare_inputs(out, engine_weights)
    keep_apart(out, folder=plots)
    chosen = create_engine(engine, weights=engine_weights, precision=precision, device=device)
    if chosen.notice:
        console.note(chosen.notice)
    place = "cpu"
    if engine == "universeg":
        from segqa.devices import bfloat16_remark, choose_device

        where = choose_device(device)
        place = str(where)
        if precision == "bf16" and (remark := bfloat16_remark(where)):
            console.warn(remark)
    check_writable(out)
    if plots is not None:
        from segqa.spe.plots import check_plots

        check_plots(plots)
    journal = out.with_name(out.name + ".journal")
    bundle = fitting.fit_bundle(
        chosen,
        (train_images, train_masks),
        (test_images, test_masks),
        predictions,
        options=fitting.FitOptions(support_size, repeats, every_draw, tolerance, mapping, seed),
        journal=journal,
        resume=resume,
        watch=console.progress,
        count=lambda measured, total: console.progress(measured, description="measuring models", total=total),
        warn=console.warn,
        workers=None if ray is None else join_cluster(ray, device=place),
    )
    save_bundle(bundle, out)
    remove_journal(journal)
    title = f"{len(bundle.settings.models)} models, {bundle.settings.n_test} test images, leave-one-out"
    console.table(fitting.mapping_table(bundle), title=title)
    if plots is not None:
        from segqa.spe.plots import save_plots

        console.note(f"{len(save_plots(bundle, plots))} figures written to {plots}")
    console.note(f"bundle written to {out}")
