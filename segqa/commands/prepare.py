"""`segqa prepare`: images and references become training records, with the mistakes of real segmenters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segqa import console
from segqa.commands.options import (
    AllowMissingOption,
    AxisOption,
    BoxesOption,
    DeviceOption,
    NanOption,
    RayOption,
    SeedOption,
    WindowOption,
    parse_named,
)
from segqa.commands.results import spare_inputs
from segqa.errors import ExitCode, InputError

if TYPE_CHECKING:
    import polars as pl

    from segqa.prepared import PreparePlan
    from segqa.segmenters.base import Segmenter


def prepare(
    images: Annotated[Path, typer.Argument(help="Images: a folder or file; or a whole data set.")],
    truth: Annotated[
        Path | None, typer.Argument(help="Reference masks; left out when the data set brings them.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write; the same call goes on after a kill.")] = Path("prepared"),
    segmenter: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME=CHECKPOINT, repeatable; none: no segmenter.", show_default="litemedsam"),
    ] = None,
    predictions: Annotated[
        list[str] | None, typer.Option(help="NAME=DIR: masks that a model made already; repeatable.")
    ] = None,
    corruptions: Annotated[int, typer.Option(min=0, help="Spoilt references per object.")] = 0,
    box_jitter: Annotated[
        list[float] | None,
        typer.Option(
            min=0, max=1, help="Share of the side that a box's edges move; repeatable.", show_default="0.1 0.25"
        ),
    ] = None,
    wrong_boxes: Annotated[int, typer.Option(min=0, help="Boxes on a wrong place, per object.")] = 1,
    boxes: BoxesOption = None,
    points: Annotated[bool, typer.Option("--points", help="Also prompt with the object's centre point.")] = False,
    layout: Annotated[str, typer.Option(help="How the data set lies on the disk; see the docs.")] = "auto",
    groups: Annotated[Path | None, typer.Option(help="JSON of case -> patient or volume.", exists=True)] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the data set.", show_default="its folder's")] = None,
    min_side: Annotated[int, typer.Option(min=1, help="Leave out objects with a smaller box, in pixels.")] = 16,
    max_objects: Annotated[int, typer.Option(min=1, help="Objects of one image at most, drawn at random.")] = 8,
    side: Annotated[int, typer.Option(min=32, help="Longest side of a record in pixels; larger crops shrink.")] = 320,
    max_cases: Annotated[int | None, typer.Option(min=1, help="Take only so many cases, evenly spaced.")] = None,
    components: Annotated[bool, typer.Option("--components", help="Large parts of a label are objects too.")] = False,
    window: WindowOption = None,
    axis: AxisOption = -1,
    nan: NanOption = "error",
    allow_missing: AllowMissingOption = False,
    on_error: Annotated[
        Literal["stop", "skip"], typer.Option(help="skip: a case that cannot be read becomes a row; exit with 4.")
    ] = "stop",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Encode in half precision: faster, edges of masks differ.")
    ] = False,
    ray: RayOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
) -> None:
    """Let segmenters make mistakes on labelled images, and keep them as training records for `segqa train`.

    For example:

    segqa prepare images masks --out prepared/mine

    segqa prepare dataset --segmenter litemedsam --segmenter sam-vit-b=sam_vit_b_01ec64.pth --points

    segqa prepare images masks --predictions unet=results/unet --corruptions 2
    """
    from segqa.data.layouts.dataset import Finding
    from segqa.data.reading import Reading
    from segqa.prepared import RECORDS, SKIPPED, plan_prepare, run_prepare
    from segqa.quality.preparation import Settings
    from segqa.workers import join_cluster

    for name in (RECORDS, SKIPPED):
        spare_inputs(out / name, images, boxes, groups)
    plan = plan_prepare(
        images,
        truth,
        settings=Settings(
            side=side,
            min_side=min_side,
            max_objects=max_objects,
            components=components,
            jitters=_jitters(box_jitter),
            wrong=wrong_boxes,
            seed=seed,
            points=points,
            corruptions=corruptions,
        ),
        reading=Reading(window=window, nan=nan, on_error=on_error),
        layout=layout,
        finding=Finding(axis=axis, allow_missing=allow_missing),
        predictions=parse_named(predictions or ()),
        boxes=boxes,
        groups=groups,
        name=dataset,
        max_cases=max_cases,
    )
    specs = [spec for spec in segmenter or ["litemedsam"] if spec != "none"]
    if points and not specs:
        msg = "--points: there is no segmenter to prompt; add --segmenter with a SAM, MedSAM or SAM-Med2D"
        raise InputError(msg)
    _check_sources(plan, specs)
    _announce(plan, components=components)
    if boxes is not None and not specs:
        console.warn("--boxes has no effect: there is no segmenter to prompt")
    if dry_run:
        console.result(_dry_text(plan, specs, out))
        return
    place = _choose_place(specs, device, bfloat16=bfloat16)
    segmenters = _load_segmenters(specs, place, bfloat16=bfloat16, points=points)
    origin = {"checkpoints": [_identify(spec) for spec in specs], "bfloat16": bfloat16}
    workers = None if ray is None else join_cluster(ray, device=place)
    counts = run_prepare(plan, segmenters, out, origin=origin, workers=workers)
    for _ in console.progress(counts, description="cases prepared", total=len(plan.cases)):
        pass
    _finish(plan, out)


def _identify(spec: str) -> str:
    """Return a segmenter as a fingerprint knows it: with the content of its checkpoint, whatever the file is called."""
    from segqa.weights import hash_file

    name, _, checkpoint = spec.partition("=")
    return f"{name}={hash_file(Path(checkpoint))}" if checkpoint else name


def _jitters(shares: list[float] | None) -> tuple[float, ...]:
    """Return the shares of jittered boxes; `--box-jitter 0` asks for exact boxes only."""
    from segqa.quality.preparation import Settings

    return Settings().jitters if shares is None else tuple(share for share in shares if share > 0)


def _check_sources(plan: PreparePlan, specs: list[str]) -> None:
    """Refuse unknown segmenters, and sources of one name, which no table could tell apart."""
    from segqa.quality.records import CORRUPTION, OTSU
    from segqa.segmenters.registry import segmenter_name

    names = [OTSU, CORRUPTION, *(segmenter_name(spec) for spec in specs), *(one.name for one in plan.predictions)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        msg = f"{twice}: two sources of this name; rename the predictions, or prepare into two folders"
        raise InputError(msg)


def _announce(plan: PreparePlan, *, components: bool) -> None:
    """Say on stderr what was found, and what the user should know about it."""
    from segqa.data.cases import remark_unused

    found = plan.dataset
    console.note(f"layout {plan.layout}: {plan.why}")
    console.note(f"{found.name}: {len(plan.cases)} of {len(found.cases)} cases are taken")
    if found.empty_slices:
        console.note(f"{found.empty_slices} slices without foreground are no cases")
    if found.left_out:
        console.warn(f"{len(found.left_out)} files or objects are left out; skipped.csv says why")
    if plan.unused_boxes:
        console.warn(remark_unused(plan.unused_boxes))
    if found.split == "test":
        console.warn(f"{found.name} is a test set by its dataset.json: measure on it, never train or tune on it")
    if components and found.has_instances:
        console.note("--components has no effect: each label is one object already")


def _dry_text(plan: PreparePlan, specs: list[str], out: Path) -> str:
    from segqa.quality.records import CORRUPTION, OTSU

    sources = [*specs, *(folder.name for folder in plan.predictions), OTSU]
    sources += [CORRUPTION] if plan.settings.corruptions else []
    groups = len({case.group for case in plan.cases.values()})
    return f"{len(plan.cases)} cases in {groups} groups would be prepared with {', '.join(sources)} into {out}"


def _load_segmenters(specs: list[str], place: str, *, bfloat16: bool, points: bool) -> list[Segmenter]:
    """Load the segmenters, and refuse before the first image what they cannot do."""
    from segqa.segmenters.registry import load_segmenter

    loaded = [load_segmenter(spec, device=place, bfloat16=bfloat16) for spec in specs]
    if points and not any(one.takes_points for one in loaded):
        msg = f"--points: {', '.join(one.name for one in loaded)} takes boxes only; add a SAM, MedSAM or SAM-Med2D"
        raise InputError(msg)
    return loaded


def _choose_place(specs: list[str], device: str, *, bfloat16: bool) -> str:
    """Return where the segmenters compute, and say what half precision does there."""
    from segqa.runtime import require_torch
    from segqa.segmenters.registry import CLASSICAL, segmenter_extra, segmenter_name

    networks = [spec for spec in specs if segmenter_name(spec) not in CLASSICAL]
    if not networks:
        return "cpu"
    for spec in networks:
        require_torch(f"--segmenter {segmenter_name(spec)}", extra=segmenter_extra(spec))
    from segqa.devices import bfloat16_remark, choose_device

    place = choose_device(device)
    if bfloat16:
        console.note("bfloat16: the edges of masks differ a little from those in full precision")
        if remark := bfloat16_remark(place):
            console.warn(remark)
    return str(place)


def _finish(plan: PreparePlan, out: Path) -> None:
    """Write the tables, print the summary, and end with 4 when a case could not be read."""
    from segqa.output.tables import write_table
    from segqa.prepared import RECORDS, SKIPPED, read_tables, summarise
    from segqa.schema import TableName

    records, skipped = read_tables(plan, out)
    write_table(records, out / RECORDS, schema=TableName.RECORDS)
    write_table(skipped, out / SKIPPED, schema=TableName.SKIPPED)
    objects = records.select("case", "object").n_unique()
    console.table(summarise(records), title=f"True Dice of {records.height} masks of {objects} objects in {out}")
    if records.is_empty():
        console.warn(f"no object was prepared; {out / SKIPPED} says why")
    elif skipped.height:
        console.note(f"{skipped.height} rows in {out / SKIPPED} say what was left out and why")
    n_failed = _count_failed(skipped)
    if n_failed:
        console.warn(f"{n_failed} cases could not be read; see {out / SKIPPED}")
        raise typer.Exit(ExitCode.PARTIAL)


def _count_failed(skipped: pl.DataFrame) -> int:
    from segqa.quality.preparation import UNREADABLE

    return int(skipped["reason"].str.starts_with(UNREADABLE).sum())
