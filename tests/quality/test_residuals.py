import numpy as np
import pytest

from segqa.data.boxes import Box
from segqa.errors import InputError
from segqa.phantoms import make_phantom, spoil
from segqa.quality.library import Library
from segqa.quality.preprocessing import Profile
from segqa.quality.records import Candidate, Record, pack_masks
from segqa.quality.residuals import Fold, calibrate, make_fold
from segqa.quality.scoring import Evaluator
from segqa.quality.weights_file import CheckpointInfo


def make_record(dataset, group, seed, *, prompt="exact"):
    rng = np.random.default_rng(seed)
    phantom = make_phantom(rng, side=64)
    mask = spoil(phantom.truth, 0.8, rng) == 1
    box = Box.from_mask(mask)
    candidate = Candidate("sam", prompt, box, 0.5, 0.3, 1.0, 1.0, None, 0.0, box)
    labels = phantom.truth.astype(np.uint8)
    pixels = np.ascontiguousarray(phantom.image[..., :1])
    return Record(f"c{seed}", group, dataset, "1", "1", pixels, labels, 0.0, (candidate,), pack_masks([mask]))


class Guess:
    """A runner that says the same of every mask."""

    name = "guess"

    def __init__(self, score, n_heads=1):
        self.score = score
        self.n_heads = n_heads

    def run(self, inputs):
        scores = np.full((len(inputs), self.n_heads), self.score, np.float32)
        return scores, inputs[:, :, ::8, ::8].reshape(len(inputs), -1)


def make_judge(folder, trained_on, *, score=0.5, heads=("dice",)):
    card = {"records": dict.fromkeys(trained_on, 1)} if trained_on else {}
    info = CheckpointInfo(folder / "judge.safetensors", {}, card, {})
    return Evaluator(info, Guess(score, len(heads)), Profile(size=32), heads)


@pytest.fixture(scope="module")
def library():
    training = [make_record(name, f"g{i}", i) for name in ("a", "b", "c") for i in range(2)]
    validation = [make_record(name, f"v{i}", 10 + i) for name in ("a", "b", "c") for i in range(4)]
    validation.append(make_record("a", "only wrong boxes", 30, prompt="wrong"))
    return Library(training, validation)


def names(records):
    return {record.dataset for record in records}


def test_an_evaluator_of_all_data_sets_is_judged_on_held_out_groups(library, tmp_path):
    fold = make_fold(make_judge(tmp_path, ["a", "b", "c"]), library)
    assert (fold.seen, fold.unseen) == (library.training, library.validation)


def test_an_evaluator_without_a_data_set_is_judged_on_all_of_it(library, tmp_path):
    for judge, leave_out in ((make_judge(tmp_path, ["a", "b"]), []), (make_judge(tmp_path, []), ["c"])):
        fold = make_fold(judge, library, leave_out)
        assert (names(fold.seen), names(fold.unseen)) == ({"a", "b"}, {"c"})
        assert len(fold.unseen) == 6


def test_an_evaluator_of_unknown_origin_is_refused(library, tmp_path):
    for judge in (make_judge(tmp_path, []), make_judge(tmp_path, ["elsewhere"])):
        with pytest.raises(InputError, match=r"judge\.safetensors: .* --leave-out"):
            make_fold(judge, library)


def test_cases_are_the_groups_where_data_sets_are_few(library, tmp_path):
    judge = make_judge(tmp_path, ["a", "b", "c"])
    fold = make_fold(judge, library)
    calibration = calibrate(judge, fold.seen, [fold], n_masks=36)
    interval = calibration.intervals["dice"]
    assert (interval.n_groups, interval.n_objects, interval.level) == (12, 36, 0.9)
    assert calibration.about["groups"] == "cases"
    assert calibration.about["data_sets"] == ["a", "b", "c"]
    low = calibrate(judge, fold.seen, [fold], level=0.7, n_masks=36)
    assert (low.intervals["dice"].n_groups, low.about["groups"]) == (3, "data sets")


def test_too_few_groups_are_refused_before_any_mask_is_judged(library, tmp_path):
    judge = make_judge(tmp_path, ["a", "b", "c"])
    judge.runner.run = None
    few = Fold(judge, library.training, library.validation[:5])
    with pytest.raises(InputError, match=r"5 groups .* of 2 data sets: .* needs at least 9"):
        calibrate(judge, library.training, [few])


def test_the_same_seed_gives_the_same_calibration(library, tmp_path):
    judge = make_judge(tmp_path, ["a", "b", "c"])
    fold = make_fold(judge, library)
    first, second, other = (calibrate(judge, fold.seen, [fold], n_masks=36, seed=seed) for seed in (0, 0, 1))
    assert first.intervals == second.intervals
    np.testing.assert_array_equal(first.novelty.known, second.novelty.known)
    assert first.intervals != other.intervals


def test_stand_ins_judge_and_the_evaluator_gives_the_reference(library, tmp_path):
    own = make_judge(tmp_path, ["a", "b", "c"], score=0.5)
    stand_ins = [make_judge(tmp_path, set("abc") - {name}, score=0.0) for name in "abc"]
    folds = [make_fold(judge, library) for judge in stand_ins]
    calibration = calibrate(own, library.training, folds, level=0.7, n_masks=36)
    assert calibration.intervals["dice"].n_groups == 3
    # a stand-in that says 0 is off by whole Dice scores, in units of the least spread
    assert calibration.intervals["dice"].reach > 10


def test_a_head_whose_truth_nobody_knows_has_no_interval(library, tmp_path):
    # EvanySeg's own second head: a Hausdorff distance in pixels of the crop.
    plain, more = (make_judge(tmp_path, ["a", "b", "c"], heads=heads) for heads in (("dice",), ("dice", "hd")))
    found = [calibrate(judge, library.training, [make_fold(judge, library)], n_masks=36) for judge in (plain, more)]
    assert found[1].intervals == found[0].intervals


def test_a_stand_in_of_other_heads_is_refused(library, tmp_path):
    judge = make_judge(tmp_path, ["a", "b", "c"], heads=("dice", "hd95"))
    other = make_judge(tmp_path, ["a", "b"])
    with pytest.raises(InputError, match=r"predicts dice where judge\.safetensors predicts dice,hd95; .*--heads"):
        calibrate(judge, library.training, [make_fold(other, library)], n_masks=36)
