from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from torch.nn import functional  # noqa: E402

from segqa import weights  # noqa: E402
from segqa.errors import InputError  # noqa: E402
from segqa.metrics import dice  # noqa: E402
from segqa.phantoms import make_phantom  # noqa: E402
from segqa.spe.cohorts import shrink_image, shrink_mask  # noqa: E402
from segqa.spe.engines import create_engine  # noqa: E402
from segqa.spe.universeg import (  # noqa: E402
    OFFICIAL_FILE,
    OFFICIAL_PARAMETERS,
    OWN_FILE,
    UniverSeg,
    find_weights,
    to_unit_grey,
    universeg_shapes,
)

# The published layout, written out by hand from the facts page rather than taken from the code under test.
OFFICIAL_CROSS = {
    "enc_blocks.0": (64, 3, 3, 3),
    "enc_blocks.1": (64, 128, 3, 3),
    "enc_blocks.2": (64, 128, 3, 3),
    "enc_blocks.3": (64, 128, 3, 3),
    "dec_blocks.0": (64, 256, 3, 3),
    "dec_blocks.1": (64, 256, 3, 3),
    "dec_blocks.2": (64, 256, 3, 3),
}


def generate_state(width: int = 64, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in universeg_shapes(width).items():
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 16
        state[name] = torch.randn(shape, generator=generator) * fan_in**-0.5
    return state


def plain_forward(state, query, support_images, support_masks):
    """The published network word by word: every pair is concatenated and convolved for itself."""

    def conv(maps, name):
        return functional.conv2d(maps, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def cross_block(name, u, v):
        pair = torch.cat([u.expand(len(v), -1, -1, -1), v], dim=1)
        mixed = conv(pair, f"{name}.cross.cross_conv")
        u = functional.leaky_relu(conv(mixed.mean(0, keepdim=True), f"{name}.target.vmapped.conv"), 0.01)
        v = functional.leaky_relu(conv(mixed, f"{name}.support.vmapped.conv"), 0.01)
        return u, v

    def double(maps):
        return functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)

    u, v, skips = query, torch.cat([support_images, support_masks], dim=1), []
    for i in range(4):
        u, v = cross_block(f"enc_blocks.{i}", u, v)
        if i < 3:
            skips.append((u, v))
            u, v = functional.max_pool2d(u, 2), functional.max_pool2d(v, 2)
    for i in range(3):
        skip_u, skip_v = skips.pop()
        u, v = torch.cat([double(u), skip_u], 1), torch.cat([double(v), skip_v], 1)
        u, v = cross_block(f"dec_blocks.{i}", u, v)
    return functional.conv2d(u, state["out_conv.conv.weight"], state["out_conv.conv.bias"])


def random_pairs(n: int, side: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((n, 1, side, side), generator=generator)
    masks = (torch.rand((n, 1, side, side), generator=generator) > 0.7).float()
    return images, masks


def test_the_layout_is_the_published_one():
    shapes = universeg_shapes(64)

    assert len(shapes) == 44
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == OFFICIAL_PARAMETERS == 1_182_785
    assert {name: shapes[f"{name}.cross.cross_conv.weight"] for name in OFFICIAL_CROSS} == OFFICIAL_CROSS


@pytest.mark.parametrize(("width", "n_support", "side"), [(64, 3, 32), (16, 7, 64), (8, 1, 40)])
@torch.inference_mode()
def test_the_factored_form_gives_the_logits_of_the_plain_network(width, n_support, side):
    state = generate_state(width)
    images, masks = random_pairs(n_support, side)
    query = random_pairs(1, side, seed=1)[0]
    network = UniverSeg(state)

    logits = network.forward(query, network.prepare(torch.cat([images, masks], dim=1)))

    expected = plain_forward(state, query, images, masks)
    assert expected.std() > 1e-3
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_everything_is_computed_on_the_device_that_is_asked_for():
    """PyTorch refuses operations on tensors of two devices; `meta` is one that every machine has."""
    network = UniverSeg(generate_state(8), device=torch.device("meta"))

    logits = network.forward(random_pairs(1, 32)[0], network.prepare(torch.cat(random_pairs(3, 32), dim=1)))

    assert (logits.device.type, logits.shape, logits.dtype) == ("meta", (1, 1, 32, 32), torch.float32)


@pytest.mark.parametrize("device", ["cuda:77", "abacus"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(InputError, match=rf"--device {device}: not available here"):
        create_engine("universeg", device=device)


def test_segment_gives_probabilities_of_the_plain_network_for_several_queries():
    state = generate_state(8)
    rng = np.random.default_rng(0)
    queries = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    supports = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    masks = rng.random((5, 32, 32)) > 0.5

    found = UniverSeg(state).segment(queries, supports, masks)

    grey = [torch.from_numpy(to_unit_grey(each))[:, None] for each in (queries, supports)]
    truth = torch.from_numpy(masks.astype(np.float32))[:, None]
    expected = [torch.sigmoid(plain_forward(state, query[None], grey[1], truth)) for query in grey[0]]
    np.testing.assert_allclose(found, torch.cat(expected)[:, 0].numpy(), atol=1e-5)


def test_the_order_of_the_support_does_not_matter():
    state = generate_state(8)
    images, masks = random_pairs(4, 32)
    pairs = torch.cat([images, masks], dim=1)
    query = random_pairs(1, 32, seed=1)[0]
    network = UniverSeg(state)

    forward, backward = (network.forward(query, network.prepare(each)) for each in (pairs, pairs.flip(0)))

    torch.testing.assert_close(forward, backward, atol=1e-5, rtol=0)


def test_bfloat16_stays_close_and_is_only_on_request():
    state = generate_state(8)
    images, masks = random_pairs(4, 32)
    pairs = torch.cat([images, masks], dim=1)
    query = random_pairs(1, 32, seed=1)[0]

    exact, rough = (
        (network := UniverSeg(state, precision=name)).forward(query, network.prepare(pairs))
        for name in ("fp32", "bf16")
    )

    assert 0 < (exact - rough).abs().max() < 0.1


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_the_official_layout_loads(tmp_path, suffix):
    state = generate_state()
    path = tmp_path / f"weights{suffix}"
    torch.save(state, path) if suffix == ".pt" else save_file(state, path)

    network = UniverSeg.from_file(path)

    assert network.width == 64
    assert len(network.settings["weights_sha256"]) == 64


def test_the_weights_hash_does_not_depend_on_the_file_format(tmp_path):
    state = generate_state(8)
    torch.save(state, tmp_path / "a.pt")
    save_file(state, tmp_path / "a.safetensors")

    hashes = {UniverSeg.from_file(path).settings["weights_sha256"] for path in tmp_path.iterdir()}

    assert len(hashes) == 1


def broken(change):
    state = generate_state(8)
    change(state)
    return state


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (broken(lambda s: s.pop("dec_blocks.1.support.vmapped.conv.bias")), "dec_blocks.1.support"),
        (broken(lambda s: s.update(other=torch.zeros(1))), "other"),
        (broken(lambda s: s.update({"out_conv.conv.bias": torch.zeros(2)})), "out_conv.conv.bias"),
        (broken(lambda s: s["out_conv.conv.bias"].fill_(float("nan"))), "NaN"),
        ({"other": torch.zeros(1)}, "44 missing"),
    ],
)
def test_a_wrong_layout_is_refused_by_name(tmp_path, state, said):
    path = tmp_path / "weights.pt"
    torch.save(state, path)

    with pytest.raises(InputError, match=said) as caught:
        UniverSeg.from_file(path)

    assert "weights.pt" in str(caught.value)
    assert "\n" not in str(caught.value)


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.parametrize("content", [Hostile(), [1, 2], {"a": 1}])
def test_a_checkpoint_that_is_more_than_tensors_is_refused_without_running_it(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")

    with pytest.raises(InputError, match=r"weights\.pt"):
        UniverSeg.from_file(tmp_path / "weights.pt")


@pytest.mark.parametrize("name", ["cut.pt", "cut.safetensors"])
def test_a_damaged_file_is_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"not weights at all")

    with pytest.raises(InputError, match=r"cut\.\w+: not a readable|cut\.\w+: refused"):
        UniverSeg.from_file(tmp_path / name)


@pytest.fixture
def no_official_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGQA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path


def test_segqa_s_own_weights_are_the_default(no_official_weights):
    assert find_weights() == weights.shipped_weights_dir() / OWN_FILE


@pytest.mark.parametrize("place", [f"hub/checkpoints/{OFFICIAL_FILE}", f"cache/{OFFICIAL_FILE}"])
def test_the_published_weights_replace_them(no_official_weights, place):
    official = no_official_weights / place
    official.parent.mkdir(parents=True)
    torch.save(generate_state(), official)

    engine = create_engine("universeg")

    assert find_weights() == official
    assert (engine.width, engine.side, engine.threshold) == (64, 128, 0.4)
    assert "research only (OpenRAIL++-M)" in engine.notice


def test_without_any_weights_the_published_file_and_its_place_are_named(no_official_weights, monkeypatch):
    monkeypatch.setattr(weights, "shipped_weights_dir", lambda: no_official_weights)

    with pytest.raises(InputError) as caught:
        find_weights()

    assert OFFICIAL_FILE in str(caught.value)
    assert "https://github.com/JJGO/UniverSeg/" in str(caught.value)


def test_the_own_weights_are_small_genuine_and_say_what_they_are(no_official_weights):
    path = find_weights()

    engine = create_engine("universeg")

    assert path.stat().st_size < 6e6
    assert weights.verify_weights(path).verdict == "genuine"
    assert (engine.width, engine.side) == (32, 64)
    assert OWN_FILE in engine.notice
    assert "CC BY-NC-SA 4.0" in engine.notice
    assert "OpenRAIL" not in engine.notice


def test_the_own_weights_learn_from_their_supports(no_official_weights):
    phantoms = [make_phantom(np.random.default_rng(seed)) for seed in range(13)]
    images = np.stack([shrink_image(phantom.image) for phantom in phantoms])
    engine = create_engine("universeg")
    found = []
    for label in (1, 2):
        masks = np.stack([shrink_mask(phantom.truth == label) for phantom in phantoms])
        found.append(engine.segment(images[:1], images[1:], masks[1:])[0] > engine.threshold)
    first, second = (shrink_mask(phantoms[0].truth == label) for label in (1, 2))

    # The same picture, other examples: what is looked for is what the examples show.
    assert dice(found[0], first) > dice(found[1], first) + 0.3
    assert dice(found[1], second) > dice(found[0], second) + 0.3


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"side": "63", "threshold": "0.4"}, "side 63"),
        ({"side": "64", "threshold": "1.4"}, "threshold 1.4"),
        ({"side": "64"}, "threshold"),
        ({"side": "wide", "threshold": "0.4"}, "wide"),
    ],
)
def test_metadata_that_make_no_sense_are_refused(tmp_path, metadata, said):
    save_file(generate_state(8), tmp_path / "own.safetensors", metadata=metadata)

    with pytest.raises(InputError, match=said) as caught:
        UniverSeg.from_file(tmp_path / "own.safetensors")

    assert str(caught.value).startswith("own.safetensors: ")


def test_canvases_are_averaged_to_the_side_of_the_weights(tmp_path):
    state = generate_state(8)
    save_file(state, tmp_path / "own.safetensors", metadata={"side": "64", "threshold": "0.5"})
    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(0, 256, (4, 128, 128, 1), dtype=np.uint8), 3, axis=-1)
    masks = rng.random((3, 128, 128)) > 0.5

    found = UniverSeg.from_file(tmp_path / "own.safetensors").segment(images[:1], images[1:], masks)

    halves = images[..., 0].astype(np.float32)
    halves = (halves[:, ::2, ::2] + halves[:, ::2, 1::2] + halves[:, 1::2, ::2] + halves[:, 1::2, 1::2]) / 4
    low, high = halves.min((1, 2), keepdims=True), halves.max((1, 2), keepdims=True)
    grey = torch.from_numpy((halves - low) / (high - low))[:, None]
    shares = functional.avg_pool2d(torch.from_numpy(masks[:, None].astype(np.float32)), 2)
    small = torch.sigmoid(plain_forward(state, grey[:1], grey[1:], shares))
    expected = functional.interpolate(small, size=(128, 128), mode="bilinear")[0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_a_constant_image_becomes_zero_and_not_nan():
    images = np.stack([np.full((8, 8, 3), 77, np.uint8), np.arange(192, dtype=np.uint8).reshape(8, 8, 3)])

    grey = to_unit_grey(images)

    assert (grey[0] == 0).all()
    assert grey[1].min() == 0
    assert grey[1].max() == pytest.approx(1)


@pytest.mark.slow
@torch.inference_mode()
def test_it_takes_a_third_of_the_plain_network_s_operations_with_sixteen_supports():
    """Operations, not seconds: a busy machine must not decide."""
    from torch.utils.flop_counter import FlopCounterMode

    state = generate_state()
    images, masks = random_pairs(16, 128)
    query = random_pairs(1, 128, seed=1)[0]
    network = UniverSeg(state)
    support = network.prepare(torch.cat([images, masks], dim=1))

    with FlopCounterMode(display=False) as fast:
        logits = network.forward(query, support)
    with FlopCounterMode(display=False) as plain:
        expected = plain_forward(state, query, images, masks)

    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert plain.get_total_flops() > 3 * fast.get_total_flops()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak memory of a process")
@pytest.mark.slow
def test_it_takes_at_most_a_fifth_of_the_plain_network_s_memory():
    command = [sys.executable, "-m", "benchmarks.spe.universeg_speed", "--width", "32", "--memory"]

    inputs, plain, ours = (float(subprocess.check_output([*command, side])) for side in ("nothing", "plain", "segqa"))

    assert plain - inputs > 1000
    assert ours - inputs <= (plain - inputs) / 5
