"""Column names and types of every table, in one place: code, tests and documentation import them.

Distances carry their unit in the name (`_px`, `_mm`). Scores are in 0..1; an empty cell means "not available".
"""

from enum import StrEnum

import polars as pl

SCHEMA_VERSION = 1


class TableName(StrEnum):
    """Name of a kind of table, which JSON and Parquet carry beside the version."""

    SCORES = "segqa.scores"
    EVALUATION = "segqa.evaluation"
    FLAGS = "segqa.flags"
    SELECTION = "segqa.selection"
    SELECTION_QUALITY = "segqa.selection_quality"
    BENCHMARK = "segqa.benchmark"
    AGREEMENT = "segqa.agreement"
    RECORDS = "segqa.records"
    SKIPPED = "segqa.skipped"


KEY_COLUMNS = ("case", "object", "label", "model")
"""What makes a row unique, and what tables are joined on."""

OBJECT_COLUMNS = KEY_COLUMNS[:-1]
"""What makes an object."""

BOX_COLUMNS = ("x0", "y0", "x1", "y1")
"""The box in pixels of the image, half-open."""

SCORE_SCHEMA: dict[str, pl.DataType] = {
    "case": pl.String(),
    "object": pl.String(),
    "label": pl.String(),
    "model": pl.String(),
    "predicted_dice": pl.Float64(),
    "lower": pl.Float64(),
    "upper": pl.Float64(),
    "predicted_hd95_px": pl.Float64(),
    "lower_hd95_px": pl.Float64(),
    "upper_hd95_px": pl.Float64(),
    "novelty": pl.Float64(),
    "reference_dice": pl.Float64(),
    "x0": pl.Int64(),
    "y0": pl.Int64(),
    "x1": pl.Int64(),
    "y1": pl.Int64(),
    "box_source": pl.String(),
    "status": pl.String(),
    "reason": pl.String(),
}
"""One row per case, object and model. `object` counts from 1 within its label; `label` is the label's value."""

SCORE_COLUMNS = tuple(SCORE_SCHEMA)

TRUTH_SCHEMA: dict[str, pl.DataType] = {
    "case": pl.String(),
    "object": pl.String(),
    "label": pl.String(),
    "model": pl.String(),
    "true_dice": pl.Float64(),
    "true_jaccard": pl.Float64(),
    "true_precision": pl.Float64(),
    "true_recall": pl.Float64(),
    "true_pixel_correlation": pl.Float64(),
    "true_hd_px": pl.Float64(),
    "true_hd95_px": pl.Float64(),
    "true_hd_mm": pl.Float64(),
    "true_hd95_mm": pl.Float64(),
    "status": pl.String(),
    "reason": pl.String(),
}
"""The true metrics that `segqa evaluate` writes beside the same keys."""

RECORD_SCHEMA: dict[str, pl.DataType] = {
    **dict.fromkeys(("case", "group", "dataset", "split", "label", "object", "source", "prompt"), pl.String()),
    **dict.fromkeys(BOX_COLUMNS, pl.Int64()),
    **dict.fromkeys(("true_dice", "true_hd_px", "true_hd95_px", "true_jaccard", "confidence"), pl.Float64()),
}
"""The masks that `segqa prepare` made: one row per object, source and prompt."""

SKIPPED_SCHEMA: dict[str, pl.DataType] = dict.fromkeys(
    ("case", "group", "dataset", "split", "label", "object", "source", "prompt", "reason"), pl.String()
)
"""What `segqa prepare` did not make, one row each; empty cells mean all of it."""

STATUS_OK, STATUS_WARNING, STATUS_ERROR = "ok", "warning", "error"
"""`status` of a row: scored; scored, but look at `reason`; could not be scored."""

BOX_FROM_FILE, BOX_FROM_MASK, BOX_FROM_IMAGE = "file", "mask", "image"
"""`box_source` of a row."""
