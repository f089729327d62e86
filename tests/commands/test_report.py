import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jinja2")


@pytest.fixture
def project(tmp_path):
    """Two cases of two models with images, masks and a table; the mask of one cannot be read."""
    for name in ("images", "masks/a", "masks/b"):
        (tmp_path / name).mkdir(parents=True)
    mask = np.zeros((40, 50), np.uint8)
    mask[10:30, 10:30] = 1
    rows = []
    for case in ("x", "y"):
        Image.fromarray(np.full((40, 50), 100, np.uint8)).save(tmp_path / "images" / f"{case}.png")
        for model in ("a", "b"):
            Image.fromarray(mask).save(tmp_path / "masks" / model / f"{case}.png")
            rows.append(f"{case},1,1,{model},0.{len(rows) + 1}")
    (tmp_path / "masks" / "b" / "y.png").write_bytes(b"no picture")
    (tmp_path / "scores.csv").write_text("case,object,label,model,predicted_dice\n" + "\n".join(rows) + "\n")
    return tmp_path


def test_the_page_shows_each_object_and_one_that_cannot_be_read_is_counted(run, project):
    out = project / "out" / "report.html"
    files = ("--images", project / "images", "--masks", project / "masks")
    result = run("report", project / "scores.csv", *files, "--out", out)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(out)
    assert "1 of 4 objects have no picture" in result.stderr
    assert out.read_text().count('src="data:image/webp') == 3


def test_without_images_it_is_a_table(run, project):
    result = run("report", project / "scores.csv", "--output", project / "report.html", "--limit", 2)
    assert result.exit_code == 0
    page = (project / "report.html").read_text()
    assert "<img" not in page
    assert "The 2 worst of 4 objects." in page


def test_without_a_path_it_reads_what_score_wrote(run, project, monkeypatch):
    monkeypatch.chdir(project)
    (project / "segqa").mkdir()
    (project / "scores.csv").rename(project / "segqa" / "scores.csv")
    assert run("report").exit_code == 0
    assert (project / "segqa" / "report.html").is_file()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--images", "images"], "--images and --masks belong together"),
        (["--error-maps"], "--error-maps needs the pictures"),
        (["--images", "images", "--masks", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_a_wrong_call_ends_with_2_and_one_line(run, project, monkeypatch, options, text):
    monkeypatch.chdir(project)
    result = run("report", "scores.csv", *options)
    assert result.exit_code == 2
    assert text in result.stderr


def test_error_maps_add_a_second_picture(run, project, tiny_weights):
    files = ("--images", project / "images", "--masks", project / "masks")
    out = project / "report.html"
    result = run("report", project / "scores.csv", *files, "--out", out, "--error-maps", "--weights", tiny_weights)
    assert result.exit_code == 0
    assert out.read_text().count('src="data:image/webp') == 6


def test_pictures_without_error_maps_need_no_torch(project):
    code = (
        "import sys; from segqa.cli import app; app(sys.argv[1:], standalone_mode=False); print('torch' in sys.modules)"
    )
    arguments = ["report", "scores.csv", "--images", "images", "--masks", "masks", "--out", "report.html"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=project, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


def pictures(run, project, *options):
    result = run(
        "report", project / "scores.csv", "--images", project / "images", *options, "--out", project / "r.html"
    )
    assert result.exit_code == 0, result.stderr
    return (project / "r.html").read_text().count('src="data:image/webp')


def test_masks_of_models_may_be_named_one_by_one(run, project):
    for name in "ab":
        (project / "masks" / name).rename(project / f"of {name}")
    named = [part for name in "ab" for part in ("--masks", f"{name}={project / f'of {name}'}")]
    assert pictures(run, project, *named) == 3
    assert pictures(run, project, *named[:2]) == 2


def test_a_label_that_a_mask_lacks_is_shown_when_it_was_asked_for(run, project):
    (project / "scores.csv").write_text("case,object,label,model,predicted_dice\nx,1,1,a,0.5\nx,1,3,a,0.1\n")
    options = ("--masks", project / "masks")
    assert pictures(run, project, *options) == 1
    assert pictures(run, project, *options, "--labels", "1,3") == 2


def test_images_with_nan_are_shown_as_they_were_scored(run, project):
    (project / "images" / "x.png").unlink()
    image = np.full((40, 50), 0.5, np.float32)
    image[0, 0] = np.nan
    Image.fromarray(image).save(project / "images" / "x.tif")
    options = ("--masks", project / "masks")
    assert pictures(run, project, *options) == 1
    assert pictures(run, project, *options, "--nan", "zero") == 3


def test_one_folder_of_masks_may_stand_in_the_configuration(run, project, monkeypatch):
    monkeypatch.chdir(project)
    (project / "segqa.toml").write_text('[report]\nimages = "images"\nmasks = "masks"\n')
    result = run("report", "scores.csv", "--out", "r.html")
    assert result.exit_code == 0, result.stderr
    assert (project / "r.html").read_text().count('src="data:image/webp') == 3
