import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from segqa.errors import InputError
from segqa.quality.calibration import (
    Calibration,
    read_calibration,
    render_interval,
    use_interval,
    write_calibration,
)
from segqa.quality.intervals import Interval
from segqa.quality.novelty import fit_novelty, fit_reference
from segqa.quality.scoring import load_evaluator
from segqa.quality.weights_file import metadata, read_info

INTERVAL = Interval(level=0.9, reach=0.3, widening=0.5, n_groups=20, n_objects=400)


def make_calibration(features, *, heads=("dice",)):
    embeddings = np.random.default_rng(0).normal(size=(50, features)).astype(np.float32)
    reference = fit_reference(embeddings)
    novelty = fit_novelty(reference, reference.distances(embeddings))
    return Calibration(dict.fromkeys(heads, INTERVAL), novelty, {"groups": "data sets"})


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "any.safetensors"
    tensors = {"a.weight": np.arange(6, dtype=np.float16).reshape(2, 3)}
    save_file(tensors, path, metadata=metadata({}, {"licence": "MIT"}) | {"source_sha256": "abc"})
    return path


def test_weights_give_back_the_calibration_that_was_written(weights):
    assert read_calibration(weights) is None
    calibration = make_calibration(8)
    write_calibration(weights, calibration, weights)
    again = read_calibration(weights)
    assert (again.intervals, again.about) == (calibration.intervals, calibration.about)
    embeddings = np.random.default_rng(1).normal(size=(9, 8)).astype(np.float32)
    np.testing.assert_array_equal(again.novelty.of(embeddings), calibration.novelty.of(embeddings))


def test_a_place_that_cannot_be_written_is_refused(weights):
    with pytest.raises(InputError, match=r"new\.safetensors: cannot be written"):
        write_calibration(weights, make_calibration(8), weights / "new.safetensors")


def test_the_network_and_what_the_file_says_stay_as_they_were(weights, tmp_path):
    target = tmp_path / "new.safetensors"
    for source in (weights, target):  # the second time a calibration is replaced
        write_calibration(source, make_calibration(8), target)
        tensors = load_file(target)
        assert tensors["a.weight"].dtype == np.float16
        np.testing.assert_array_equal(tensors["a.weight"], np.arange(6).reshape(2, 3))
        assert sorted(tensors) == ["a.weight", "calibration.axes", "calibration.centre", "calibration.known"]
        assert read_info(target).card == {"licence": "MIT"}
        from segqa.weights import read_metadata

        assert read_metadata(target)["source_sha256"] == "abc"
    assert read_calibration(weights) is None


def test_a_damaged_calibration_is_refused_in_one_line(weights):
    from segqa.weights import read_metadata

    save_file(load_file(weights), weights, metadata=read_metadata(weights) | {"calibration": "{}"})
    with pytest.raises(InputError, match="its calibration cannot be read") as caught:
        read_calibration(weights)
    assert "\n" not in str(caught.value)


def test_both_runtimes_score_calibrated_weights_alike(tiny_weights, tmp_path):
    inputs = list(np.random.default_rng(1).normal(size=(6, 5, 32, 32)).astype(np.float32))
    plain = load_evaluator(tiny_weights, runtime="onnx", device="cpu", threads=1)
    scores, embeddings = plain.look(inputs)
    path = tmp_path / "tiny.safetensors"
    reference = fit_reference(embeddings[:4])
    novelty = fit_novelty(reference, np.linspace(0, 30, 60))
    write_calibration(tiny_weights, Calibration({"dice": INTERVAL}, novelty, {}), path)
    path.with_suffix(".onnx").write_bytes(tiny_weights.with_suffix(".onnx").read_bytes())
    found = []
    for name in ("onnx", "torch"):
        judge = load_evaluator(path, runtime=name, device="cpu", threads=1)
        ours, where = judge.look(inputs)
        np.testing.assert_allclose(ours, scores, atol=1e-4)
        shares = judge.calibration.novelty.of(where)
        found.append(np.stack([shares, *judge.calibration.intervals["dice"].around(ours[:, 0], shares)]))
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    assert np.ptp(found[0][0]) > 0.01


def write_own(path, *, sha256="abc", **changes):
    content = json.loads(render_interval(INTERVAL, weights_sha256=sha256, about={})) | changes
    path.write_text(json.dumps(content))
    return path


def test_a_users_interval_takes_the_place_of_that_of_the_weights(tmp_path):
    theirs = make_calibration(8, heads=("dice", "hd95"))
    other = Interval(0.8, 0.1, 0.0, 9, 9)
    path = tmp_path / "calibration.json"
    path.write_text(render_interval(other, weights_sha256="abc", about={"groups": "cases"}))
    used = use_interval(path, theirs, weights="abc")
    assert used.intervals == {"dice": other, "hd95": INTERVAL}
    assert used.about == {"groups": "cases"}
    assert used.novelty is theirs.novelty
    assert use_interval(path, None, weights="abc").intervals == {"dice": other}


def test_a_calibration_of_other_weights_or_another_form_is_refused(tmp_path):
    path = tmp_path / "calibration.json"
    theirs = make_calibration(8)
    assert use_interval(write_own(path, sha256=None), theirs, weights="abc").intervals["dice"] == INTERVAL
    for own in ({"sha256": "other"}, {"version": 99}, {"schema": "segqa.scores"}):
        with pytest.raises(InputError, match=r"calibration\.json: was made for"):
            use_interval(write_own(path, **own), theirs, weights="abc")
    with pytest.raises(InputError, match="was made for"):  # it widens with a novelty that is not known
        use_interval(write_own(path), None, weights="abc")
    for text in ("", "[]", '{"intervals": {"dice": {"reach": 1}}}'):
        path.write_text(text)
        with pytest.raises(InputError, match="not a calibration"):
            use_interval(path, theirs, weights="abc")


def test_following_the_advice_on_a_file_that_is_no_calibration_does_not_overwrite_it(tmp_path):
    scores = tmp_path / "scores.csv"
    scores.write_text("case,object\n")
    with pytest.raises(InputError, match=r"scores\.csv: not a calibration .* --out calibration\.json`"):
        use_interval(scores, None, weights="abc")
