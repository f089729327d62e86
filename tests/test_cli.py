import os
import re
import shlex
import subprocess
import sys
import time

import pytest
import typer

from segqa import __version__, cli
from segqa.cli import app
from segqa.errors import GateError, InputError, MissingExtraError

COMMANDS = typer.main.get_command(app).commands


def shell(line, encoding="utf-8"):
    """Run a shell line in which `segqa` is this installation's."""
    program = f"{shlex.quote(sys.executable)} -m segqa"
    return subprocess.run(["bash", "-c", line.replace("segqa", program, 1)], capture_output=True, encoding=encoding)


@pytest.fixture
def failing(monkeypatch):
    """Return a function that makes `segqa demo` raise."""

    def fail(error):
        def write_demo(*arguments, **options):
            raise error

        monkeypatch.setattr("segqa.phantoms.write_demo", write_demo)

    return fail


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x.png: truncated;\n save it again"), 2),
        (MissingExtraError("training", "train"), 2),
        (GateError("mean below 0.8"), 3),
    ],
)
def test_an_error_of_the_user_is_one_line_and_a_code(run, failing, tmp_path, error, code):
    failing(error)
    result = run("demo", "--out", tmp_path / "demo")
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr == f"error: {' '.join(str(error).split())}\n"


def test_an_interrupted_run_ends_with_130_and_one_line(run, failing, tmp_path):
    failing(KeyboardInterrupt())
    result = run("demo", "--out", tmp_path / "demo")
    assert result.exit_code == 130
    assert result.stderr.startswith("error: interrupted; ")
    assert result.stderr.count("\n") == 1


def test_a_bug_is_not_disguised_as_the_users_mistake(run, failing, tmp_path):
    failing(ZeroDivisionError("bug"))
    with pytest.raises(ZeroDivisionError):
        run("demo", "--out", tmp_path / "demo")


def test_a_missing_extra_names_the_command_that_installs_it():
    assert str(MissingExtraError("training", "train")).endswith("pip install 'segqa[train]'")


@pytest.mark.parametrize("arguments", [["nonsense"], ["demo", "--nonsense"], ["demo", "--cases", "0"], ["score"]])
def test_a_wrong_call_ends_with_2_and_says_so_on_stderr(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage:" in result.stderr


def test_the_version_is_a_result(run):
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"segqa {__version__}\n")


def test_quiet_leaves_the_result_only(run, tmp_path):
    result = run("--quiet", "demo", "--cases", 1, "--out", tmp_path / "a")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{tmp_path / 'a'}\n", "")
    assert "next: segqa score" in run("demo", "--cases", 1, "--out", tmp_path / "b").stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(run, name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def examples():
    """Yield each example of the help: a paragraph or line that begins with `segqa `."""

    def walk(name, command):
        for inner, one in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {inner}", one)
        text = command.help or ""
        for paragraph in re.split(r"\n\s*\n", text):
            line = " ".join(paragraph.split()).removeprefix("Example: ")
            if line.startswith("segqa "):
                yield pytest.param(line, id=line)

    for name, command in COMMANDS.items():
        yield from walk(name, command)


def leaves(command):
    inner = getattr(command, "commands", None)
    return [command] if inner is None else [leaf for one in inner.values() for leaf in leaves(one)]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_every_command_has_an_example(name):
    for leaf in leaves(COMMANDS[name]):
        assert re.search(r"^\s*(Example: )?segqa \S", leaf.help, flags=re.MULTILINE), leaf.name


@pytest.mark.parametrize("line", list(examples()))
def test_an_example_of_the_help_can_be_called(line, tmp_path, monkeypatch):
    words = shlex.split(line.partition("|")[0].partition(">")[0])[1:]
    monkeypatch.chdir(tmp_path)
    for word in words:  # so that `exists=True` is content
        if not word.startswith("-") and not word.isdigit():
            (tmp_path / word).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / word).mkdir(exist_ok=True)
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    command.make_context("segqa", words)


def test_no_command_at_all_shows_the_help(run):
    result = run()
    assert "Usage:" in result.output
    assert result.exit_code in (0, 2)


HEAVY = "{'torch', 'timm', 'scipy', 'onnxruntime', 'matplotlib', 'sklearn'}"


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"], ["train", "--help"]], ids=" ".join)
def test_help_is_quick_because_it_imports_nothing_heavy(arguments):
    code = (
        "import sys; from segqa.cli import app\n"
        f"try: app({arguments!r})\n"
        f"except SystemExit: print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    sys.stdout.write(f"{' '.join(arguments)}: {time.perf_counter() - start:.2f} s\n")  # shown by -rP
    assert done.stderr == "[]\n"
    assert "Usage:" in done.stdout


def unread(*arguments, both=False):
    """Run `segqa` with nobody reading its stdout, nor its stderr if `both`."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "segqa", *map(str, arguments)]
        return subprocess.run(command, stdout=writer, stderr=writer if both else subprocess.PIPE, text=True)
    finally:
        os.close(writer)


@pytest.mark.parametrize("arguments", [["--help"], ["flag", "--help"], ["--version"]], ids=" ".join)
def test_a_reader_that_closes_the_pipe_early_is_not_an_error(arguments):
    done = unread(*arguments)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("printed", ["table", "csv"])
@pytest.mark.parametrize("both", [False, True])
def test_without_a_reader_files_are_written_and_the_gate_is_checked(tmp_path, printed, both):
    scores, report = tmp_path / "scores.csv", tmp_path / "flags.xml"
    scores.write_text("case,object,label,model,predicted_dice\na,1,1,sam,0.5\n")
    gate = ("--threshold", 1, "--fail-above-count", 0)
    done = unread("flag", scores, *gate, "--junit", report, "--format", printed, both=both)
    assert done.returncode == 3
    assert report.exists()
    assert both or done.stderr.startswith("error: 1 of 1 objects are flagged")


def test_a_closed_pipe_is_quiet_for_a_long_table(tmp_path):
    scores = tmp_path / "scores.csv"
    rows = "".join(f"case_{n},1,1,sam,{n / 20000},ok,\n" for n in range(20000))
    scores.write_text("case,object,label,model,predicted_dice,status,reason\n" + rows)
    done = shell(f"set -o pipefail; segqa flag {shlex.quote(str(scores))} --threshold 1 --format csv | head -2")
    assert done.stdout.count("\n") == 2
    assert done.stderr.count("\n") <= 1  # a note on what was flagged, no traceback
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_poor_encoding_of_the_output_is_no_error(encoding):
    done = shell(f"PYTHONIOENCODING={encoding} segqa train --help", encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u03c8" in done.stdout  # ψ


def test_the_module_and_the_script_are_the_same_program():
    done = shell("segqa --version")
    assert done.stdout == f"segqa {__version__}\n"
    assert callable(cli.main)


def with_seed(group=COMMANDS, before=()):
    """Return the words of every command that has a seed."""
    found = []
    for name, command in group.items():
        words = (*before, name)
        found += with_seed(command.commands, words) if hasattr(command, "commands") else []
        found += [words] if any(parameter.name == "seed" for parameter in command.params) else []
    return found


@pytest.mark.parametrize("words", with_seed(), ids=" ".join)
def test_a_negative_seed_is_refused(run, words):
    result = run(*words, "--seed", -1)
    assert result.exit_code == 2
    assert "Invalid value for '--seed'" in result.stderr
