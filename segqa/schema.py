"""Column names and types of every table, in one place: code, tests and documentation import them.

Distances carry their unit in the name (`_px`, `_mm`). Scores are in 0..1; an empty cell means "not available".
"""

import polars as pl

SCHEMA_NAME = "segqa.scores"
SCHEMA_VERSION = 1

#: What makes a row unique, and what tables are joined on; without the model, what makes an object.
KEY_COLUMNS = ("case", "object", "label", "model")
OBJECT_COLUMNS = KEY_COLUMNS[:-1]

#: One row per case, object and model. `object` counts from 1 inside a case; `label` is the label's value or name.
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
    "x0": pl.Int64(),
    "y0": pl.Int64(),
    "x1": pl.Int64(),
    "y1": pl.Int64(),
    "box_source": pl.String(),
    "status": pl.String(),
    "reason": pl.String(),
}
SCORE_COLUMNS = tuple(SCORE_SCHEMA)

#: The true metrics that `segqa evaluate` writes beside the same keys.
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

#: `status` of a row: scored; scored, but look at `reason`; could not be scored.
STATUS_OK, STATUS_WARNING, STATUS_ERROR = "ok", "warning", "error"

#: `box_source` of a row.
BOX_FROM_FILE, BOX_FROM_MASK, BOX_FROM_IMAGE = "file", "mask", "image"
