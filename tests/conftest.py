"""Shared by all tests: an in-process command line and the real images, when they are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer forces colour under GitHub Actions; tests read plain text."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture
def run() -> Callable[..., Any]:
    """Run `segqa` in this process: `run("flag", path, "--percentile", 5)` has stdout, stderr, exit_code."""
    from typer.testing import CliRunner

    from segqa.cli import app

    def invoke(*arguments: object) -> Any:
        outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
        unexpected = outcome.exception
        if unexpected is not None and not isinstance(unexpected, SystemExit):
            raise unexpected
        return outcome

    return invoke


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real medical images, or skip: they are not part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real images of ../shared/data are not on this machine")
    return SHARED_DATA
