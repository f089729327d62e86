import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

from segqa.data.boxes import Box
from segqa.phantoms import make_phantom, spoil
from segqa.quality.records import Candidate, Record, pack_masks, write_shard


@pytest.fixture
def prepared(tmp_path):
    """A folder as `segqa prepare` leaves it, of a few phantoms."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    records = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        phantom = make_phantom(rng, side=64)
        truth, mask = phantom.truth == 1, spoil(phantom.truth, 0.8, rng) == 1
        candidate = Candidate("sam", "exact", Box.from_mask(truth), 0.5, 0.3, 1.0, 1.0, None, 0.0)
        pixels, labels = np.ascontiguousarray(phantom.image[..., :1]), phantom.truth.astype(np.uint8)
        name = f"c{seed}"
        records.append(Record(name, name, "phantoms", "1", "1", pixels, labels, 0.0, (candidate,), pack_masks([mask])))
    write_shard(folder / "shard-00000.safetensors", records)
    return folder


@pytest.mark.slow
def test_training_ends_with_weights_that_score(run, prepared, tmp_path):
    out = tmp_path / "mine.safetensors"
    options = ("--backbone", "test_efficientnet", "--size", 32, "--batch-size", 8, "--workers", 0, "--device", "cpu")
    result = run("train", prepared, "--out", out, "--examples", 16, *options)
    assert result.exit_code == 0
    assert result.stdout == f"{out} and {out.with_suffix('.onnx')} written\n"
    assert "16/16 examples, loss " in result.stderr
    run("demo", "--out", tmp_path / "demo", "--cases", 1)
    paths = (tmp_path / "demo/images", tmp_path / "demo/masks", "--output", tmp_path / "scores.csv")
    assert run("score", *paths, "--weights", out, "--device", "cpu").exit_code == 0


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
