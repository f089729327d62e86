"""`segqa train`: learn to judge masks from prepared records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segqa import console
from segqa.commands.options import DeviceOption, SeedOption
from segqa.commands.results import check_weights_name, hand_over_weights, spare_inputs
from segqa.errors import InputError


def train(
    prepared: Annotated[list[Path], typer.Argument(help="Folders of `segqa prepare`.", exists=True)],
    out: Annotated[Path, typer.Option(help="Weights file to write: NAME.safetensors.")],
    recipe: Annotated[
        Literal["segqa", "corruptions", "evanyseg"],
        typer.Option(
            help="segqa: the default. corruptions: corrupted references, and masks of wrong boxes. "
            "evanyseg: the paper's ψ, loss and exact-box masks only."
        ),
    ] = "segqa",
    backbone: Annotated[
        str, typer.Option(help="Any timm backbone; tf_efficientnet_lite2 is the shipped weights'.")
    ] = "tf_efficientnet_lite0",
    heads: Annotated[str, typer.Option(help="What to predict: dice, or dice,hd95.")] = "dice",
    size: Annotated[int | None, typer.Option(help="Side of the input, in pixels.", show_default="the recipe's")] = None,
    examples: Annotated[int, typer.Option(min=1, help="Examples shown in all.")] = 100_000,
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Pause after so many, in mid-schedule; --resume goes on.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=2, help="Examples an update; small ones learn more from as many.")
    ] = 16,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    initial: Annotated[Path | None, typer.Option(help="Weights file to start from.", exists=True)] = None,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Data set to validate on instead of held-out groups; repeatable.")
    ] = None,
    patience: Annotated[
        int, typer.Option(min=0, help="End after so many validations in a row without a better one; 0: never.")
    ] = 0,
    licence: Annotated[str, typer.Option(help="Licence of the weights, as the data allow it.")] = "not stated",
    seed: SeedOption = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make examples.")] = 1,
    device: DeviceOption = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], typer.Option(help="auto: bf16 where the device computes in it itself.")
    ] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the state beside --out.")] = False,
) -> None:
    """Train a quality network; the state beside --out allows going on after a kill.

    For example:

    segqa train prepared --out weights/mine.safetensors --examples 200000

    segqa train prepared --out paper.safetensors --recipe evanyseg --backbone vit_base_patch16_224
    """
    from segqa.runtime import require_training

    require_training("segqa train")
    check_weights_name(out)
    spare_inputs(out, initial)
    from segqa.devices import choose_device, computes_in_bfloat16
    from segqa.quality.finishing import is_finished, train_to_file
    from segqa.quality.library import read_library
    from segqa.quality.parallel import join
    from segqa.quality.recipes import make_recipe
    from segqa.quality.training import Trainer

    is_first = join() == 0
    if not is_first:
        console.set_quiet(True)  # the first process speaks for all
    chosen = make_recipe(recipe, backbone=backbone, heads=tuple(heads.split(",")), size=size)
    place = choose_device(device)
    plan = chosen.plan(
        examples=examples,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        seed=seed,
        workers=workers,
        device=str(place),
        bfloat16=computes_in_bfloat16(place) if precision == "auto" else precision == "bf16",
    )
    library = read_library(prepared, leave_out=leave_out or ())
    counts = library.counts()
    console.note(f"{sum(counts.values())} records of {len(counts)} data sets, {len(library.validation)} to validate")
    if not library.validation:
        _tell_unvalidated(patience, aloud=is_first)
    trainer = Trainer(library.training, library.validation, chosen.spec, plan, mixture=chosen.mixture, initial=initial)
    if resume and is_finished(trainer, out):
        console.note(f"{out}: this training is finished already; without --resume it begins anew")
        return
    steps = train_to_file(
        trainer, out, recipe=recipe, counts=counts, licence=licence, resume=resume, stop_after=stop_after
    )
    for progress in steps:
        console.note(progress.line(plan.examples))
    if trainer.rank == 0:
        hand_over_weights(out)


def _tell_unvalidated(patience: int, *, aloud: bool) -> None:
    """Warn that nothing will tell how good the network is; refuse what would have no effect."""
    fact = "no group of the records is held out to validate with"
    remedy = "name a data set with --leave-out, or prepare more groups (patients, volumes)"
    if patience:
        msg = f"--patience {patience}: {fact}, so it would never end the training; {remedy}"
        raise InputError(msg)
    if aloud:
        console.warn(f"{fact}: the loss alone tells how the training goes; {remedy}")
