from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("onnx")

import torch
from typer.testing import CliRunner

from segqa.commands.weights import app
from segqa.errors import InputError
from segqa.quality.averaging import average_weights
from segqa.quality.scoring import load_evaluator
from segqa.quality.storage import load_network, save_network
from segqa.quality.weights_file import read_info


def write_trained(path, start, seed, **card):
    """Write the network of a file, without a graph, with every tensor moved a little: as if it was trained further."""
    network = load_network(start)
    random = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.1 * torch.rand(tensor.shape, generator=random))
    about = {"recipe": "segqa", "licence": "MIT", "examples": 16, "plan": {"seed": seed}, "mixture": {}}
    curve = [{"examples": 16, "loss": 0.5}]
    save_network(network, path, about | {"records": {"phantoms": 3}, "curve": curve} | card)
    return path


@pytest.fixture
def trained(tiny_weights, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("segqa.quality.storage.export_graph", lambda network, path: {})  # takes seconds
        one = write_trained(tmp_path / "one.safetensors", tiny_weights, 1)
        return one, write_trained(tmp_path / "two.safetensors", tiny_weights, 2, records={"more": 5})


def call(*arguments):
    outcome = CliRunner().invoke(app, ["average", *map(str, arguments)])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome


def test_the_mean_is_that_of_every_tensor_by_its_share(trained, tmp_path, without_graphs):
    out = tmp_path / "deep" / "mean.safetensors"
    average_weights(trained, out, [3, 1])
    one, two = (load_network(path).state_dict() for path in trained)
    for name, tensor in load_network(out).state_dict().items():
        if tensor.is_floating_point():
            expected = 0.75 * one[name].double() + 0.25 * two[name].double()
            np.testing.assert_allclose(tensor.double(), expected, rtol=2**-10, atol=1e-7, err_msg=name)


def test_the_same_mean_is_the_same_file(trained, tmp_path, without_graphs):
    files = [tmp_path / f"{number}.safetensors" for number in range(6)]
    for path in files:
        average_weights(trained, path, [3, 1])
    assert len({path.read_bytes() for path in files}) == 1


def test_file_and_graph_score_alike_and_the_card_names_what_was_averaged(trained, tmp_path):
    out = tmp_path / "mean.safetensors"
    result = call(*trained, "--out", out)
    assert result.stdout == f"{out}, its graph (mean.onnx) and card (mean.md) written\n"
    info = read_info(out)
    assert info.card["records"] == {"phantoms": 3, "more": 5}
    assert info.card["average_of"] == [
        {"file": path.name, "sha256": read_info(path).sha256, "share": 0.5} for path in trained
    ]
    assert f"| one.safetensors | 0.5000 | {read_info(trained[0]).sha256} |" in out.with_suffix(".md").read_text()
    by_graph, by_torch = (load_evaluator(out, runtime=name, device="cpu", threads=1) for name in ("onnx", "torch"))
    profile = by_graph.profile
    inputs = list(np.random.default_rng(0).uniform(0, 1, (4, profile.channels, profile.size, profile.size)))
    inputs = [each.astype(np.float32) for each in inputs]
    np.testing.assert_allclose(by_graph.judge(inputs), by_torch.judge(inputs), atol=1e-4)


@pytest.mark.parametrize(
    ("shares", "told"),
    [("1,x", "numbers with commas"), ("1", "one number of 0 or more"), ("-1,2", "one number"), ("0,0", "one number")],
)
def test_shares_that_do_not_fit_are_refused(trained, tmp_path, shares, told):
    with pytest.raises(InputError, match=rf"--shares {shares}: .*{told}"):
        call(*trained, "--out", tmp_path / "mean.safetensors", f"--shares={shares}")
    assert not (tmp_path / "mean.safetensors").exists()


def test_one_file_is_no_mean_and_another_network_or_origin_has_none(trained, tiny_weights, tmp_path, without_graphs):
    out = tmp_path / "mean.safetensors"
    with pytest.raises(InputError, match=r"one\.safetensors: two or more"):
        call(trained[0], "--out", out)
    with pytest.raises(InputError, match=r"tiny\.safetensors: is not of `segqa train`"):
        call(trained[0], tiny_weights, "--out", out)
    network = load_network(trained[0])
    network.spec = replace(network.spec, profile=replace(network.spec.profile, margin=0.5))
    save_network(network, tmp_path / "other.safetensors", read_info(trained[0]).card)
    with pytest.raises(InputError, match=r"other\.safetensors: is another network than .*one\.safetensors"):
        call(trained[0], tmp_path / "other.safetensors", "--out", out)
    with pytest.raises(InputError, match=r"mean\.pt: a name that ends in \.safetensors"):
        call(*trained, "--out", tmp_path / "mean.pt")
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_refused(trained, tmp_path):
    (tmp_path / "file.txt").write_text("mine")
    with pytest.raises(InputError, match=r"mean\.safetensors: cannot be written"):
        call(*trained, "--out", tmp_path / "file.txt" / "mean.safetensors")
    assert (tmp_path / "file.txt").read_text() == "mine"
