"""How well an evaluator judges masks on data sets it was not trained on, beside simple baselines."""

from benchmarks.quality.judging import judge
from benchmarks.quality.tables import agreement_row, by_set, report, selection_row

__all__ = ["agreement_row", "by_set", "judge", "report", "selection_row"]
