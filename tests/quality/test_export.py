from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
for needed in ("timm", "onnx", "onnxscript"):
    pytest.importorskip(needed)

from segqa.quality.network import NetworkSpec, QualityNetwork  # noqa: E402
from segqa.quality.preprocessing import EVANYSEG, Profile  # noqa: E402
from segqa.quality.runners import load_runner  # noqa: E402
from segqa.quality.storage import load_network, save_network  # noqa: E402
from segqa.quality.weights_file import read_info  # noqa: E402


def assert_agreement(weights, *, channels, size):
    inputs = np.random.default_rng(0).normal(size=(3, channels, size, size)).astype(np.float32)
    ours = load_runner(weights, runtime="onnx", threads=1).run(inputs)
    with torch.inference_mode():
        theirs = load_network(weights)(torch.from_numpy(inputs))
    np.testing.assert_allclose(ours[0], theirs.scores.numpy(), atol=1e-4)
    np.testing.assert_allclose(ours[1], theirs.embedding.numpy(), atol=1e-4, rtol=1e-3)
    return ours[0]


def shake(network):
    """Give biases and norms the values of a trained network, so that folding is not a no-op and no two are equal."""
    for tensor in network.state_dict().values():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)


def test_onnx_runtime_and_torch_agree(tiny_weights):
    scores = assert_agreement(tiny_weights, channels=5, size=32)
    assert np.ptp(scores) > 1e-3  # they would agree on a constant too


def test_the_graph_holds_no_weights(tiny_weights):
    graph = tiny_weights.with_suffix(".onnx")
    assert graph.stat().st_size < tiny_weights.stat().st_size / 4


def test_every_batch_norm_behind_a_convolution_is_folded(tiny_weights):
    folds = read_info(tiny_weights).folds
    assert folds["backbone.conv_stem.weight"]["norm"] == "backbone.bn1"
    norms = [module for module in load_network(tiny_weights).modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(folds) == len(norms)


def test_the_graph_names_no_folder_of_the_machine_that_made_it(tiny_weights):
    content = tiny_weights.with_suffix(".onnx").read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content


@pytest.mark.slow
def test_the_network_that_ships_agrees_at_its_full_size(tmp_path):
    torch.manual_seed(0)
    network = QualityNetwork(NetworkSpec(Profile(), heads=("dice", "hd95")))
    assert network.spec.backbone == "tf_efficientnet_lite0"
    shake(network)
    save_network(network, tmp_path / "lite0.safetensors", {})
    assert_agreement(tmp_path / "lite0.safetensors", channels=5, size=Profile().size)


@pytest.mark.slow
def test_a_network_without_a_belief_agrees_too(tmp_path):
    torch.manual_seed(0)
    network = QualityNetwork(NetworkSpec(EVANYSEG, backbone="test_resnet", compare=False, bounded=False))
    shake(network)
    save_network(network, tmp_path / "paper.safetensors", {})
    assert_agreement(tmp_path / "paper.safetensors", channels=3, size=224)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "profile", "compare"),
    [("tiny_vit_5m_224", Profile(), True), ("test_vit", replace(EVANYSEG, size=160), False)],
)
def test_attention_takes_its_weights_from_the_file_too(tmp_path, backbone, profile, compare):
    torch.manual_seed(0)
    network = QualityNetwork(NetworkSpec(profile, backbone=backbone, compare=compare))
    shake(network)
    for name, tensor in network.state_dict().items():
        if name.endswith("attention_biases"):
            tensor.normal_()
    path = tmp_path / "attention.safetensors"
    save_network(network, path, {})
    assert_agreement(path, channels=profile.channels, size=profile.size)
    assert path.with_suffix(".onnx").stat().st_size < path.stat().st_size / 4
