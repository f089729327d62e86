"""Figures of a bundle's mappings, as figure 3 and S1-S5 of the paper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from segqa.data.files import check_writable, write_whole
from segqa.errors import require
from segqa.spe.bundle import Bundle
from segqa.spe.mapping import SPE_METRICS

INPUTS = {"pseudo": "tab:blue", "agreement": "tab:orange"}
"""What a mapping takes, in order, and its colour."""


def check_plots(folder: Path) -> None:
    """Refuse, before slow work, figures that could not be drawn or written in the end.

    Raises:
        MissingExtraError: without matplotlib.
        InputError: the folder cannot be written to.
    """
    require("matplotlib", "--plots", extra="report")
    check_writable(folder / f"{SPE_METRICS[0]}.png")


def save_plots(bundle: Bundle, folder: Path) -> list[Path]:
    """Write one figure a metric: pseudo performance and agreement against real performance, a panel a task.

    The lines are the mappings that each of the two would have alone.

    Args:
        bundle: A fitted estimator.
        folder: Made when it is missing.

    Returns:
        The files, in the order of `SPE_METRICS`.

    Raises:
        MissingExtraError: without matplotlib.
        InputError: the files cannot be written.
    """
    check_plots(folder)
    from matplotlib.figure import Figure

    files = []
    for column, metric in enumerate(SPE_METRICS):
        figure = Figure(figsize=(4 * len(bundle.tasks), 4), layout="constrained")
        for task, name in enumerate(bundle.tasks):
            mapping = bundle.mapping(0, task, column)
            axis = figure.add_subplot(1, len(bundle.tasks), task + 1)
            for position, (title, colour) in enumerate(INPUTS.items()):
                alone = replace(mapping, measured=mapping.measured[:, position : position + 1])
                line = np.linspace(alone.measured.min(), alone.measured.max(), 200)
                axis.plot(line, alone.predict(line[:, None]), color=colour)
                axis.scatter(alone.measured, alone.real, color=colour, s=18, label=title)
            axis.set(xlabel=f"measured {metric}", ylabel=f"real {metric}", title=f"label {name}, {mapping.kind}")
            axis.legend()
        files.append(folder / f"{metric}.png")
        # A fixed software entry keeps the bytes the same for the same numbers.
        write_whole(
            files[-1],
            lambda file: figure.savefig(file, format="png", dpi=150, metadata={"Software": "segqa"}),  # noqa: B023
        )
    return files
