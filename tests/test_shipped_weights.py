"""What the weights that ship must be able to do, on pictures that they have never seen."""

import numpy as np
import pytest

from segqa.data.boxes import Box
from segqa.phantoms import make_phantom
from segqa.quality.scoring import load_evaluator, score_mask
from segqa.weights import DEFAULT_EVALUATOR, find_weights


@pytest.fixture(scope="module")
def evaluator():
    return load_evaluator(find_weights(DEFAULT_EVALUATOR), runtime="onnx", device="cpu", threads=1)


@pytest.mark.parametrize("mistake", ["empty", "shifted", "swapped"])
def test_the_true_mask_scores_higher_than_a_wrong_one(evaluator, mistake):
    differences = []
    for seed in range(12):
        phantom = make_phantom(np.random.default_rng(seed))
        truth = phantom.truth == 1
        wrong = {
            "empty": np.zeros_like(truth),
            "shifted": np.roll(truth, int(np.sqrt(truth.sum()) / 2), axis=1),
            "swapped": phantom.truth == 2,
        }[mistake]
        box = Box.from_mask(truth)
        good, bad = (score_mask(phantom.image, mask, evaluator, box=box) for mask in (truth, wrong))
        differences.append(good - bad)
    assert np.mean(differences) > 0.1
    assert np.mean(np.array(differences) > 0) > 0.8
