"""What `segqa prepare` does: a labelled data set and segmenters in, shards and two tables out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from segqa.data.box_lookup import Boxes, BoxLookup
from segqa.data.boxes import case_key, read_boxes
from segqa.data.files import files_below
from segqa.data.layouts.dataset import Dataset, Finding, LabelledCase, read_labelled
from segqa.data.layouts.described import with_groups
from segqa.data.layouts.registry import LAYOUTS, choose_layout
from segqa.data.masks import read_mask
from segqa.data.reading import Reading
from segqa.data.subsets import spread
from segqa.data.types import LabelMap, PromptBox, Source
from segqa.errors import InputError
from segqa.journal import stamp_files
from segqa.quality.preparation import LabelledImage, Settings, prepare_shards
from segqa.quality.records import read_rows, read_skipped
from segqa.schema import RECORD_SCHEMA, SKIPPED_SCHEMA
from segqa.segmenters.precomputed import PredictionFolder, open_predictions
from segqa.workers import Workers

if TYPE_CHECKING:
    from segqa.segmenters.base import Segmenter

RECORDS, SKIPPED = "records.csv", "skipped.csv"

SHARING = 2
"""Way in which objects of a class share its predicted mask: as in `segqa score`. Folders of another have no number."""


@dataclass(frozen=True, slots=True)
class PreparePlan:
    """Everything that is known before the first image is read."""

    dataset: Dataset
    cases: Mapping[str, LabelledCase]
    """The cases to prepare by name, in order."""
    layout: str
    why: str
    settings: Settings
    reading: Reading
    predictions: tuple[PredictionFolder, ...] = ()
    boxes: Mapping[str, tuple[PromptBox, ...]] = field(default_factory=dict)
    unused_boxes: tuple[str, ...] = ()
    """Cases of the boxes that the data set does not have."""

    @property
    def origin(self) -> dict[str, Any]:
        """Return what the records depend on beside cases, segmenters and settings."""
        return {
            "dataset": self.dataset.name,
            "groups": [case.group for case in self.cases.values()],
            "predictions": [[folder.name, str(folder.folder.resolve()), SHARING] for folder in self.predictions],
            "axes": sorted({case.image.axis for case in self.cases.values()}),  # slices have the same names along each
            "boxes": repr(self.boxes),
            "reading": [self.reading.window, self.reading.nan],
        }

    def inputs(self) -> dict[str, str]:
        """Return, by case, a text that changes when a file does that it is read from (size or time)."""

        @cache  # all slices of a volume are of the same files
        def stamp(path: Path) -> str:
            return stamp_files(files_below([path.resolve()]))

        return {name: " ".join(stamp(path) for path in self._files(case)) for name, case in self.cases.items()}

    def _files(self, case: LabelledCase) -> tuple[Path, ...]:
        predictions = (folder.files[_file_key(folder, case)] for folder in self.predictions)
        return case.image.path, *case.truth_files, *predictions


def plan_prepare(
    images: Path,
    truth: Path | None,
    *,
    settings: Settings,
    reading: Reading,
    layout: str = "auto",
    finding: Finding | None = None,
    predictions: Mapping[str, Path] | None = None,
    boxes: Path | None = None,
    groups: Path | None = None,
    name: str | None = None,
    max_cases: int | None = None,
) -> PreparePlan:
    """Find everything and refuse what cannot work, before the first slow step.

    Args:
        images: Images, or a whole data set.
        truth: References; `None` when the layout brings both.
        settings: What is made of each object; `components` is dropped where each label is one object already.
        reading: How files become pixels.
        layout: Name of a layout, or `auto`.
        finding: How files are looked for.
        predictions: Folders of masks of models without prompts, by the model's name.
        boxes: File of prompt boxes.
        groups: JSON of case -> group.
        name: The data set's name instead of the layout's.
        max_cases: Take this many, evenly spaced over the sorted names.

    Raises:
        InputError: A path is missing, no layout fits, files lack a partner, two cases have one name, or a case lacks a
            prediction.
    """
    chosen, why = choose_layout(images, truth, wanted=layout)
    dataset = LAYOUTS[chosen].read(images, truth, finding or Finding())
    dataset = replace(dataset, name=name or dataset.name)
    if groups is not None:
        dataset = with_groups(dataset, groups)
    cases = _take_cases(dataset, images, max_cases)
    if dataset.has_instances:
        settings = replace(settings, components=False)
    folders = _open_folders(predictions or {}, cases, dataset)
    given = {} if boxes is None else read_boxes(boxes)
    found, unused = _find_boxes(given, dataset)
    used = {key: found[key] for key in cases if key in found}
    if boxes is not None and not used:
        msg = f"{boxes.name}: no box belongs to a case; cases are named such as {next(iter(cases))}"
        raise InputError(msg)
    return PreparePlan(dataset, cases, chosen, why, settings, reading, folders, used, unused)


def _take_cases(dataset: Dataset, images: Path, max_cases: int | None) -> dict[str, LabelledCase]:
    cases = {case.name: case for case in sorted(dataset.cases, key=lambda case: case.name)}
    if len(cases) < len(dataset.cases):
        msg = f"{images}: {len(dataset.cases) - len(cases)} cases have the name of another; rename them"
        raise InputError(msg)
    if not cases:
        msg = f"{images}: no case with a reference; nothing to prepare"
        raise InputError(msg)
    return {key: cases[key] for key in spread(list(cases), max_cases)}


def _open_folders(
    predictions: Mapping[str, Path], cases: Mapping[str, LabelledCase], dataset: Dataset
) -> tuple[PredictionFolder, ...]:
    folders = tuple(open_predictions(name, path) for name, path in predictions.items())
    for folder in folders:
        folder.check_complete(_file_key(folder, case) for case in cases.values())
    if folders and 0 in dataset.labels:
        msg = f"--predictions: class 0 ({dataset.labels[0]}) is the background of a label map; renumber the categories"
        raise InputError(msg)
    return folders


def _find_boxes(given: Boxes, dataset: Dataset) -> tuple[dict[str, tuple[PromptBox, ...]], tuple[str, ...]]:
    """Return the boxes of a file by case, as `segqa score` finds them, and the keys that belong to no case."""
    images = {_image_key(case): case.image for case in dataset.cases}
    channels = {key: f"{Path(key).name}_0000" for key in images}  # nnU-Net's first; the case is named without it
    aliases = {key: f"{key}_0000" for key, image in images.items() if case_key(image.path.name) == channels[key]}
    lookup = BoxLookup(given, images, aliases)
    found = {}
    for case in dataset.cases:
        key, index = _image_key(case), case.image.slice_index
        whole = lookup.of_image(key)
        own = () if index is None else lookup.of_slice(key, index)
        if own or whole is not None:
            found[case.name] = own or whole or ()
    return found, lookup.unused


def _image_key(case: LabelledCase) -> str:
    """Return the name of a case's image: of a slice, that of its volume."""
    return case.name if case.image.slice_index is None else case.name.rpartition(":")[0]


def run_prepare(
    plan: PreparePlan,
    segmenters: Sequence[Segmenter],
    out: Path,
    *,
    origin: Mapping[str, Any] | None = None,
    workers: Workers | None = None,
) -> Iterator[int]:
    """Write the shards that are missing and yield the number of records of each case.

    A case whose files changed since, or that could not be read, is prepared anew.

    Args:
        plan: What to prepare.
        segmenters: Who proposes masks.
        out: Folder to write; the same call goes on where a killed one stopped.
        origin: What else the records depend on, such as the precision.
        workers: Who prepares the cases; by default this process, one after the other.

    Raises:
        InputError: The folder holds another preparation, or a file cannot be read.
    """
    for half_written in out.glob(".*.part"):
        half_written.unlink()
    yield from prepare_shards(
        list(plan.cases),
        partial(load_case, plan),
        segmenters,
        out,
        settings=plan.settings,
        origin={**plan.origin, **(origin or {})},
        inputs=plan.inputs(),
        on_error=plan.reading.on_error,
        workers=workers,
    )


def load_case(plan: PreparePlan, name: str) -> LabelledImage:
    """Return the pixels of one case of the plan.

    Raises:
        InputError: A file cannot be read, or sizes differ.
    """
    case = plan.cases[name]
    image, truth = read_labelled(case, plan.reading)
    size = truth.labels.shape
    return LabelledImage(
        case=name,
        group=case.group,
        dataset=plan.dataset.name,
        image=image,
        truth=truth.labels,
        predictions={folder.name: _read_prediction(folder, case, size) for folder in plan.predictions},
        objects=truth.objects,
        boxes=plan.boxes.get(name, case.boxes),
        label_names=plan.dataset.labels,
    )


def _file_key(folder: PredictionFolder, case: LabelledCase) -> str:
    """Return the stem of the file with a case's prediction: of a slice, that of its volume."""
    return case.name if case.name in folder.files else _image_key(case)


def _read_prediction(folder: PredictionFolder, case: LabelledCase, size: tuple[int, ...]) -> LabelMap:
    key = _file_key(folder, case)
    if key == case.name:
        return folder.read(key, size=(size[0], size[1]))
    source = Source(folder.files[key], case.image.slice_index, case.image.axis)
    labels = cast(LabelMap, read_mask(source).pixels)
    if labels.shape != size:
        msg = f"{source}: {labels.shape} where {size} was expected; predict at the image's size"
        raise InputError(msg)
    return labels


def read_tables(plan: PreparePlan, out: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what the shards of a finished run hold, as `RECORD_SCHEMA`, and what was skipped, as `SKIPPED_SCHEMA`.

    Raises:
        InputError: A shard is damaged.
    """
    names = {str(value): name for value, name in plan.dataset.labels.items()}
    common = {"dataset": plan.dataset.name, "split": plan.dataset.split}
    records: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = [
        {**common, "case": gone.case, "object": gone.object, "reason": gone.reason} for gone in plan.dataset.left_out
    ]
    for shard in sorted(out.glob("shard-*.safetensors")):
        for row in read_rows(shard):
            label = names.get(row["label"], row["label"])
            shared = {key: row[key] for key in ("case", "group", "object")} | common | {"label": label}
            records += [shared | _candidate_row(candidate) for candidate in row["candidates"]]
        skipped += [row | common | {"label": names.get(row["label"], row["label"])} for row in read_skipped(shard)]
    empty = dict.fromkeys(SKIPPED_SCHEMA, "")
    return (
        pl.DataFrame(records, schema=RECORD_SCHEMA),
        pl.DataFrame([{key: (empty | row)[key] or None for key in empty} for row in skipped], schema=SKIPPED_SCHEMA),
    )


def _candidate_row(candidate: Mapping[str, Any]) -> dict[str, Any]:
    true = {"true_dice": "dice", "true_hd_px": "hd_px", "true_hd95_px": "hd95_px", "true_jaccard": "jaccard"}
    plain = {key: candidate[key] for key in ("source", "prompt", "confidence")}
    box: dict[str, Any] = candidate["image_box"]
    return plain | box | {name: candidate[key] for name, key in true.items()}


def summarise(records: pl.DataFrame) -> pl.DataFrame:
    """Return, per source and prompt, how many masks there are, and mean and spread of their Dice."""
    dice = pl.col("true_dice")
    return (
        records.group_by("source", "prompt", maintain_order=True)
        .agg(
            n=pl.len(),
            mean_dice=dice.mean(),
            sd_dice=dice.std(ddof=0),
            p10_dice=dice.quantile(0.1, "linear"),
            p90_dice=dice.quantile(0.9, "linear"),
        )
        .sort("source", "prompt")
    )
