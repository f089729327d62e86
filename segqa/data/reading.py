"""How the pictures of a call are read, and what happens to those that cannot be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, get_args

from segqa.data.intensities import NanPolicy, window_limits
from segqa.data.objects import Splitting
from segqa.errors import InputError, check_choice

ErrorPolicy = Literal["stop", "skip"]
"""Whether a file that cannot be read ends the run or becomes a row with its reason."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How cases are read and split into objects.

    Raises:
        InputError: None of the choices, labels that are no numbers above 0, or a window without width.
    """

    labels: tuple[int, ...] | None = None
    """Labels to look at; all when `None`."""
    objects: Splitting = "labels"
    window: tuple[float, float] | None = None
    """Centre and width of the intensities that are shown; the file's own or its range when `None`."""
    nan: NanPolicy = "error"
    on_error: ErrorPolicy = "stop"

    def __post_init__(self) -> None:
        if self.labels is not None:
            object.__setattr__(self, "labels", _check_labels(self.labels))
        check_choice("objects", self.objects, get_args(Splitting))
        check_choice("nan", self.nan, get_args(NanPolicy))
        check_choice("on_error", self.on_error, get_args(ErrorPolicy))
        if self.window is not None:
            window_limits(self.window)


def _check_labels(labels: Any) -> tuple[int, ...]:
    """Return labels as whole numbers; a text would be looked for letter by letter, and not be found."""
    numbers = tuple(labels) if isinstance(labels, Iterable) and not isinstance(labels, str) else ()
    if not numbers or not all(isinstance(one, Real) and float(one) > 0 and float(one).is_integer() for one in numbers):
        shown = labels if isinstance(labels, str) else list(numbers) or labels
        msg = f"labels {shown!r}: whole numbers above 0 were expected, such as [1, 3]; None for all"
        raise InputError(msg)
    return tuple(map(int, numbers))
