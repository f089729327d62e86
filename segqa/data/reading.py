"""How the pictures of a call are read, and what happens to those that cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from segqa.data.intensities import NanPolicy, window_limits
from segqa.data.objects import Splitting
from segqa.errors import check_choice

ErrorPolicy = Literal["stop", "skip"]
"""Whether a file that cannot be read ends the run or becomes a row with its reason."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How cases are read and split into objects.

    Raises:
        InputError: None of the choices, or a window without width.
    """

    labels: tuple[int, ...] | None = None
    """Labels to look at; all when `None`."""
    objects: Splitting = "labels"
    window: tuple[float, float] | None = None
    """Centre and width of the intensities that are shown; the file's own or its range when `None`."""
    nan: NanPolicy = "error"
    on_error: ErrorPolicy = "stop"

    def __post_init__(self) -> None:
        check_choice("objects", self.objects, get_args(Splitting))
        check_choice("nan", self.nan, get_args(NanPolicy))
        check_choice("on_error", self.on_error, get_args(ErrorPolicy))
        if self.window is not None:
            window_limits(self.window)
