import re

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

SMALL = ("--backbone", "test_efficientnet", "--size", 32, "--batch-size", 8, "--workers", 0, "--device", "cpu")


@pytest.mark.slow
def test_training_ends_with_weights_that_score(run, prepared, tmp_path):
    out = tmp_path / "mine.safetensors"
    result = run("train", prepared, "--out", out, "--examples", 16, *SMALL)
    assert result.exit_code == 0
    assert result.stdout == f"{out}, its graph (mine.onnx) and card (mine.md) written\n"
    assert "16/16 examples, loss " in result.stderr
    card = out.with_suffix(".md").read_text()
    last = re.search(r"\| 16 \| (\d\.\d{4}) \|", card.split("## Loss")[1])
    assert last
    assert f"16/16 examples, loss {last[1]}" in result.stderr
    check = re.search(r"\| 16 \| (\S+) \| (\S+) \|", card.split("## Validation")[1])
    assert check
    assert f"validation pearson {check[1]}, validation mae {check[2]}" in result.stderr
    assert "- batch size: 8" in card
    run("demo", "--out", tmp_path / "demo", "--cases", 1)
    paths = (tmp_path / "demo/images", tmp_path / "demo/masks", "--output", tmp_path / "scores.csv")
    assert run("score", *paths, "--weights", out, "--device", "cpu").exit_code == 0


def test_a_finished_training_is_not_resumed(run, prepared, tmp_path, without_graphs):
    out = tmp_path / "mine.safetensors"
    call = ("train", prepared, "--out", out, "--examples", 8, *SMALL)
    run(*call)
    written = out.stat().st_mtime_ns
    result = run(*call, "--resume")
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"{out}: this training is finished already" in result.stderr
    assert out.stat().st_mtime_ns == written
    assert "8/8 examples" in run(*call).stderr


@pytest.mark.parametrize(
    ("precision", "native", "said"),
    [("auto", True, "True"), ("auto", False, "False"), ("bf16", False, "True"), ("fp32", True, "False")],
)
def test_bfloat16_is_chosen_where_the_device_computes_in_it(
    run, prepared, tmp_path, monkeypatch, without_graphs, precision, native, said
):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: native)
    out = tmp_path / "mine.safetensors"
    result = run("train", prepared, "--out", out, "--examples", 8, *SMALL, "--precision", precision)
    assert result.exit_code == 0
    assert f"- bfloat16: {said}\n" in out.with_suffix(".md").read_text()


def test_a_folder_without_shards_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run("train", tmp_path / "empty", "--out", tmp_path / "mine.safetensors", "--device", "cpu")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {tmp_path / 'empty'}: no shards of `segqa prepare`")


@pytest.mark.parametrize("heads", ["hd95", "dice,dice", "dice,beauty", ""])
def test_unknown_heads_are_refused(run, prepared, tmp_path, heads):
    result = run("train", prepared, "--out", tmp_path / "mine.safetensors", "--heads", heads, "--device", "cpu")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--heads {heads}: dice, or dice,hd95 was expected" in result.stderr


@pytest.mark.parametrize("name", ["file.txt/mine.safetensors", "folder.safetensors"])
def test_a_place_that_cannot_be_written_is_refused_before_the_first_example(run, prepared, tmp_path, monkeypatch, name):
    monkeypatch.setattr("segqa.quality.training.Trainer.run", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "file.txt").write_text("mine")
    (tmp_path / "folder.safetensors").mkdir()
    result = run("train", prepared, "--out", tmp_path / name, "--examples", 8, *SMALL)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{name}: cannot be written (" in result.stderr


@pytest.mark.parametrize(("held", "patience"), [(True, 0), (True, 2), (False, 0), (False, 2)])
def test_nothing_to_validate_with_is_said_and_patience_refused(
    run, prepare_phantoms, tmp_path, monkeypatch, held, patience
):
    monkeypatch.setattr("segqa.quality.library.group_share", lambda group: 0.0 if held and "held" in group else 1.0)
    folder = prepare_phantoms(["held", "phantoms"])
    monkeypatch.setattr("segqa.quality.training.Trainer.run", lambda *_, **__: iter(()))
    monkeypatch.setattr("segqa.quality.training.Trainer.save_weights", lambda *_: None)
    monkeypatch.setattr("segqa.commands.train.hand_over_weights", lambda out: None)
    result = run(
        "train", folder, "--out", tmp_path / "mine.safetensors", "--examples", 8, "--patience", patience, *SMALL
    )
    assert result.exit_code == (2 if patience and not held else 0)
    assert ("no group of the records is held out to validate with" in result.stderr) == (not held)
    assert ("error: --patience 2: " in result.stderr) == (patience == 2 and not held)
