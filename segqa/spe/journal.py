"""A run's finished steps, kept on disk so that a killed run goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

Values = list[list[float]]


class Journal:
    """Metric values by step name; with a path, one JSON line each, written the moment a step is added.

    Floats are written with all their digits, so a resumed run ends in the same bytes as an unbroken one.
    """

    def __init__(self, path: Path | None = None, *, fingerprint: str = "") -> None:
        """Open a journal, taking over what an earlier run left.

        Args:
            path: The file; `None` keeps the steps in memory only.
            fingerprint: Hash of everything the values depend on; a file with another one starts anew.
        """
        self.steps: dict[str, Values] = {}
        self.path = path
        if path is None:
            return
        head = json.dumps({"fingerprint": fingerprint})
        kept = [head, *self._take_over(path, head)]
        part = path.with_name(path.name + ".part")
        part.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        part.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def _take_over(self, path: Path, head: str) -> list[str]:
        """Read the whole lines of the same run; a line that the kill tore is done again."""
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
        if not lines or lines[0] != head:
            return []
        kept = []
        for line in lines[1:-1]:
            try:
                entry = json.loads(line)
            except ValueError:
                break
            self.steps[entry["step"]] = entry["values"]
            kept.append(line)
        return kept

    def add(self, step: str, values: Values) -> Values:
        """Remember a finished step and return its values."""
        self.steps[step] = values
        if self.path is not None:
            self._file.write(json.dumps({"step": step, "values": values}) + "\n")
            self._file.flush()
        return values

    def remove(self) -> None:
        """Delete the file: the run is complete."""
        if self.path is not None:
            self._file.close()
            self.path.unlink()
