"""segqa: how good is a medical image segmentation when there is no ground truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segqa.errors import InputError, SegqaError

if TYPE_CHECKING:
    from segqa.api import benchmark, evaluate, flag, rank, score

__version__ = "0.1.0"

__all__ = ["InputError", "SegqaError", "__version__", "benchmark", "evaluate", "flag", "rank", "score"]


def __getattr__(name: str) -> Any:
    """Import the Python interface when it is first used: `import segqa` stays instant."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from segqa import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
