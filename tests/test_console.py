import io

import polars as pl
import pytest

from segqa import console


def test_results_go_to_stdout_and_all_else_to_stderr(capsys):
    console.result("42")
    console.result("43\n")
    console.note("reading")
    console.warn("odd")
    console.error("two\n lines")
    captured = capsys.readouterr()
    assert captured.out == "42\n43\n"
    assert captured.err == "reading\nwarning: odd\nerror: two lines\n"


def test_quiet_silences_notes_and_progress_only(capsys):
    console.set_quiet(True)
    console.note("reading")
    console.warn("odd")
    assert list(console.progress([1, 2], description="cases")) == [1, 2]
    console.result("42")
    captured = capsys.readouterr()
    assert captured.out == "42\n"
    assert captured.err == "warning: odd\n"


def test_a_table_is_shown_whole_in_a_log_with_four_digits(capsys):
    frame = pl.DataFrame({"case": ["a" * 60, "b"], "dice": [0.123456, None], "why": ["[red]x[/red]", ""]})
    console.table(frame, title="Scores")
    out = capsys.readouterr().out
    assert "a" * 60 in out
    assert "0.1235" in out
    assert "None" not in out
    assert "[red]x[/red]" in out  # a reason is no markup


REASON = "box-clipped: 12 % of its area lies outside the image; " * 8
KEYS = {"case": "phantom_with_a_long_name_01", "object": "12", "label": "spleen", "model": "average"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def printed(monkeypatch):
    """Print a table of one row to a log, or to a terminal of 80 columns, and return it as lines."""

    def show(columns, stream):
        monkeypatch.setenv("COLUMNS", "80")
        with monkeypatch.context() as patch:
            patch.setattr(console.sys, "stdout", stream)
            console.table(pl.DataFrame({name: [text] for name, text in columns.items()}))
        return stream.getvalue().splitlines()

    return show


def cells(line):
    return [cell.strip() for cell in line.strip("│").split("│")]


@pytest.mark.parametrize("free", ["reason", "remark"])
def test_a_long_reason_folds_no_column_in_a_log(printed, free):
    lines = printed(KEYS | {free: REASON}, io.StringIO())
    assert len(lines) == 5
    assert cells(lines[3]) == [*KEYS.values(), REASON.strip()]


def test_a_reason_folds_on_a_narrow_terminal_and_nothing_else(printed):
    lines = printed(KEYS | {"dice": "0.5", "reason": REASON}, Terminal())
    rows = [cells(line) for line in lines[3:-1]]
    assert rows[0][:-1] == [*KEYS.values(), "0.5"]
    assert " ".join(row[-1] for row in rows).split() == REASON.split()
    assert len(rows) > 1
    assert "…" not in "".join(lines)


def test_a_long_word_of_a_reason_is_folded_not_cut(printed):
    path = "/data/" + "deep/" * 12
    lines = printed(KEYS | {"why": path}, Terminal())
    assert "".join(cells(line)[-1] for line in lines[3:-1]) == path


def test_a_table_takes_no_more_than_the_terminal_where_folding_is_enough(printed):
    lines = printed({"case": "a", "why": REASON}, Terminal())
    assert {len(line) for line in lines} == {80}


def test_columns_that_do_not_fit_a_terminal_are_left_to_it_whole(printed):
    lines = printed(KEYS | {"more": "x" * 90, "why": REASON}, Terminal())
    assert cells(lines[3])[:-1] == [*KEYS.values(), "x" * 90]


def test_a_long_table_says_how_much_it_leaves_out(capsys):
    console.table(pl.DataFrame({"n": list(range(60))}), limit=50)
    out = capsys.readouterr().out
    assert "... 10 more rows" in out
    assert "49" in out
    assert "│ 50" not in out


def test_progress_in_a_log_is_a_line_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    assert list(console.progress("abcd", description="cases scored", total=4)) == list("abcd")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "cases scored: 2/4, about 40 s left",
        "cases scored: 4/4, about 0 s left",
    ]


def test_progress_is_silent_for_what_is_quick(capsys):
    assert list(console.progress([1], description="cases")) == [1]
    assert capsys.readouterr().err == ""


def test_progress_hands_on_one_item_at_a_time():
    taken = []

    def items():
        for n in range(3):
            taken.append(n)
            yield n

    passed = console.progress(items(), description="cases")
    next(passed)
    assert taken == [0]
