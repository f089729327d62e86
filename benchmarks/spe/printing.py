"""The tables of the benchmark, with the paper's numbers beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.spe.measuring import Cost, Estimates, main_task
from segqa.spe.mapping import SPE_METRICS
from segqa.statistics import pearson

PAPER = {
    "jsrt-chest-xray": "0.013 0.997 23.23 0.797 0.014 0.998 0.015 0.602 0.016 0.998 0.013 0.998",
    "hc18-fetal-head": "0.031 0.998 1.386 0.994 0.034 0.997 0.016 0.498 0.033 0.998 0.010 0.999",
    "ph2": "0.013 0.969 4.632 0.921 0.012 0.987 0.019 0.599 0.013 0.983 0.013 0.987",
    "acdc-cardiac-mri": "0.025 0.999 1.349 0.999 0.042 0.998 0.029 0.778 0.044 0.999 0.041 0.999",
}
"""Table 2 in the order of SPE_METRICS, MAE and correlation; PH2 beside ISIC-2018 and ACDC beside SCD, its likes."""
PAPER_MEAN = "0.025 0.973 5.53 0.919 0.029 0.981 0.037 0.701 0.033 0.974 0.022 0.975"
"""Mean of its six rows, computed again: four of the numbers it prints are not the mean of their column."""
DICE = SPE_METRICS.index("dice")
FIRST, WIDTH = 28, 19


def print_result(name: str, found: Estimates, cost: Cost, universeg_query: float) -> None:
    """Print MAE and correlation of every metric: all checkpoints, the good half, and the share inside intervals."""
    hours = cost.n_queries * universeg_query / 3600
    print(f"\n{name}, {found.real.shape[1]} checkpoints; fit {cost.wall:.0f} s ({cost.cpu:.0f} s CPU)")
    print(f"UniverSeg with the paper's {cost.n_queries} queries, {universeg_query:.2f} s each: {hours:.1f} CPU hours")
    print_row("MAE / correlation", SPE_METRICS)
    for task, label in enumerate(found.tasks):
        good = good_half(found, task)
        print_row(f"label {label}", compare(found, task, slice(None)))
        print_row("  its good half", compare(found, task, good))
        print_row("  inside 90 % interval", [f"{share:.2f}" for share in inside(found)[task].mean(axis=0)])
    if name in PAPER:
        print_paper("the paper", PAPER[name])


def print_shifted(folder: str, found: Estimates) -> None:
    """Print the estimate of the deployed checkpoint on images from elsewhere, its interval and the truth."""
    for task, label in enumerate(found.tasks):
        estimated, real = found.values[task, -1], found.real[task, -1]
        print_row(f"{folder} {label}"[:FIRST], SPE_METRICS)
        print_row("  estimate", [f"{value:.3f}" for value in estimated[:, 0]])
        print_row("  90 % interval", [f"{low:.2f} to {high:.2f}" for _, low, high in estimated])
        print_row("  truth", [f"{value:.3f}" for value in real])


def print_overall(engine: str, results: Mapping[str, Estimates]) -> None:
    """Print the means over the data sets beside the paper's."""
    print(f"\nmean over {len(results)} data sets, {engine}")
    print_row("MAE / correlation", SPE_METRICS)
    for title, pick in (("all checkpoints", lambda _found: slice(None)), ("good halves", good_half)):
        rows = [_errors(found, main_task(found), pick(found)) for found in results.values()]
        print_row(title, [f"{mae:.3f} / {r:.3f}" for mae, r in np.mean(rows, axis=0)])
    shares = np.concatenate([inside(found).reshape(-1, len(SPE_METRICS)) for found in results.values()])
    print_row("inside 90 % interval", [f"{share:.2f}" for share in shares.mean(axis=0)])
    print_paper("the paper, six data sets", PAPER_MEAN)


def good_half(found: Estimates, task: int | None = None) -> Any:
    """Return the checkpoints whose true Dice is in the upper half."""
    real = found.real[main_task(found) if task is None else task, :, DICE]
    return np.argsort(real, kind="stable")[len(real) // 2 :]


def inside(found: Estimates) -> Any:
    """Tell for each task, checkpoint and metric whether the truth is in the interval."""
    return (found.values[..., 1] <= found.real) & (found.real <= found.values[..., 2])


def compare(found: Estimates, task: int, rows: Any) -> list[str]:
    """Return `MAE / correlation` of each metric."""
    return [f"{mae:.3f} / {r:.3f}" for mae, r in _errors(found, task, rows)]


def _errors(found: Estimates, task: int, rows: Any) -> list[tuple[float, float]]:
    estimated, real = found.values[task, rows, :, 0], found.real[task, rows]
    return [
        (float(np.abs(estimated[:, m] - real[:, m]).mean()), pearson(estimated[:, m], real[:, m]))
        for m in range(len(SPE_METRICS))
    ]


def print_paper(title: str, numbers: str) -> None:
    """Print a row of Table 2."""
    pairs = zip(*[iter(numbers.split())] * 2, strict=True)
    print_row(title, [f"{mae} / {r}" for mae, r in pairs])


def print_row(title: str, cells: Any) -> None:
    """Print one line of a table."""
    print(f"{title:{FIRST}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells))
