"""Finished steps of a measurement, so that a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Values = list[list[float]]


class Journal:
    """Metric values by step name, handed on to a record on disk the moment they are there, if there is one."""

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]] = (),
        *,
        record: Callable[[list[dict[str, Any]]], None] | None = None,
    ) -> None:
        """Start with the rows of an earlier run.

        Args:
            rows: Steps as they were recorded: `{"step": name, "values": [[...], ...]}`.
            record: Receives each new row.
        """
        self.steps: dict[str, Values] = {row["step"]: row["values"] for row in rows}
        self._record = record

    def add(self, step: str, values: Values) -> None:
        """Remember a finished step."""
        self.steps[step] = values
        if self._record is not None:
            self._record([{"step": step, "values": values}])
