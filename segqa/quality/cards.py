"""The card of trained weights: what they learnt from, how, and how it went, as a page to keep beside the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segqa.quality.weights_file import CheckpointInfo


def render_card(info: CheckpointInfo) -> str:
    """Return the card of a file of `segqa train`, in Markdown.

    It is made of what the file says about itself, so that page and file cannot differ.
    """
    card, spec, profile = info.card, info.spec, info.spec["profile"]
    about = {
        "backbone": spec["backbone"],
        "input": f"{profile['size']} x {profile['size']} pixels, ψ profile {profile['name']}",
        "heads": ", ".join(spec["heads"]),
        "recipe": card["recipe"],
        "examples": card["examples"],
        "licence": card["licence"],
    }
    origin = [(one["file"], one["share"], one["sha256"]) for one in card.get("average_of", [])]
    checks = [point for point in card["curve"] if "pearson" in point]
    parts = [
        f"# {info.path.stem}",
        _list(about),
        *([f"## Mean of\n\n{_table(('file', 'share', 'SHA-256'), origin)}"] if origin else []),
        f"## Training data\n\n{_table(('data set', 'records'), list(card['records'].items()))}",
        f"## Plan\n\n{_list(card['plan'])}",
        f"## Shares of masks and looks\n\n{_list(card['mixture'])}",
        f"## Loss\n\n{_curve(card['curve'], ('loss',))}",
    ]
    if checks:
        parts.append(f"## Validation, on groups or data sets not learnt from\n\n{_curve(checks, ('pearson', 'mae'))}")
    return "\n\n".join(parts) + "\n"


def _list(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in values.items())


def _curve(points: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    return _table(("examples", *names), [(p["examples"], *(p[name] for name in names)) for p in points])


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    cells = [[f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)])
