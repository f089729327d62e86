"""Registers the commands; turns a `SegqaError` into one line and an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from segqa import __version__, console
from segqa.commands.benchmark import benchmark
from segqa.commands.calibrate import calibrate
from segqa.commands.calibrate_weights import calibrate_weights
from segqa.commands.demo import demo
from segqa.commands.evaluate import evaluate
from segqa.commands.flag import flag
from segqa.commands.prepare import prepare
from segqa.commands.rank import rank
from segqa.commands.report import report
from segqa.commands.score import score
from segqa.commands.spe_estimate import spe_estimate
from segqa.commands.spe_fit import spe_fit
from segqa.commands.train import train
from segqa.commands.weights import app as weights
from segqa.config import load_defaults, name_variables, odd_variables
from segqa.errors import ExitCode, SegqaError


class _Group(TyperGroup):
    """The edge of the program: what the library raises becomes a line on stderr and an exit code."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options; of those before a command only --quiet has a variable.

        A `SEGQA_VERSION` that someone defines for a purpose of their own would print the version instead of checking
        a gate, and end with 0.
        """
        found: list[Any] = super().get_params(ctx)
        for parameter in found:
            parameter.allow_from_autoenv = parameter.name == "quiet"
        return found

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SegqaError as error:
            console.error(str(error))
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            console.error("interrupted; what was finished is kept, `--resume` goes on where the command has it")
            raise typer.Exit(ExitCode.INTERRUPTED) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "SEGQA"},
    epilog="Exit codes: 0 done, 1 a bug, 2 the call or the files must change, 3 a quality gate failed, "
    "4 done but some rows could not be scored, 130 interrupted.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.result(f"segqa {__version__}")
        raise typer.Exit


@app.callback()
def segqa(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress on stderr.")] = False,
) -> None:
    """Tell how good a medical image segmentation is when there is no ground truth."""
    console.set_quiet(quiet)
    prefix = str(context.auto_envvar_prefix)
    name_variables(context, context.command, prefix)
    for remark in odd_variables(context.command, prefix, context.invoked_subcommand):
        console.warn(remark)
    context.default_map = load_defaults(context, Path.cwd())


judging = (demo, score, flag, evaluate, calibrate, rank, benchmark, report)
making = (prepare, train, calibrate_weights, spe_fit, spe_estimate)
for command in (*judging, *making):
    app.command()(command)
app.add_typer(weights, name="weights")


def main() -> None:
    """Run the command line; a reader that closes the pipe early, or a poor encoding, is not an error."""
    console.harden_streams()
    app()
