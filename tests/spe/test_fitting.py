from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from segqa.errors import InputError
from segqa.spe.bundle import load_bundle, save_bundle
from segqa.spe.engines import SIDE
from segqa.spe.estimating import _warn_images, estimate
from segqa.spe.fitting import FitOptions, count_groups, find_models, fit_bundle, mapping_table, spread_left, with_mean
from segqa.spe.mapping import SPE_METRICS
from segqa.spe.novelty import find_novel


def middle_row(weights):
    return (weights.sum(axis=2) @ np.arange(128)) / weights.sum(axis=(1, 2))


class Shifter:
    """A fast stand-in: finds what is bright, moved by as much as the support masks are off what is bright."""

    name, threshold, is_cheap = "shifter", 0.5, True

    def __init__(self, weights="0"):
        self.settings = {"weights_sha256": weights}
        self.calls = 0

    def segment(self, queries, support_images, support_masks):
        self.calls += 1
        off = np.mean(middle_row(support_masks * 1.0) - middle_row(support_images[..., 0] > 140))
        found = np.roll(queries[..., 0] > 140, round(float(off)), axis=1)
        return found.astype(np.float32)

    def embed(self, images):
        return images[:, ::16, ::16, 0].reshape(len(images), -1).astype(np.float32)


def write_set(root, n, seed, shifts=(), labels=1):
    """Bright discs with their masks, and predictions of models that miss by so many pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    for name in ("images", "masks", *(f"predictions/shift{shift:02d}" for shift in shifts)):
        (root / name).mkdir(parents=True, exist_ok=True)
    for number in range(n):
        truth = np.zeros((64, 64), np.uint8)
        grey = 60 + 30 * gaussian_filter(rng.normal(size=(64, 64)), 2)
        for label in range(labels):
            cy, cx = rng.uniform(18, 30) + 20 * label, rng.uniform(18, 45)
            disc = (x - cx) ** 2 + (y - cy) ** 2 < rng.uniform(6, 11) ** 2
            truth[disc] = label + 1
            grey[disc] += 110
        Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(root / f"images/{number:02d}.png")
        Image.fromarray(truth).save(root / f"masks/{number:02d}.png")
        for shift in shifts:
            y0 = shift + int(rng.integers(0, 2))
            Image.fromarray(np.roll(truth, y0, axis=0)).save(root / f"predictions/shift{shift:02d}/{number:02d}.png")
    return root


def silent(cases, _description, _total):
    return cases


def fit(train, test, *, engine=None, options=None, resume=False, warn=pytest.fail):
    return fit_bundle(
        engine or Shifter(),
        (train / "images", train / "masks"),
        (test / "images", test / "masks"),
        test / "predictions",
        options=options or FitOptions(),
        journal=test / "journal",
        resume=resume,
        watch=silent,
        count=lambda measured, _: measured,
        warn=warn,
    )


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("spe")
    shifts = (0, 2, 4, 7, 10)
    return write_set(root / "train", 14, 0), write_set(root / "test", 25, 1, shifts)


@pytest.fixture(scope="module")
def bundle(sets):
    return fit(*sets)


def test_a_bundle_has_a_mapping_for_each_size_and_metric(bundle):
    assert bundle.settings.support_sizes == [24, 8]
    assert bundle.settings.models == ["shift00", "shift02", "shift04", "shift07", "shift10"]
    assert bundle.pseudo.shape == (2, 1, 5, 6)
    assert bundle.agreement.shape == (1, 5, 6)
    assert bundle.real[0, :, 0].tolist() == sorted(bundle.real[0, :, 0], reverse=True)
    assert mapping_table(bundle)["metric"].to_list() == list(SPE_METRICS)


def test_labels_that_were_not_taught_and_training_images_among_the_test_images_are_warned_of(tmp_path):
    train = write_set(tmp_path / "train", 10, 0)
    test = write_set(tmp_path / "test", 9, 1, (0, 3, 6, 9), labels=2)
    shutil.copy(train / "images" / "03.png", test / "images" / "03.png")

    said = []
    bundle = fit(train, test, warn=said.append)

    assert bundle.tasks == ["1"]
    assert said[0].startswith("labels 2 of the test set are in no training mask")
    assert said[1].startswith("1 of 9 test images are training images")


def test_one_training_image_is_measured_without_dividing_by_nothing(tmp_path):
    train = write_set(tmp_path / "train", 1, 0)
    bundle = fit(train, write_set(tmp_path / "test", 9, 1, (0, 3, 6, 9)))
    assert np.isfinite(bundle.pseudo).all()


def test_the_mean_of_several_labels_is_a_task_of_its_own(tmp_path):
    train = write_set(tmp_path / "train", 10, 0, labels=2)
    test = write_set(tmp_path / "test", 9, 1, (0, 3, 6, 9), labels=2)

    bundle = fit(train, test)

    assert bundle.tasks == ["1", "2", "mean"]
    np.testing.assert_allclose(bundle.real[2], bundle.real[:2].mean(axis=0))
    np.testing.assert_allclose(bundle.pseudo[:, 2], bundle.pseudo[:, :2].mean(axis=1))


def test_undefined_values_of_one_label_are_left_out_of_the_mean():
    values = np.array([[[[0.5], [np.nan]]]])

    assert with_mean(values)[0, :, 0, 0].tolist() == pytest.approx([0.5, np.nan, 0.5], nan_ok=True)


def test_the_spread_that_is_left_is_that_around_the_line_from_agreement_to_the_real_metric():
    rng = np.random.default_rng(0)
    agreement = rng.random((30, 2))
    real = 0.2 + 0.5 * agreement + rng.normal(0, 0.1, (30, 2))
    real[:4, 0] = np.nan

    left = spread_left(real, agreement, np.arange(30))

    for column, first in ((0, 4), (1, 0)):
        x, y = agreement[first:, column], real[first:, column]
        assert left[column] == pytest.approx(np.std(y - np.polyval(np.polyfit(x, y, 1), x), ddof=1))


def test_agreement_that_is_the_same_for_all_images_explains_nothing():
    real = np.arange(5.0)[:, None]

    assert spread_left(real, np.full((5, 1), 0.4), np.arange(5)) == pytest.approx(real.std(ddof=1))


def test_slices_that_repeat_their_volume_are_one_piece_of_evidence():
    """Each slice stored four times says nothing new: mean, spread over the volumes and their number stay."""
    rng = np.random.default_rng(1)
    volumes = np.repeat(np.arange(6), 5)
    agreement = rng.random((30, 1))
    real = 0.2 + 0.5 * agreement + rng.normal(0, 0.1, (6, 1))[volumes]

    once = spread_left(real, agreement, volumes)
    four = [np.repeat(each, 4, axis=0) for each in (real, agreement, volumes)]

    assert spread_left(*four) == pytest.approx(once)
    assert count_groups(four[0], four[2]).tolist() == [6]
    assert once > 2 * spread_left(real, agreement, np.arange(30)) / np.sqrt(5)  # as if slices were independent


def test_volumes_are_counted_where_some_slice_is_defined_and_a_sole_one_has_the_spread_of_its_slices():
    values = np.array([[0.1, np.nan], [0.5, np.nan], [0.9, 0.3]])

    assert count_groups(values, np.array([0, 0, 1])).tolist() == [2, 1]
    assert spread_left(values[:, :1], np.ones((3, 1)), np.zeros(3, int)) == pytest.approx(values[:, 0].std())


def test_a_fit_that_was_killed_anywhere_ends_in_the_same_bytes(sets, tmp_path):
    save_bundle(fit(*sets), tmp_path / "whole")
    journal = sets[1] / "journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    n_steps = len(lines) - 1  # behind the key

    for done in (1, n_steps // 2, n_steps - 1):
        engine = Shifter()
        journal.write_bytes(b"".join(lines[: 1 + done]))
        save_bundle(fit(*sets, engine=engine, resume=True), tmp_path / "resumed")
        assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()
        assert engine.calls == n_steps - done + 1  # one to measure agreement, which is not in the journal


def test_the_journal_s_key_follows_inputs_and_options_but_not_the_mapping(sets):
    def key_of(train, test, **given):
        fit(train, test, engine=Shifter(given.pop("weights", "0")), options=FitOptions(**given))
        return (test / "journal").read_bytes().splitlines()[0]

    base = key_of(*sets)

    assert key_of(*sets, mapping="linear") == base
    assert key_of(*sets, seed=1) != base
    assert key_of(*sets, repeats=2) != base
    assert key_of(*sets, weights="1") != base


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_models_are_refused_before_anything_is_read(tmp_path, n):
    for number in range(n):
        (tmp_path / "predictions" / str(number)).mkdir(parents=True)
    (tmp_path / "predictions").mkdir(exist_ok=True)

    with pytest.raises(InputError, match=f"{n} sub-folders of predictions"):
        find_models(tmp_path / "predictions")


def test_a_model_may_not_have_the_name_of_the_truth_and_hidden_folders_are_no_models(tmp_path):
    for name in ("a", "b", "c", ".cache"):
        (tmp_path / name).mkdir()
    assert list(find_models(tmp_path)) == ["a", "b", "c"]

    (tmp_path / "truth").mkdir()
    with pytest.raises(InputError, match="a model cannot be called 'truth'; rename the folder"):
        find_models(tmp_path)


def test_equal_models_are_refused(tmp_path):
    train, test = write_set(tmp_path / "train", 6, 0), write_set(tmp_path / "test", 5, 1, (4,))
    for copy in "abc":
        (test / "predictions" / copy).symlink_to(test / "predictions" / "shift04", target_is_directory=True)

    with pytest.raises(InputError, match="1 distinct points"):
        fit(train, test)


def apply(bundle, folder, model, *, engine=None, level=0.9):
    engine = engine or Shifter()
    return estimate(
        bundle,
        engine,
        folder / "images",
        folder / "predictions" / model,
        embedder=Shifter(),
        level=level,
        watch=silent,
    )


def test_the_test_set_itself_is_estimated_as_the_mapping_says(bundle, sets):
    rows = apply(bundle, sets[1], "shift04").rows

    index = bundle.settings.models.index("shift04")
    for row in rows:
        column = SPE_METRICS.index(row.metric)
        measured = np.array([bundle.pseudo[0, 0, index, column], bundle.agreement[0, index, column]])
        assert row.estimate.value == pytest.approx(bundle.mapping(0, 0, column).predict(measured[None])[0])
        assert [row.pseudo, row.agreement] == measured.tolist()
        assert row.n == 14


@pytest.mark.parametrize(("n", "size"), [(24, 0), (23, 1), (8, 1)])
def test_a_smaller_set_uses_the_mapping_of_its_own_size(bundle, tmp_path, n, size):
    new = write_set(tmp_path / "new", n, 5, (4,))

    found = apply(bundle, new, "shift04")

    mapping, measured = bundle.mapping(size, 0, 0), np.array([found.rows[0].pseudo, found.rows[0].agreement])
    assert bundle.settings.support_sizes == [24, 8]
    assert found.rows[0].estimate.value == pytest.approx(mapping.predict(measured[None])[0])
    assert not any("usable" in warning for warning in found.warnings)


def test_warnings_tell_of_few_predictions_training_images_and_extrapolation(bundle, sets, tmp_path):
    few = write_set(tmp_path / "few", 5, 5, (16,))
    known = estimate(
        bundle, Shifter(), sets[0] / "images", sets[0] / "masks", embedder=Shifter(), watch=silent
    ).warnings

    assert any("5 usable predictions" in text for text in apply(bundle, few, "shift16").warnings)
    assert any("extrapolated" in text for text in apply(bundle, few, "shift16").warnings)
    assert any("14 of 14 images are training images" in text for text in known)


def test_of_several_labels_a_warning_tells_which(tmp_path):
    train = write_set(tmp_path / "train", 10, 0, labels=2)
    bundle = fit(train, write_set(tmp_path / "test", 9, 1, (0, 3, 6), labels=2))
    new = write_set(tmp_path / "new", 9, 5, (14,), labels=2)

    told = [text for text in apply(bundle, new, "shift14").warnings if "extrapolated" in text]

    assert [text.partition(": ")[0] for text in told] == ["label 1", "label 2", "mean"]


def test_labels_that_the_bundle_lacks_are_told(bundle, tmp_path):
    new = write_set(tmp_path / "new", 9, 5, (2,), labels=2)
    assert apply(bundle, new, "shift02").warnings[0].startswith("labels 2 of the predictions are not in the bundle")


@pytest.mark.parametrize(("n_groups", "n_novel", "is_told"), [(10, 8, False), (10, 30, True), (500, 8, True)])
def test_of_few_training_groups_more_must_be_unlike_before_it_is_told(n_groups, n_novel, is_told):
    images = np.arange(30 * SIDE * SIDE * 3, dtype=np.uint32).astype(np.uint8).reshape(30, SIDE, SIDE, 3)
    images[:, 0, 0, 0] = range(30)
    warnings = _warn_images(images, 255 - images, np.arange(30) < n_novel, n_groups=n_groups)
    assert [text.split(" images")[0] for text in warnings] == ([f"{n_novel} of 30"] if is_told else [])


def test_unlike_images_are_told(bundle, tmp_path):
    new = write_set(tmp_path / "new", 9, 5, (2,))
    for path in (new / "images").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)

    found = apply(bundle, new, "shift02")

    assert found.novel_share == 1
    assert any("9 of 9 images are unlike the training images" in text for text in found.warnings)


def test_a_patient_whose_images_are_look_alikes_does_not_make_other_patients_novel():
    rng = np.random.default_rng(0)
    vectors = SimpleNamespace(embed=lambda images: images)
    known, new = (np.repeat(rng.normal(size=(200, 2)), 2, axis=0) + rng.normal(0, 1e-4, (400, 2)) for _ in range(2))
    patients = np.repeat(np.arange(200), 2)

    assert 0.01 < find_novel(vectors, new, known, patients).mean() < 0.12
    assert find_novel(vectors, new, known, np.arange(400)).mean() > 0.9  # as if look-alikes were other patients


def test_a_distance_is_usual_that_95_in_100_training_images_have_to_other_groups():
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 7, 40)
    known, new = rng.normal(size=(7, 3))[groups] + rng.normal(0, 0.1, (40, 3)), rng.normal(size=(60, 3))
    scaled, asked = known / known.std(axis=0), new / known.std(axis=0)
    own = [
        min(np.linalg.norm(a - b) for b, other in zip(scaled, groups, strict=True) if other != group)
        for a, group in zip(scaled, groups, strict=True)
    ]

    found = find_novel(SimpleNamespace(embed=lambda images: images), new, known, groups)

    expected = [min(np.linalg.norm(a - b) for b in scaled) > np.percentile(own, 95) for a in asked]
    assert found.tolist() == expected
    assert 0 < found.sum() < 60


def test_a_second_frame_of_each_training_patient_makes_no_image_novel(bundle, sets, tmp_path):
    train, new = tmp_path / "train", write_set(tmp_path / "new", 9, 5, (2,))
    for path in [*sets[0].glob("images/*"), *sets[0].glob("masks/*")]:
        (train / path.parent.name).mkdir(parents=True, exist_ok=True)
        for frame in range(2):
            shutil.copy(path, train / path.parent.name / f"patient{path.stem}_frame{frame}_s01.png")
    save_bundle(fit(train, sets[1]), tmp_path / "spe.bundle")

    found = apply(load_bundle(tmp_path / "spe.bundle"), new, "shift02")

    assert found.novel_share == apply(bundle, new, "shift02").novel_share < 1


def test_training_images_of_one_patient_tell_nothing_of_novelty(tmp_path):
    train = write_set(tmp_path / "train", 8, 0)
    for path in [*train.glob("images/*"), *train.glob("masks/*")]:
        path.rename(path.with_stem(f"patient1_s{path.stem}"))
    new = write_set(tmp_path / "new", 9, 5, (2,))
    for path in (new / "images").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)

    found = apply(fit(train, write_set(tmp_path / "test", 9, 1, (0, 3, 6))), new, "shift02")

    assert found.novel_share is None
    assert found.as_json()["novel_share"] is None
    assert not any("unlike" in text for text in found.warnings)


def test_five_in_a_hundred_images_like_the_training_images_are_novel():
    rng = np.random.default_rng(0)

    class Flat:
        def embed(self, images):
            return images.reshape(len(images), -1).astype(np.float32)

    known, new = (rng.integers(0, 256, (300, 1, 2, 1), dtype=np.uint8) for _ in range(2))

    assert 0.01 < find_novel(Flat(), new, known, np.arange(300)).mean() < 0.12


def test_novelty_is_measured_in_units_of_each_feature():
    rng = np.random.default_rng(0)
    vectors = SimpleNamespace(embed=lambda images: images)
    known, new = (rng.normal(size=(200, 2)) * [1, 1000] for _ in range(2))

    assert find_novel(vectors, new + np.array([10, 0]), known, np.arange(200)).all()


def test_the_half_width_of_a_mean_is_that_of_labels_whose_errors_are_independent(tmp_path):
    train = write_set(tmp_path / "train", 40, 0, labels=2)
    test = write_set(tmp_path / "test", 9, 1, (0, 3, 6), labels=2)
    bundle = fit(train, test, options=FitOptions(tolerance=0.9))

    width = {row.task: row.half_width for row in apply(bundle, test, "shift03").rows if row.metric == "dice"}

    assert min(width.values()) > 0
    assert width["mean"] == pytest.approx(np.hypot(width["1"], width["2"]) / 2)


def test_json_has_one_entry_a_metric_and_labels_apart(tmp_path):
    train = write_set(tmp_path / "train", 10, 0, labels=2)
    test = write_set(tmp_path / "test", 9, 1, (0, 3, 6, 9), labels=2)

    found = apply(fit(train, test), test, "shift03").as_json()

    assert list(found["metrics"]) == list(SPE_METRICS)
    assert set(found["metrics"]["dice"]) == {"estimate", "lower", "upper", "n"}
    assert list(found["labels"]) == ["1", "2"]
    assert found["warnings"] == []


def test_other_weights_than_the_bundle_s_are_refused(bundle, sets):
    with pytest.raises(InputError, match="other weights"):
        apply(bundle, sets[1], "shift04", engine=Shifter("1"))


def test_predictions_that_are_all_too_small_are_one_line(bundle, tmp_path):
    new = write_set(tmp_path / "new", 4, 5, (2,))
    for path in (new / "predictions" / "shift02").iterdir():
        dot = np.zeros((64, 64), np.uint8)
        dot[3, 3] = 1
        Image.fromarray(dot).save(path)

    with pytest.raises(InputError, match="no prediction of label 1 has 10 foreground pixels"):
        apply(bundle, new, "shift02")


def test_an_estimate_needs_nothing_but_the_bundle(bundle, sets, tmp_path):
    save_bundle(bundle, tmp_path / "spe.bundle")

    results = [apply(load_bundle(tmp_path / "spe.bundle"), sets[1], "shift07") for _ in range(2)]

    assert results[0] == results[1]
