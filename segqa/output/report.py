"""The report: one HTML file that opens from disk, with nothing to load from anywhere.

Needs the extra `report` (jinja2). All rows are counted; only the worst are shown.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from segqa import __version__
from segqa.decisions.benchmarking import benchmark
from segqa.errors import require
from segqa.schema import BOX_COLUMNS, KEY_COLUMNS, STATUS_ERROR, STATUS_OK, STATUS_WARNING
from segqa.statistics import LOW_QUALITY

if TYPE_CHECKING:
    from segqa.data.cases import Cases
    from segqa.data.reading import Reading
    from segqa.data.types import Case
    from segqa.output.overlays import Seen
    from segqa.quality.network import QualityNetwork

DEFAULT_LIMIT = 500
"""Rows that a report shows."""

PICTURE_BYTES = 8_000_000
"""Characters that all pictures of a report may take together: the file stays below 10 MB."""

MAX_PICTURE = 40_000
"""Characters of one picture; more would not be seen."""

MAX_PANELS, MAX_PAIRS = 12, 30
"""Histograms and differences of models that a report shows."""

BINS = 20

Key = tuple[str, str, str, str]
"""Case, object, label and model of a row."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of one object, as data URIs."""

    overlay: str
    errors: str | None = None
    """With the error map."""


def worst_first(scores: pl.DataFrame, limit: int) -> pl.DataFrame:
    """Return the first `limit` rows to look at: those without a score, then by increasing predicted Dice."""
    value = pl.col("predicted_dice").fill_nan(None)
    rank = value.fill_null(-1.0)
    # Sorting a million rows by their names takes long; those that cannot be among the worst are left out first.
    candidates = scores.filter(rank <= rank.bottom_k(limit).max())
    return candidates.sort(value, "case", "label", "object", "model", nulls_last=False).head(limit)


def draw_pictures(
    shown: pl.DataFrame, cases: Cases, reading: Reading, *, network: QualityNetwork | None = None
) -> Iterator[tuple[Key, Pictures]]:
    """Yield the pictures of those rows whose object the files have; a case that cannot be read has none.

    Args:
        shown: Rows of the report.
        cases: Images and masks; only those of the rows are read.
        reading: How `segqa score` read them.
        network: Adds error maps.
    """
    from segqa.output.overlays import draw_errors, draw_overlay, to_data_uri

    each = PICTURE_BYTES // max(1, shown.height * (2 if network else 1))
    budget = min(MAX_PICTURE, each)
    for key, seen in _seen(shown, cases, reading):
        overlay = to_data_uri(draw_overlay(seen.image, seen.one.mask, seen.one.box), max_bytes=budget)
        errors = None if network is None else to_data_uri(draw_errors(seen, network), max_bytes=budget)
        yield key, Pictures(overlay, errors)


def _seen(shown: pl.DataFrame, cases: Cases, reading: Reading) -> Iterator[tuple[Key, Seen]]:
    from segqa.errors import InputError
    from segqa.output.overlays import see_objects

    wanted = set(shown.select(KEY_COLUMNS).iter_rows())
    models: dict[str, set[str]] = {}
    for case, _, _, model in wanted:
        models.setdefault(case, set()).add(model)
    for one in cases:
        for part in _split(one, models.get(one.name, set())):
            try:
                found = see_objects(part, reading)
            except InputError:
                continue
            for seen in found:
                key = (seen.case, seen.one.object, seen.one.label, seen.model)
                if key in wanted:
                    yield key, seen


def _split(case: Case, models: set[str]) -> list[Case]:
    """Return the case once for each model: a broken mask must not cost the others their pictures."""
    return [replace(case, masks={name: source}) for name, source in case.masks.items() if name in models]


def render_report(
    scores: pl.DataFrame,
    *,
    pictures: Mapping[Key, Pictures] | None = None,
    limit: int = DEFAULT_LIMIT,
    source: str = "",
) -> str:
    """Return the report as HTML.

    Args:
        scores: A table of scores, as `tables.read_scores` returns it.
        pictures: Of any of the rows; without them the report is a table.
        limit: Rows to show.
        source: Name of the table, for the heading.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    style, script = ((_TEMPLATES / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    shown = worst_first(scores, limit)
    compared = None if scores.is_empty() else benchmark(scores)
    return _page(
        style=style,
        script=script,
        # The browser runs this script and no other, whatever a case may be called.
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        version=__version__,
        source=source,
        facts=_facts(scores),
        models=[] if compared is None else compared.models.to_dicts(),
        differences=[] if compared is None else compared.differences.head(MAX_PAIRS).to_dicts(),
        n_differences=0 if compared is None else compared.differences.height,
        histograms=_histograms(scores),
        rows=_rows(shown, pictures or {}),
        total=scores.height,
        has=_filled_columns(shown, pictures or {}),
        model_names=sorted(shown["model"].unique().to_list()),
        status_names=[name for name in (STATUS_ERROR, STATUS_WARNING, STATUS_OK) if name in set(shown["status"])],
    )


def _page(*, style: str, script: str, **values: Any) -> str:
    """Return the filled template; everything but our own style and script is escaped."""
    require("jinja2", "the report", extra="report")
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    loader = FileSystemLoader(_TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_finalize)
    return environment.get_template("report.html").render(style=Markup(style), script=Markup(script), **values)


def _finalize(value: Any) -> Any:
    """Show what HTML cannot hold as a sign for it."""
    return _CONTROL.sub("\ufffd", value) if type(value) is str else value


def _facts(scores: pl.DataFrame) -> list[tuple[str, str]]:
    """Return names and values of the tiles at the top."""
    dice = scores["predicted_dice"].fill_nan(None).drop_nulls()
    low = int((dice < LOW_QUALITY).sum())
    facts = [
        ("objects", f"{scores.height:,}"),
        ("cases", f"{scores['case'].n_unique():,}"),
        ("models", f"{scores['model'].n_unique():,}"),
        ("mean predicted Dice", "–" if dice.is_empty() else f"{np.mean(dice.to_numpy()):.3f}"),
        (f"predicted below {LOW_QUALITY:g}", f"{low:,} ({100 * low / max(dice.len(), 1):.0f} %)"),
        ("with a remark", f"{scores.filter(status=STATUS_WARNING).height:,}"),
        ("not scored", f"{scores.height - dice.len():,}"),
    ]
    return [(name, value.replace(",", "\u202f")) for name, value in facts]


def _histograms(scores: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the numbers of objects in `BINS` bins of predicted Dice; all models in one when they are many."""
    parts = {part["model"][0]: part for part in scores.partition_by("model")} if scores.height else {}
    if len(parts) > MAX_PANELS:
        parts = {f"all {len(parts)} models": scores}
    panels = []
    for name, part in sorted(parts.items()):
        dice = part["predicted_dice"].fill_nan(None).drop_nulls().to_numpy()
        counts = np.histogram(dice.clip(0, 1), bins=BINS, range=(0, 1))[0]
        panels.append(
            {
                "name": name,
                "n": int(counts.sum()),
                "n_low": int((dice < LOW_QUALITY).sum()),
                "counts": counts.tolist(),
                "heights": (counts / max(int(counts.max()), 1)).round(4).tolist(),
            }
        )
    return panels


def _rows(shown: pl.DataFrame, pictures: Mapping[Key, Pictures]) -> list[dict[str, Any]]:
    rows = shown.fill_nan(None).to_dicts()
    for row in rows:
        row["pictures"] = pictures.get((row["case"], row["object"], row["label"], row["model"]))
        corners = [row[name] for name in BOX_COLUMNS]
        row["box"] = None if None in corners else ", ".join(map(str, corners))
    return rows


def _filled_columns(shown: pl.DataFrame, pictures: Mapping[Key, Pictures]) -> dict[str, bool]:
    """Tell which columns have something to show."""
    names: Sequence[str] = (
        "lower",
        "reference_dice",
        "novelty",
        "predicted_hd95_px",
        "x0",
        "reason",
        "label",
        "object",
    )
    filled = {name: bool(shown[name].cast(pl.String).fill_null("").ne("").any()) for name in names}
    return filled | {"pictures": bool(pictures), "errors": any(one.errors for one in pictures.values())}
