"""Figures of a bundle's mappings, as figure 3 and S1-S5 of the paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segqa.errors import MissingExtraError
from segqa.spe.bundle import Bundle
from segqa.spe.mapping import METRICS


def save_plots(bundle: Bundle, folder: Path) -> list[Path]:
    """Write one figure a metric: pseudo against real performance, points and mapping, a panel a task.

    Args:
        bundle: A fitted estimator.
        folder: Made when it is missing.

    Returns:
        The files, in the order of `METRICS`.

    Raises:
        MissingExtraError: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        feature = "--plots"
        raise MissingExtraError(feature, "report") from error
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for column, metric in enumerate(METRICS):
        figure = Figure(figsize=(4 * len(bundle.tasks), 4), layout="constrained")
        for task, name in enumerate(bundle.tasks):
            mapping = bundle.mapping(0, task, column)
            axis = figure.add_subplot(1, len(bundle.tasks), task + 1)
            line = np.linspace(mapping.pseudo.min(), mapping.pseudo.max(), 200)
            axis.plot(line, mapping.predict(line), color="tab:red", label=mapping.kind)
            axis.scatter(mapping.pseudo, mapping.real, color="tab:blue", s=18, label="test set")
            axis.set(xlabel=f"pseudo {metric}", ylabel=f"real {metric}", title=f"label {name}")
            axis.legend()
        files.append(folder / f"{metric}.png")
        # A fixed software entry keeps the bytes the same for the same numbers.
        figure.savefig(files[-1], dpi=150, metadata={"Software": "segqa"})
    return files
