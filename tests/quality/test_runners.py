import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from segqa.errors import InputError
from segqa.quality.runners import fold_norms, load_runner
from segqa.quality.scoring import load_evaluator
from segqa.quality.weights_file import metadata, read_info
from segqa.weights import hash_file


def one_line(call, *arguments, **options):
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folding_equals_convolution_then_norm():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 3, 1, 1)).astype(np.float32)
    parts = {name: rng.uniform(0.5, 2, 4).astype(np.float32) for name in ("weight", "bias", "running_mean")}
    parts["running_var"] = rng.uniform(0.5, 2, 4).astype(np.float32)
    tensors = {"conv.weight": weight, "head.bias": np.ones(1)} | {f"bn.{name}": part for name, part in parts.items()}
    folded = fold_norms(tensors, {"conv.weight": {"norm": "bn", "epsilon": 1e-3}})
    assert set(folded) == {"conv.weight", "conv.weight_bias", "head.bias"}
    pixel = rng.normal(size=3).astype(np.float32)
    plain = weight[:, :, 0, 0] @ pixel
    expected = (plain - parts["running_mean"]) / np.sqrt(parts["running_var"] + 1e-3) * parts["weight"] + parts["bias"]
    ours = folded["conv.weight"][:, :, 0, 0] @ pixel + folded["conv.weight_bias"]
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_both_runtimes_give_the_same_scores(tiny_weights):
    inputs = np.random.default_rng(1).normal(size=(4, 5, 32, 32)).astype(np.float32)
    onnx, torch = (load_runner(tiny_weights, runtime=name, device="cpu", threads=1) for name in ("onnx", "torch"))
    np.testing.assert_allclose(onnx.run(inputs)[0], torch.run(inputs)[0], atol=1e-4)
    assert onnx.name.startswith("onnxruntime ")
    assert onnx.name.endswith(" on cpu")
    assert torch.name.startswith("torch ")


def test_a_tensor_beyond_half_precision_is_stored_in_single_and_read_by_both_runtimes(tiny_weights, tmp_path):
    pytest.importorskip("torch")
    from segqa.quality.storage import load_network, save_network

    network, path = load_network(tiny_weights), tmp_path / "large.safetensors"
    network.backbone.bn1.running_var[0] = 1e5
    save_network(network, path, {"licence": "Apache-2.0"})
    single = {name for name, tensor in load_file(path).items() if tensor.dtype == np.float32}
    assert single == {"backbone.bn1.running_var"}
    inputs = np.random.default_rng(1).normal(size=(4, 5, 32, 32)).astype(np.float32)
    expected = load_runner(tiny_weights, runtime="torch", device="cpu")
    expected._network.load_state_dict(network.state_dict())
    for name in ("onnx", "torch"):
        found = load_runner(path, runtime=name, device="cpu", threads=1).run(inputs)
        np.testing.assert_allclose(found[0], expected.run(inputs)[0], atol=1e-4)


def test_torch_threads_are_limited_while_a_network_runs_and_then_the_callers_again(tiny_weights):
    torch = pytest.importorskip("torch")
    inputs, own, seen = np.zeros((1, 5, 32, 32), np.float32), torch.get_num_threads(), []

    def ask():
        """Say how many threads a new thread of the process would take."""
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    torch.set_num_threads(3)
    try:
        runner = load_runner(tiny_weights, runtime="torch", device="cpu", threads=1)
        network = runner._network
        runner._network = lambda inputs: seen.append(torch.get_num_threads()) or network(inputs)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(runner.run, [inputs] * 40))
        runner.run(inputs)
        assert (torch.get_num_threads(), ask()) == (3, 3)
    finally:
        torch.set_num_threads(own)
    assert seen == [1] * 41


def test_batch_mates_do_not_change_a_score(tiny_weights):
    inputs = np.random.default_rng(2).normal(size=(5, 5, 32, 32)).astype(np.float32)
    runner = load_runner(tiny_weights, threads=1)
    together = runner.run(inputs)[0]
    alone = np.concatenate([runner.run(inputs[i : i + 1])[0] for i in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    others = inputs.copy()
    others[1:] = 1e3
    np.testing.assert_allclose(runner.run(others)[0][0], together[0], atol=1e-6)


def test_weights_without_a_graph_run_on_torch(rewrite):
    alone = rewrite()
    alone.with_suffix(".onnx").unlink()
    assert load_runner(alone, device="cpu").name.startswith("torch")
    assert "no graph beside the weights" in one_line(load_runner, alone, runtime="onnx")


def test_a_graph_of_another_network_is_refused(rewrite):
    def change(tensors):
        for name in [name for name in tensors if name.startswith("belief.")]:
            del tensors[name]

    assert "get both files again" in one_line(load_runner, rewrite(change))


def test_weights_that_lack_a_norm_are_refused(rewrite):
    lost = rewrite(lambda tensors: tensors.pop("backbone.bn1.running_var"))
    assert "backbone.bn1.running_var" in one_line(load_runner, lost)


def test_a_tensor_of_another_shape_is_refused(rewrite):
    def change(tensors):
        tensors["heads.dice.weight"] = tensors["heads.dice.weight"][:, :-3].copy()

    assert "a.onnx" in one_line(load_runner, rewrite(change))


def test_a_damaged_graph_is_refused(rewrite):
    weights = rewrite()
    weights.with_suffix(".onnx").write_bytes(b"not a graph")
    assert "a.onnx" in one_line(load_runner, weights)


def test_weights_that_are_not_finite_are_refused(rewrite):
    def change(tensors):
        tensors["heads.dice.bias"][:] = np.inf

    assert "hold NaN or infinite values (heads.dice.bias)" in one_line(load_runner, rewrite(change))


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95pickle", b"\xff" * 64], ids=["empty", "pickle", "huge header"])
def test_what_is_not_safetensors_is_refused_by_name(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    text = one_line(load_evaluator, path)
    assert str(path) in text
    assert "not a whole safetensors file" in text


def test_truncated_weights_are_refused(tiny_weights, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(tiny_weights.read_bytes()[:-100])
    assert "not a whole safetensors file" in one_line(load_evaluator, path)


def test_weights_of_something_else_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"a": np.zeros(2)}, path)
    assert "not weights of a quality network" in one_line(load_evaluator, path)
    save_file({"a": np.zeros(2)}, path, metadata={"format": "segqa.quality", "version": "99"})
    assert "version '99'" in one_line(load_evaluator, path)


@pytest.mark.parametrize("block", [None, "{"], ids=["missing", "not json"])
def test_weights_that_do_not_say_what_they_are_are_refused(tmp_path, block):
    path = tmp_path / "odd.safetensors"
    said = metadata({}, {})
    said |= {"spec": block} if block else {}
    if block is None:
        del said["spec"]
    save_file({"a": np.zeros(2)}, path, metadata=said)
    assert "odd.safetensors" in one_line(load_evaluator, path)


def test_the_digest_of_weights_is_that_of_the_file_and_read_once(tiny_weights, monkeypatch):
    info, calls = read_info(tiny_weights), []
    monkeypatch.setattr("segqa.quality.weights_file.hash_file", lambda path: calls.append(path) or hash_file(path))
    assert info.sha256 == info.sha256 == hashlib.sha256(tiny_weights.read_bytes()).hexdigest()
    assert calls == [tiny_weights]


def test_missing_weights_are_named(tmp_path):
    assert "no such weights file" in one_line(load_evaluator, tmp_path / "none.safetensors")


def test_onnx_runtime_does_not_pretend_to_use_a_gpu(tiny_weights):
    assert "--device cuda" in one_line(load_runner, tiny_weights, runtime="onnx", device="cuda")


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_not_there_is_refused(tiny_weights, device):
    assert f"--device {device}: not available here" in one_line(load_runner, tiny_weights, device=device)


def test_scoring_imports_no_torch(tiny_weights):
    code = (
        "import sys, numpy as np; from pathlib import Path; "
        "from segqa.quality.scoring import load_evaluator, score_mask; "
        "mask = np.zeros((40, 50), bool); mask[10:20, 10:30] = True; "
        f"evaluator = load_evaluator(Path({str(tiny_weights)!r}), threads=1); "
        "print(score_mask(np.zeros((40, 50, 3), np.uint8), mask, evaluator)); "
        "print(sorted({'torch', 'timm', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    score, loaded = done.stdout.splitlines()
    assert 0 <= float(score) <= 1
    assert loaded == "[]"
