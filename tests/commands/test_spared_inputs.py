"""No output replaces a file that its command reads, or another output; each is refused before any work."""

from pathlib import Path

import pytest

from segqa.commands.results import keep_apart

CALLS = [
    "flag s.csv --junit s.csv",
    "flag s.csv --output ../here/s.csv",
    "rank s.csv --output s.csv",
    "rank s.csv --truth t.csv --output t.csv",
    "rank images --masks masks --calibration c.json --output c.json",
    "rank images --masks masks --reference i.png m.png --output m.png",
    "rank images --masks masks --truth segqa/scores.csv",
    "benchmark s.csv --output s.csv",
    "benchmark s.csv --truth t.csv --output t.csv",
    "evaluate masks truth --boxes c.json --output c.json",
    "evaluate masks truth --scores s.csv --output s.csv",
    "score images masks --boxes c.json --output c.json",
    "score images masks --calibration c.json --output c.json",
    "score images masks --reference i.png m.png --output m.png",
    "score images masks --boxes s.run.json --output s.csv",
    "report s.csv --output s.csv",
    "report s.csv --boxes c.json --output c.json",
    "report s.csv --images i.png --masks m.png --output i.png",
    "report s.csv --images i.png --masks m.png --output m.png",
    "report s.csv --images i.png --masks u=m.png --output m.png",
    "report s.csv --images i.png --masks m.png --error-maps --weights w.safetensors --output w.safetensors",
    "calibrate s.csv t.csv --out t.csv",
    "calibrate s.csv t.csv --out s.run.json",
    "calibrate-weights w.safetensors images --stand-in v.safetensors --out v.safetensors",
    "spe-estimate --bundle b.bundle --images images --predictions masks --junit b.bundle",
    "spe-estimate --bundle b.bundle --images i.png --predictions m.png --junit m.png",
    "spe-fit --train-images images --train-masks masks --test-images images --test-masks masks --predictions masks "
    "--engine universeg --engine-weights w.safetensors --out w.safetensors",
    "prepare images/records.csv --segmenter none --out images",
    "train images --initial w.safetensors --out w.safetensors",
    "weights average v.safetensors w.safetensors --out w.safetensors",
]

TWO_OUTPUTS = [
    "flag s.csv --output x.csv --junit x.csv",
    "flag s.csv --output x.csv --junit ../here/x.csv",
    "benchmark s.csv --output x.csv --plots x.csv",
    "benchmark s.csv --output x.csv --plots x.csv/figures",
    "rank s.csv --masks masks --output x.csv --copy-best x.csv",
    "rank images --masks masks --output segqa/new/../scores.csv",
    "rank images --masks masks --copy-best segqa/scores.csv",
    "score images masks --output x.csv --error-maps x.csv",
    "score images masks --output x.csv --error-maps x.run.json",
    "spe-fit --train-images images --train-masks masks --test-images images --test-masks masks --predictions masks "
    "--out x.bundle --plots x.bundle",
]


@pytest.mark.parametrize("call", CALLS)
def test_what_is_read_is_not_replaced(run, tmp_path, monkeypatch, call):
    if call.startswith(("train", "weights")):
        pytest.importorskip("torch")
        pytest.importorskip("timm")
    make_files(tmp_path, monkeypatch)
    assert_refused(run, tmp_path, call, ": is read by this command and would be replaced; write to another file\n")


@pytest.mark.parametrize("call", TWO_OUTPUTS)
def test_no_output_is_written_where_another_is(run, tmp_path, monkeypatch, call):
    if "--error-maps" in call:
        pytest.importorskip("torch")
    make_files(tmp_path, monkeypatch)
    end = ": this call would write something else there, too; give each output a place of its own\n"
    assert_refused(run, tmp_path, call, end)


def test_outputs_side_by_side_are_none_of_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for files, folder in (
        (("a.csv", "a.xml"), None),
        (("figures/a.csv",), "figures"),
        (("a.csv", None), "."),
        (("/dev/null", "/dev/null"), None),
    ):
        keep_apart(*(name and Path(name) for name in files), folder=folder and Path(folder))


def make_files(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in ("images", "masks", "truth", "segqa"):
        (tmp_path / "here" / folder).mkdir()
    names = ["s.csv", "t.csv", "c.json", "s.run.json", "i.png", "m.png", "v.safetensors", "w.safetensors", "b.bundle"]
    for name in (*names, "images/records.csv", "segqa/scores.csv"):
        (tmp_path / "here" / name).write_text("precious")


def assert_refused(run, tmp_path, call, end):
    before = sorted(tmp_path.rglob("*"))
    result = run(*call.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith(end)
    assert sorted(tmp_path.rglob("*")) == before
    assert {path.read_text() for path in before if path.is_file()} == {"precious"}
