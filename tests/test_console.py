import polars as pl
import pytest

from segqa import console


@pytest.fixture(autouse=True)
def _loud():
    yield
    console.set_quiet(False)


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
