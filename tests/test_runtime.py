from pathlib import Path

import pytest

from segqa import runtime


@pytest.fixture
def only(monkeypatch):
    """Pretend that of the optional packages only these are installed."""

    def pretend(*packages):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in packages else None)

    return pretend


@pytest.mark.parametrize("driver", ["/dev/nvidiactl", "/dev/kfd", "/dev/dxg"])
def test_a_driver_s_device_is_reason_to_ask_torch_for_a_gpu(monkeypatch, driver):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == driver)
    assert runtime._may_have_gpu()
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    assert not runtime._may_have_gpu()


def test_training_is_refused_before_it_begins_where_its_result_could_not_be_written(only, run, tmp_path):
    only("torch", "timm", "onnx")  # the extra torch, and onnx by accident

    for command in (("train", tmp_path), ("weights", "average", tmp_path / "a.safetensors")):
        result = run(*command, "--out", tmp_path / "w.safetensors")
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert "pip install 'segqa[train]'" in result.stderr


@pytest.mark.parametrize(("name", "extra"), [("litemedsam", "litemedsam"), ("sam-vit-b", "sam"), ("medsam", "sam")])
def test_a_segmenter_without_torch_names_the_extra_that_brings_all_it_needs(only, run, tmp_path, name, extra):
    assert run("demo", "--out", tmp_path / "demo", "--cases", 1).exit_code == 0
    only()

    images, truth = tmp_path / "demo" / "images", tmp_path / "demo" / "truth"
    result = run("prepare", images, truth, "--segmenter", name, "--out", tmp_path / "out")

    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        f"error: --segmenter {name} needs the extra '{extra}': pip install 'segqa[{extra}]'"
    )
