import os

import pytest

from segqa.errors import InputError
from segqa.journal import Journal, finished_rows, journal_key, remove_journal

ROWS = [{"case": "ä\n", "dice": 1 / 3}, {"case": "b", "dice": None}, {"case": "c", "dice": 1.0}]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "scores.csv.journal"


def test_rows_are_on_disk_before_append_returns(path):
    with Journal(path, "k") as journal:
        journal.append(ROWS)
        assert path.read_bytes().count(b"\n") == 4


def test_what_a_journal_has_can_be_looked_at(path):
    assert finished_rows(path, "k") == []
    with Journal(path, "k") as journal:
        journal.append(ROWS)
    content = path.read_bytes()
    path.write_bytes(content + b"torn")
    assert finished_rows(path, "k") == ROWS
    assert path.read_bytes() == content + b"torn"
    with pytest.raises(InputError, match=r"the journal is of a run with other options"):
        finished_rows(path, "other")
    with pytest.raises(InputError, match=r"the journal cannot be read"):
        finished_rows(path.parent, "k")


def test_a_resumed_journal_has_the_rows_and_goes_on(path):
    with Journal(path, "k") as journal:
        journal.append(ROWS[:2])
    with Journal(path, "k", resume=True) as journal:
        assert journal.rows == ROWS[:2]
        journal.append(ROWS[2:])
    with Journal(path, "k", resume=True) as journal:
        assert journal.rows == ROWS


def test_cut_at_any_byte_it_resumes_to_the_same_bytes(path):
    with Journal(path, "k") as journal:
        journal.append(ROWS)
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        with Journal(path, "k", resume=True) as journal:
            assert journal.rows == ROWS[: len(journal.rows)]
            journal.append(ROWS[len(journal.rows) :])
        assert path.read_bytes() == whole


def test_without_resume_it_begins_anew(path):
    with Journal(path, "k") as journal:
        journal.append(ROWS)
    with Journal(path, "other") as journal:
        assert journal.rows == []
    with Journal(path, "other", resume=True) as journal:
        assert journal.rows == []


def test_resuming_without_a_journal_starts_one(path):
    with Journal(path, "k", resume=True) as journal:
        assert journal.rows == []
    assert path.exists()


def test_a_journal_of_another_run_is_refused_and_kept(path):
    with Journal(path, "k") as journal:
        journal.append(ROWS)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"other options, weights or inputs.*without --resume"):
        Journal(path, "other", resume=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"hello\n", b"[1]\n", b'{"a": 1}\n', b"\xff\n"])
def test_a_file_that_is_no_journal_is_refused(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a journal"):
        Journal(path, "k", resume=True)
    assert path.read_bytes() == content


def test_a_journal_that_cannot_be_written_is_an_input_error(path):
    path.mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be written"):
        Journal(path, "k")


def test_the_key_changes_with_options_weights_and_inputs(tmp_path):
    file, other = tmp_path / "a.png", tmp_path / "b.png"
    file.write_bytes(b"1")
    other.write_bytes(b"2")

    def key(**changes):
        return journal_key(**({"options": {"margin": 0.1}, "weights": "w", "inputs": [file, other]} | changes))

    assert key() == key(inputs=[other, file])
    assert len({key(), key(options={"margin": 0.2}), key(weights="v"), key(inputs=[file])}) == 4
    before = key()
    os.utime(file, ns=(1, 1))
    earlier = key()
    assert earlier != before
    file.write_bytes(b"11")
    os.utime(file, ns=(1, 1))
    assert key() != earlier


def test_two_runs_write_no_journal_at_the_same_time(path):
    pytest.importorskip("fcntl")
    with Journal(path, "k") as journal:
        journal.append(ROWS[:1])
        for resume in (False, True):
            with pytest.raises(InputError, match="another run writes it"):
                Journal(path, "k", resume=resume)
        journal.append(ROWS[1:])
    with Journal(path, "k", resume=True) as journal:
        assert journal.rows == ROWS


@pytest.fixture
def disk():
    """Sets how large a file may grow, until the end of the test."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_run_that_ends_leaves_the_journal_of_one_that_began_meanwhile(path):
    pytest.importorskip("fcntl")
    with Journal(path, "k"):
        pass
    with Journal(path, "k") as later:
        later.append(ROWS[:1])
        remove_journal(path)
        later.append(ROWS[1:])
    assert finished_rows(path, "k") == ROWS
    remove_journal(path)
    assert not path.exists()
    remove_journal(path.parent / "none" / "x")


def test_a_full_disk_ends_in_one_line_and_the_rows_before_it_are_kept(path, disk):
    def fill():
        with Journal(path, "k") as journal:
            journal.append(ROWS)
            disk(path.stat().st_size + 10)
            journal.append(ROWS)

    with pytest.raises(InputError, match=r"cannot be written \(File too large\); make room and go on with --resume"):
        fill()
    with Journal(path, "k", resume=True) as journal:
        assert journal.rows == ROWS
