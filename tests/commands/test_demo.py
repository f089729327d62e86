import numpy as np
import pytest
from PIL import Image as PillowImage

from segqa.phantoms import MODELS


def test_a_demo_is_written_and_the_next_step_is_said(run, tmp_path):
    out = tmp_path / "demo"
    result = run("demo", "--out", out, "--cases", 2)
    assert result.exit_code == 0
    assert result.stdout == f"{out}\n"
    assert f"next: segqa score {out}/images {out}/masks --boxes {out}/boxes.json" in result.stderr
    assert sorted(path.name for path in out.iterdir()) == ["boxes.json", "images", "masks", "truth"]
    assert sorted(path.name for path in (out / "masks").iterdir()) == sorted(MODELS)
    assert np.asarray(PillowImage.open(out / "images/phantom_02.png")).shape == (256, 256)


def test_the_seed_decides_the_files(run, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("demo", "--out", tmp_path / name, "--cases", 1, "--seed", seed)
    first, second, other = ((tmp_path / name / "images/phantom_01.png").read_bytes() for name in "abc")
    assert first == second != other


def test_an_empty_folder_is_filled(run, tmp_path):
    result = run("demo", "--out", tmp_path, "--cases", 1)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}\n")
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    masks = [f"masks/{model}/phantom_01.png" for model in sorted(MODELS)]
    assert written == ["boxes.json", "images/phantom_01.png", *masks, "truth/phantom_01.png"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_that_exists_is_touched(run, tmp_path, kind):
    if kind == "folder":
        (tmp_path / "mine.txt").write_text("precious")
        out = tmp_path
    else:
        out = tmp_path / "mine.txt"
        out.write_text("precious")
    result = run("demo", "--out", out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {out}: exists and is not an empty folder; choose another --out\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_place_that_cannot_be_written_is_refused_in_one_line(run, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    result = run("demo", "--out", tmp_path / "mine.txt" / "demo", "--cases", 1)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot be written (" in result.stderr
    assert result.stderr.count("\n") == 1
