"""The paper's figures from tables of scores: figures are returned, never shown.

Needs the extra `report` (matplotlib). No global state is touched: no pyplot, no style, no backend.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from segqa.data.files import write_whole
from segqa.decisions.agreement import defined_pairs
from segqa.errors import require
from segqa.statistics import pearson, risk_coverage, spearman

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DENSITY_FROM = 2_000
"""Above so many points a scatter shows density instead of points."""

MAX_CURVE_POINTS = 1_000
"""A curve of more points looks the same and only makes the file larger."""

_BINS = 20


def score_histogram(scores: pl.DataFrame) -> Figure:
    """Return histograms of the predicted Dice, one panel per model, with the number of objects."""
    panels = _by_model(scores)
    figure, axes = _grid(len(panels))
    for axis, (model, rows) in zip(axes, panels.items(), strict=True):
        values = rows["predicted_dice"].fill_nan(None).drop_nulls()
        axis.hist(values.to_numpy(), bins=_BINS, range=(0, 1), color="tab:blue")
        axis.set(title=f"{model}\nn = {values.len()}", xlabel="predicted Dice", ylabel="objects", xlim=(0, 1))
    return figure


def truth_scatter(frame: pl.DataFrame) -> Figure:
    """Return predicted against true Dice, one panel per model, as in the figures of EvanySeg.

    Axes are equal, with the identity as a line and the correlations in the title; above 2,000 points a panel
    shows their density.

    Args:
        frame: Scores with `true_dice` (`decisions.agreement.join_truth`).
    """
    panels = _by_model(frame)
    figure, axes = _grid(len(panels))
    for axis, (model, rows) in zip(axes, panels.items(), strict=True):
        predicted, true = defined_pairs(rows)
        if true.size > DENSITY_FROM:
            axis.hexbin(true, predicted, gridsize=40, extent=(0, 1, 0, 1), bins="log", mincnt=1, cmap="viridis")
        else:
            axis.scatter(true, predicted, s=8, alpha=0.5, linewidths=0)
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.8)
        numbers = f"Pearson {_text(pearson(predicted, true))}, Spearman {_text(spearman(predicted, true))}"
        _unit_square(axis, f"{model}\n{numbers}, n = {true.size}", "true Dice", "predicted Dice")
    return figure


def risk_coverage_curve(frame: pl.DataFrame) -> Figure:
    """Return the mean true loss of the objects kept over the share kept, best predicted first, per model."""
    figure, (axis,) = _grid(1)
    for model, rows in _by_model(frame).items():
        predicted, true = defined_pairs(rows)
        if not true.size:
            continue
        coverage, risk = risk_coverage(predicted, true)
        shown = np.unique(np.linspace(0, true.size - 1, MAX_CURVE_POINTS).astype(int))
        axis.plot(coverage[shown], risk[shown], label=f"{model} (AURC {risk.mean():.3f})")
    axis.set(title="Risk and coverage", xlabel="share kept", ylabel="mean of 1 - true Dice", xlim=(0, 1))
    if axis.lines:
        axis.legend()
    return figure


def reliability_curve(frame: pl.DataFrame) -> Figure:
    """Return the mean true Dice over the predicted Dice in bins of equal numbers of objects, per model."""
    figure, (axis,) = _grid(1)
    axis.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    for model, rows in _by_model(frame).items():
        predicted, true = defined_pairs(rows)
        if not true.size:
            continue
        bins = np.array_split(np.argsort(predicted, kind="stable"), min(10, true.size))
        means = np.array([(predicted[part].mean(), true[part].mean()) for part in bins])
        axis.plot(means[:, 0], means[:, 1], marker="o", label=model)
    _unit_square(axis, "Reliability", "mean predicted Dice", "mean true Dice")
    if len(axis.lines) > 1:
        axis.legend()
    return figure


def draw(scores: pl.DataFrame) -> dict[str, Figure]:
    """Return every figure by name that the table has the columns for; those against the truth need `true_dice`."""
    figures = {"histogram": score_histogram(scores)}
    if "true_dice" in scores.columns:
        figures |= {
            "scatter": truth_scatter(scores),
            "risk_coverage": risk_coverage_curve(scores),
            "reliability": reliability_curve(scores),
        }
    return figures


def save_plots(scores: pl.DataFrame, folder: Path, *, formats: tuple[str, ...] = ("png", "svg")) -> list[Path]:
    """Write the figures of `draw`.

    Returns:
        The files written.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: A file cannot be written.
    """
    return [path for name, figure in draw(scores).items() for path in _save(figure, folder, name, formats)]


def _save(figure: Figure, folder: Path, name: str, formats: tuple[str, ...]) -> list[Path]:
    from matplotlib import rc_context

    paths = [folder / f"{name}.{suffix}" for suffix in formats]
    for suffix, path in zip(formats, paths, strict=True):
        # A date or a random id would make equal inputs give different bytes.
        stable: Mapping[str, None] | None = {"Date": None} if suffix == "svg" else None
        with rc_context({"svg.hashsalt": "segqa"}):
            write_whole(path, lambda file: figure.savefig(file, format=suffix, dpi=150, metadata=stable))  # noqa: B023
    return paths


def _by_model(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    parts = {_plain(part["model"][0]): part for part in frame.partition_by("model")} if frame.height else {}
    return dict(sorted(parts.items())) or {"no objects": frame}


def _grid(n_panels: int) -> tuple[Figure, list[Axes]]:
    require("matplotlib", "Plotting", extra="report")
    from matplotlib.figure import Figure as NewFigure

    columns = min(n_panels, 4)
    rows = math.ceil(n_panels / columns)
    figure = NewFigure(figsize=(4 * columns, 4.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[n_panels:]:
        unused.remove()
    return figure, list(axes[:n_panels])


def _unit_square(axis: Axes, title: str, xlabel: str, ylabel: str) -> None:
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(0, 1))
    axis.set_aspect("equal")


def _plain(name: str) -> str:
    """Return a name that matplotlib shows as it is: no formula, and not hidden for a leading underscore."""
    shown = name.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _text(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"
