import os
import threading

import pytest

from segqa.data.files import check_writable, decoding, write_whole
from segqa.errors import InputError


def places(folder):
    """Return places where nobody can write a file, root included."""
    (folder / "file.txt").write_text("mine")
    (folder / "folder.bin").mkdir()
    return [folder / "file.txt" / "x.bin", folder / "file.txt" / "deeper" / "x.bin", folder / "folder.bin"]


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("act", [check_writable, lambda path: write_whole(path, lambda file: file.write(b"x"))])
def test_a_place_that_cannot_be_written_is_named_in_one_line(tmp_path, which, act):
    path = places(tmp_path)[which]
    with pytest.raises(InputError, match=r"cannot be written \(.*\); choose another place") as caught:
        act(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["file.txt", "folder.bin"]


def test_asking_whether_a_file_can_be_written_leaves_nothing_but_its_folder(tmp_path):
    check_writable(tmp_path / "new" / "x.bin")
    assert [path.name for path in tmp_path.rglob("*")] == ["new"]


def test_a_name_as_long_as_there_may_be_is_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".csv")
    write_whole(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"


def test_a_link_stays_one_and_what_it_leads_to_is_written(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "store" / "real.csv")
    write_whole(tmp_path / "link.csv", lambda file: file.write(b"new"))
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "store" / "real.csv").read_text() == "new"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["real.csv"]


def test_a_link_to_a_folder_is_refused(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    with pytest.raises(InputError, match="link: cannot be written"):
        write_whole(tmp_path / "link", lambda file: file.write(b"new"))
    assert (tmp_path / "link").is_symlink()


def test_a_pipe_and_a_device_are_written_into(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, lambda file: file.write(b"new"))
    reader.join()
    assert read == [b"new"]
    assert pipe.is_fifo()

    (tmp_path / "null").symlink_to(os.devnull)
    check_writable(tmp_path / "null")
    write_whole(tmp_path / "null", lambda file: file.write(b"new"))
    assert (tmp_path / "null").is_char_device()


def test_what_a_decoder_raises_is_one_line_without_a_full_stop(tmp_path):
    line = r"a\.png: cannot be decoded \(bad bytes\); .* Export the file again$"
    with pytest.raises(InputError, match=line), decoding(tmp_path / "a.png"):
        raise ValueError("bad\nbytes")
