import math
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from safetensors.numpy import load_file  # noqa: E402

from segqa.data.boxes import Box  # noqa: E402
from segqa.errors import InputError  # noqa: E402
from segqa.phantoms import make_phantom, spoil  # noqa: E402
from segqa.quality.finishing import is_finished, train_to_file  # noqa: E402
from segqa.quality.losses import overlap_loss, ranking_loss  # noqa: E402
from segqa.quality.network import NetworkSpec, QualityNetwork, overlaps  # noqa: E402
from segqa.quality.preprocessing import Profile  # noqa: E402
from segqa.quality.records import Candidate, Record, pack_masks  # noqa: E402
from segqa.quality.sampling import Mixture  # noqa: E402
from segqa.quality.storage import load_network  # noqa: E402
from segqa.quality.training import Plan, Trainer  # noqa: E402
from segqa.quality.weights_file import read_info  # noqa: E402

SPEC = NetworkSpec(Profile(size=32), backbone="test_efficientnet")
PLAN = Plan(examples=64, batch_size=8, workers=0, bfloat16=False, learning_rate=3e-3)


def phantom_record(seed):
    rng = np.random.default_rng(seed)
    phantom = make_phantom(rng, side=64)
    truth, mask = phantom.truth == 1, spoil(phantom.truth, 0.8, rng) == 1
    dice = 2 * float((mask & truth).sum()) / float(mask.sum() + truth.sum())
    box = Box.from_mask(truth)
    candidate = Candidate("sam", "exact", box, dice, dice / (2 - dice), 1.0, 1.0, None, 0.0, box)
    pixels, labels = np.ascontiguousarray(phantom.image[..., :1]), phantom.truth.astype(np.uint8)
    return Record(f"c{seed}", f"c{seed}", "phantoms", "1", "1", pixels, labels, 0.0, (candidate,), pack_masks([mask]))


@pytest.fixture(scope="module")
def records():
    return [phantom_record(seed) for seed in range(6)]


def make_trainer(records, plan=PLAN, spec=SPEC, **options):
    return Trainer(records, [], spec, plan, mixture=Mixture(), **options)


def weights_of(trainer):
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


@pytest.mark.slow
def test_a_short_training_lowers_the_loss_and_reports_how_it_goes(records):
    plan = replace(PLAN, examples=320, batch_size=16)
    trainer = Trainer(records, records[:2], SPEC, plan, mixture=Mixture(vary=False, turn=False))
    progress = list(trainer.run(report_every=64, validate_every=10**9))
    assert [step.examples for step in progress] == [64, 128, 192, 256, 320]
    assert progress[-1].loss < 0.9 * progress[0].loss
    assert progress[0].validation is None
    assert set(progress[-1].validation) == {"pearson", "mae"}
    assert progress[-1].line(320).startswith("320/320 examples, loss ")
    assert [row["examples"] for row in trainer.curve] == [64, 128, 192, 256, 320]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_stopped_training_goes_on_exactly(records, tmp_path, workers):
    plan = replace(PLAN, examples=48, workers=workers)
    whole = make_trainer(records, plan)
    list(whole.run(report_every=16))
    stopped = make_trainer(records, plan)
    run = stopped.run(report_every=16)
    next(run)
    stopped.save_state(tmp_path / "state")
    run.close()
    torch.manual_seed(12345)  # what the new process does before does not matter
    resumed = make_trainer(records, plan)
    resumed.load_state(tmp_path / "state")
    assert resumed.done == 16
    list(resumed.run(report_every=16))
    assert resumed.done == whole.done == 48
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(resumed)[name]), name
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(tensor, resumed.average.state_dict()[name]), name
    assert resumed.curve == whole.curve


@pytest.mark.parametrize("change", [{"learning_rate": 1e-4}, {"seed": 3}, {"examples": 65}])
def test_a_state_of_another_plan_is_refused(records, tmp_path, change):
    make_trainer(records).save_state(tmp_path / "run.state")
    with pytest.raises(InputError, match=r"run\.state: is of a training with other data, another plan or network"):
        make_trainer(records, replace(PLAN, **change)).load_state(tmp_path / "run.state")


def test_a_state_of_another_network_or_mixture_is_refused(records, tmp_path):
    make_trainer(records).save_state(tmp_path / "run.state")
    for other in (
        make_trainer(records, spec=replace(SPEC, heads=("dice", "hd95"))),
        Trainer(records, [], SPEC, PLAN, mixture=Mixture(wrong=0.0)),
    ):
        with pytest.raises(InputError, match="another plan or network"):
            other.load_state(tmp_path / "run.state")


def test_a_state_of_other_data_is_refused(records, tmp_path):
    state = tmp_path / "run.state"
    Trainer(records[:4], records[4:], SPEC, PLAN, mixture=Mixture()).save_state(state)
    other_mask = replace(records[0], candidates=(replace(records[0].candidates[0], source="medsam"),))
    for training, validation in (
        (records[:3], records[4:]),
        (records[:4], records[5:]),
        (records[1::-1] + records[2:4], records[4:]),
        ([other_mask, *records[1:4]], records[4:]),
    ):
        with pytest.raises(InputError, match="other data, another plan or network"):
            Trainer(training, validation, SPEC, PLAN, mixture=Mixture()).load_state(state)


def test_a_training_goes_on_with_its_data_sets_in_another_order(records, tmp_path):
    others = [replace(record, dataset="others") for record in records]
    make_trainer([*records, *others]).save_state(tmp_path / "run.state")
    make_trainer([*others, *records]).load_state(tmp_path / "run.state")


@pytest.mark.slow
def test_a_training_goes_on_exactly_with_another_number_of_workers(records, tmp_path):
    plan = replace(PLAN, examples=32)
    whole, first = make_trainer(records, plan), make_trainer(records, plan)
    list(whole.run())
    list(first.run(stop_after=16))
    first.save_state(tmp_path / "run.state")
    second = make_trainer(records, replace(plan, workers=2))
    second.load_state(tmp_path / "run.state")
    list(second.run())
    assert all(torch.equal(tensor, weights_of(second)[name]) for name, tensor in weights_of(whole).items())


def test_the_same_seed_trains_the_same_network(records):
    plan = replace(PLAN, examples=16)
    trained = []
    for _ in range(2):
        trainer = make_trainer(records, plan)
        list(trainer.run())
        trained.append(weights_of(trainer))
    assert all(torch.equal(tensor, trained[1][name]) for name, tensor in trained[0].items())


def test_a_date_is_a_seed(records):
    trainer = make_trainer(records, replace(PLAN, examples=16, seed=20261126))
    list(trainer.run())
    assert trainer.done == 16


def test_fewer_examples_than_a_batch_are_refused(records):
    with pytest.raises(InputError, match=f"--examples 3: one batch of {PLAN.batch_size} or more"):
        make_trainer(records, replace(PLAN, examples=3))


def test_a_training_that_diverges_ends_and_writes_no_weights(records, tmp_path, monkeypatch):
    trainer = make_trainer(records)
    monkeypatch.setattr("segqa.quality.training.ranking_loss", lambda scores, _targets: scores.sum() * math.nan)
    with pytest.raises(InputError, match=r"the loss is nan after 0 examples; .* less than --learning-rate 0\.003"):
        list(train_to_file(trainer, tmp_path / "a.safetensors", recipe="x", counts={}))
    assert not (tmp_path / "a.safetensors").exists()
    assert all(tensor.isfinite().all() for tensor in trainer.network.state_dict().values())


def test_the_rate_rises_then_falls_as_a_cosine(records):
    trainer = make_trainer(records, replace(PLAN, examples=1000, warm_up=0.1, learning_rate=1.0))
    rates = []
    for done in range(0, 1000, 10):
        trainer.done = done
        rates.append(trainer._rate())
    assert np.argmax(rates) in (9, 10)
    assert (np.diff(rates[:10]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[55] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)) + 0.002, abs=1e-6)


def test_rare_tenths_of_the_dice_range_count_more(records):
    trainer = make_trainer(records)
    dice = torch.tensor([0.95] * 30 + [0.15] * 2)
    for _ in range(50):
        weights = trainer._weights(dice)
    assert weights[-1] > 3 * weights[0]
    assert weights.mean().item() == pytest.approx(1, abs=1e-5)


def test_the_ranking_loss_equals_a_loop_over_pairs():
    rng = np.random.default_rng(0)
    scores, targets = rng.random(9), rng.random(9)
    total = weight = 0.0
    for i in range(9):
        for j in range(9):
            if targets[i] > targets[j]:
                gap = targets[i] - targets[j]
                total += gap * math.log1p(math.exp(-10 * (scores[i] - scores[j])))
                weight += gap
    assert ranking_loss(torch.tensor(scores), torch.tensor(targets)).item() == pytest.approx(total / weight)


def test_the_ranking_loss_prefers_the_right_order_and_is_zero_without_pairs():
    targets = torch.tensor([0.1, 0.5, 0.9])
    assert ranking_loss(targets, targets) < ranking_loss(targets.flip(0), targets)
    assert ranking_loss(torch.tensor([0.2, 0.4]), torch.tensor([0.5, 0.5])).item() == 0


def test_validation_is_pearson_and_mean_absolute_error_of_the_drawn_masks(records, monkeypatch):
    trainer = Trainer(records, records[:2], SPEC, PLAN, mixture=Mixture())
    guesses = np.linspace(0, 1, 20, dtype=np.float32)
    left = list(guesses)
    monkeypatch.setattr(trainer, "predict", lambda inputs: np.array([[left.pop(0)] for _ in inputs]))
    true = [float(trainer.validation.draw(index).targets[0]) for index in range(20)]
    found = trainer.validate(20)
    assert found["mae"] == pytest.approx(np.mean(np.abs(guesses - true)))
    assert found["pearson"] == pytest.approx(np.corrcoef(guesses, true)[0, 1])


def test_the_overlap_loss_is_one_minus_soft_dice():
    rng = np.random.default_rng(2)
    logits, truth = rng.normal(size=(3, 1, 5, 5)).astype(np.float32), rng.random((3, 1, 5, 5)).astype(np.float32)
    dice = [
        (2 * (p * t).sum() + 1) / ((p + t).sum() + 1) for p, t in zip(1 / (1 + np.exp(-logits)), truth, strict=True)
    ]
    assert overlap_loss(torch.tensor(logits), torch.tensor(truth)).item() == pytest.approx(1 - np.mean(dice), rel=1e-5)


@pytest.mark.slow
def test_a_training_without_progress_ends_early_with_the_best_average(records, tmp_path, monkeypatch):
    trainer = make_trainer(records, replace(PLAN, examples=800, patience=2))
    scores = iter([0.3, 0.8, 0.5, 0.6, 0.9])
    seen = []

    def validate():
        seen.append({name: tensor.clone() for name, tensor in trainer.average.state_dict().items()})
        return {"pearson": next(scores), "mae": 0.1}

    monkeypatch.setattr(trainer, "validate", validate)
    list(trainer.run(report_every=16, validate_every=16))
    assert len(seen) == 4  # two checks in a row without a better one
    trainer.save_state(tmp_path / "run.state")
    again = make_trainer(records, replace(PLAN, examples=800, patience=2))
    again.load_state(tmp_path / "run.state")
    again.save_weights(tmp_path / "best.safetensors", {})
    stored = load_file(tmp_path / "best.safetensors")
    weight = seen[1]["backbone.conv_stem.weight"].numpy()
    np.testing.assert_array_equal(stored["backbone.conv_stem.weight"], weight.astype(np.float16))
    assert not torch.equal(seen[1]["backbone.conv_stem.weight"], seen[3]["backbone.conv_stem.weight"])


def test_overlaps_equal_their_definitions():
    rng = np.random.default_rng(1)
    logits, mask = rng.normal(size=(2, 1, 6, 6)).astype(np.float32), rng.random((2, 1, 6, 6)).astype(np.float32)
    box = np.zeros((2, 1, 6, 6), np.float32)
    box[0, 0, 1:4, 2:6] = 1
    found = overlaps(torch.tensor(logits), torch.tensor(mask), torch.tensor(box)).numpy()
    for row, belief, shown, asked in zip(found, 1 / (1 + np.exp(-logits)), mask, box, strict=True):
        common, believed, masked, boxed = (belief * shown).sum(), belief.sum(), shown.sum(), asked.sum()
        undecided = (belief * (1 - belief)).sum()
        ratios = [2 * common / (believed + masked + 1), common / (masked + 1), common / (believed + 1)]
        extents = []  # columns and rows of the mask, then of the belief
        for plane in (shown[0], belief[0]):
            for axis in (0, 1):
                taken, wanted = plane.max(axis=axis), asked[0].max(axis=axis)
                extents.append(np.minimum(taken, wanted).sum() / (np.maximum(taken, wanted).sum() + 1))
        expected = [
            *ratios,
            *(math.log(ratio / (1 - ratio)) for ratio in ratios),
            believed / 36,
            masked / 36,
            undecided / (believed + 1),
            float(boxed > 0),
            (shown * asked).sum() / (boxed + 1),
            (shown * asked).sum() / (masked + 1),
            (belief * asked).sum() / (believed + 1),
        ]
        np.testing.assert_allclose(row, [*expected, *extents], rtol=1e-5, atol=1e-6)


def test_overlaps_of_an_empty_mask_are_finite():
    nothing = torch.zeros(1, 1, 6, 6)
    found = overlaps(torch.full((1, 1, 6, 6), 30.0), nothing, nothing).numpy()[0]
    assert (found[:3] == 0).all()
    np.testing.assert_allclose(found[3:6], math.log(0.01 / 0.99), rtol=1e-5)
    assert (found[9:] == 0).all()


def test_bounded_scores_stay_in_range_and_heads_come_in_order():
    network = QualityNetwork(replace(SPEC, heads=("dice", "hd95"))).eval()
    output = network(torch.randn(3, 5, 32, 32) * 50)
    assert output.scores.shape == (3, 2)
    assert 0 <= output.scores.min() <= output.scores.max() <= 1
    assert output.belief.shape == (3, 1, 8, 8)
    assert list(network.heads) == ["dice", "hd95"]


def test_a_spec_survives_its_dictionary():
    spec = NetworkSpec(Profile(size=64, margin=0.1), backbone="resnet18", heads=("dice", "hd95"), compare=False)
    assert NetworkSpec.from_dict(spec.to_dict()) == spec


def one_line(path, **options):
    with pytest.raises(InputError) as caught:
        load_network(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_written_network_is_read_back_in_half_precision(tiny_weights):
    network = load_network(tiny_weights)
    assert not network.training
    assert network.spec == SPEC
    assert read_info(tiny_weights).card == {"licence": "Apache-2.0", "recipe": "untrained"}
    stored = load_file(tiny_weights)
    assert all(tensor.dtype == np.float16 for tensor in stored.values())
    weight = network.state_dict()["backbone.conv_stem.weight"].numpy()
    np.testing.assert_array_equal(weight, stored["backbone.conv_stem.weight"].astype(np.float32))


def test_missing_and_further_tensors_are_refused(rewrite):
    lost = rewrite(lambda tensors: tensors.pop("heads.dice.weight"))
    assert "heads.dice.weight" in one_line(lost)
    more = rewrite(lambda tensors: tensors.update(extra=np.zeros(2, np.float16)))
    assert "extra" in one_line(more)


def test_weights_that_are_not_finite_are_refused(rewrite):
    def poison(tensors):
        tensors["heads.dice.weight"][0, 0] = np.nan

    assert "hold NaN or infinite values (heads.dice.weight)" in one_line(rewrite(poison))


class _Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_is_refused_and_never_run(tmp_path):
    path, trace = tmp_path / "evil.safetensors", tmp_path / "trace"
    path.write_bytes(pickle.dumps(_Trap(str(trace))))
    assert "pickled checkpoints" in one_line(path)
    assert not trace.exists()


def test_a_file_of_another_layout_is_refused(tiny_weights):
    assert "do not fit" in one_line(tiny_weights, spec=replace(SPEC, heads=("dice", "hd95")))


@pytest.mark.slow
def test_training_to_a_file_leaves_weights_graph_and_card_and_no_state(records, tmp_path):
    out = tmp_path / "deep" / "mine.safetensors"
    plan = replace(PLAN, examples=16)
    progress = list(train_to_file(make_trainer(records, plan), out, recipe="segqa", counts={"phantoms": 6}))
    assert progress[-1].examples == 16
    assert sorted(path.name for path in out.parent.iterdir()) == ["mine.onnx", "mine.safetensors"]
    card = read_info(out).card
    assert card["records"] == {"phantoms": 6}
    assert card["plan"] == asdict(plan)
    assert card["curve"][-1]["examples"] == 16


def test_a_killed_training_leaves_its_state_to_resume_from(records, tmp_path):
    out = tmp_path / "mine.safetensors"
    plan = replace(PLAN, examples=16)
    run = train_to_file(make_trainer(records, plan), out, recipe="segqa", counts={})
    next(run)
    run.close()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.state"]
    resumed = make_trainer(records, plan)
    resumed.load_state(tmp_path / "mine.state")
    assert resumed.done == 16


def test_a_paused_training_keeps_its_state_and_goes_on_exactly(records, tmp_path, without_graphs):
    plan = replace(PLAN, examples=32)
    whole, parted = tmp_path / "whole.safetensors", tmp_path / "parted.safetensors"
    list(train_to_file(make_trainer(records, plan), whole, recipe="segqa", counts={}))
    paused = list(train_to_file(make_trainer(records, plan), parted, recipe="segqa", counts={}, stop_after=16))
    assert paused[-1].examples == 16
    assert read_info(parted).card["examples"] == 16
    list(train_to_file(make_trainer(records, plan), parted, recipe="segqa", counts={}, resume=True))
    assert not parted.with_suffix(".state").exists()
    expected = load_network(whole).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_network(parted).state_dict().items())


def test_a_finished_training_is_not_resumed_and_its_weights_stay(records, tmp_path, without_graphs):
    plan, out = replace(PLAN, examples=16), tmp_path / "mine.safetensors"
    assert not is_finished(make_trainer(records, plan), out)
    list(train_to_file(make_trainer(records, plan), out, recipe="segqa", counts={}, stop_after=8))
    out.with_suffix(".state").unlink()
    assert not is_finished(make_trainer(records, plan), out)  # of a pause whose state was lost
    list(train_to_file(make_trainer(records, plan), out, recipe="segqa", counts={}))
    written = out.stat().st_mtime_ns
    again = make_trainer(records, replace(plan, workers=1))
    assert is_finished(again, out)
    assert list(train_to_file(again, out, recipe="segqa", counts={}, resume=True)) == []
    assert out.stat().st_mtime_ns == written
    assert not is_finished(make_trainer(records[:5], plan), out)
    assert not is_finished(make_trainer(records, replace(plan, seed=1)), out)


def test_initial_weights_are_taken_over(records, tiny_weights):
    trainer = make_trainer(records, initial=tiny_weights)
    expected = load_network(tiny_weights).state_dict()
    name = "backbone.conv_stem.weight"
    assert torch.equal(trainer.network.state_dict()[name], expected[name])
