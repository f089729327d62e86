"""The in-context network's training: same network as the product's, learns, resumes exactly, exports exactly."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402
from safetensors import safe_open  # noqa: E402

from benchmarks.incontext import training as loop  # noqa: E402
from benchmarks.incontext.__main__ import Watch  # noqa: E402
from benchmarks.incontext.augmentation import augment, shrink  # noqa: E402
from benchmarks.incontext.card import measure, read_curve  # noqa: E402
from benchmarks.incontext.export import describe, write  # noqa: E402
from benchmarks.incontext.generated import generate_task  # noqa: E402
from benchmarks.incontext.network import InContextNetwork  # noqa: E402
from benchmarks.incontext.tasks import MIN_PIXELS, Pairs, Task, find_sets, read_tasks  # noqa: E402
from benchmarks.incontext.training import Settings, Training, draw_step, train  # noqa: E402
from benchmarks.incontext.validation import validate  # noqa: E402
from segqa.spe.universeg import UniverSeg, universeg_shapes  # noqa: E402

TINY = Settings(
    width=8, side=16, n_steps=8, n_small=0, pairs_per_step=4, n_warm_up=1, share_generated=0.5, bfloat16=False
)


def make_task(n: int = 12, seed: int = 0) -> Task:
    """Bright discs somewhere; two images a patient."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:128, :128]
    centres, radii = rng.uniform(40, 88, (n, 2, 1, 1)), rng.uniform(15, 30, (n, 1, 1))
    masks = np.hypot(y - centres[:, 0], x - centres[:, 1]) < radii
    images = np.where(masks, 200, 60) + rng.integers(-20, 20, masks.shape)
    pairs = Pairs(images.astype(np.uint8), masks.astype(np.uint8))
    return Task("discs", "disc", pairs, np.arange(n) // 2, np.arange(n))


@torch.inference_mode()
def test_the_trainable_network_is_the_product_s():
    network = InContextNetwork(8, seed=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    product = UniverSeg(network.state_dict())
    generator = torch.Generator().manual_seed(0)
    queries, supports = (torch.rand(shape, generator=generator) for shape in ((2, 1, 32, 32), (2, 5, 2, 32, 32)))

    logits = network(queries, supports)

    pairs = zip(queries, supports, strict=True)
    expected = torch.cat([product.forward(query[None], product.prepare(own)) for query, own in pairs])
    assert expected.std() > 1e-3
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_the_state_has_the_published_layout():
    state = InContextNetwork(64).state_dict()

    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == universeg_shapes(64)


def test_training_lowers_the_loss_on_a_generated_task():
    settings = loop.replace(TINY, learning_rate=1e-2, share_generated=1)
    training = Training(settings, [make_task()])
    losses = []
    for _ in range(25):
        training.step = 4  # the same tasks each time
        losses.append(training.take_step())

    assert losses[-1] < 0.7 * losses[0]


def test_a_killed_training_resumes_to_the_same_bytes(tmp_path):
    tasks = [make_task()]

    def run(folder, stops):
        folder.mkdir()
        for stop in stops:
            training = Training(TINY, tasks)
            kill = KillAt(stop)
            try:
                train(training, folder / "checkpoint.pt", watch=kill, every=2)
            except KeyboardInterrupt:
                assert training.step == stop
        write(folder / "weights.safetensors", training.average, describe(TINY, training.step, 0.5))
        return (folder / "weights.safetensors").read_bytes()

    assert run(tmp_path / "killed", [2, 6, 8]) == run(tmp_path / "whole", [8])


class KillAt:
    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, training: Training, loss: float) -> None:
        assert np.isfinite(loss)
        if training.step == self.step < training.settings.n_steps:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("step", "change", "may"),
    [
        (5, {"n_steps": 20}, True),
        (7, {"n_steps": 20}, False),  # the rate falls already
        (5, {"n_small": 6}, False),
        (5, {"n_small": 0, "n_steps": 9}, True),
    ],
)
def test_the_length_may_be_changed_only_as_long_as_nothing_depended_on_it(tmp_path, step, change, may):
    training = Training(TINY, [make_task()])
    training.step = step
    training.save(tmp_path / "checkpoint.pt")
    longer = Training(loop.replace(TINY, **change), [make_task()])

    if may:
        longer.load(tmp_path / "checkpoint.pt")
        assert longer.step == step
    else:
        with pytest.raises(SystemExit, match="other settings"):
            longer.load(tmp_path / "checkpoint.pt")


def test_another_width_is_another_training(tmp_path):
    Training(TINY, [make_task()]).save(tmp_path / "checkpoint.pt")

    with pytest.raises(SystemExit, match="other settings"):
        Training(loop.replace(TINY, width=16), [make_task()]).load(tmp_path / "checkpoint.pt")


def test_a_step_s_tasks_depend_on_seed_and_number_only():
    tasks, weights = [make_task()], np.ones(1)

    first, again, other = (draw_step(TINY, tasks, weights, step) for step in (7, 7, 8))

    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])


def test_the_first_steps_are_at_half_the_side():
    settings = loop.replace(TINY, side=32, n_small=3)

    sides = [draw_step(settings, [make_task()], np.ones(1), step)[0].shape[-1] for step in (2, 3)]

    assert sides == [16, 32]


def test_supports_come_from_other_patients():
    task = make_task()

    for seed in range(20):
        query, *supports = task.choose(4, np.random.default_rng(seed), replace=True)
        assert task.groups[query] not in task.groups[supports]


@pytest.mark.parametrize("seed", range(8))
def test_generated_tasks_have_foreground_in_every_pair(seed):
    images, masks = generate_task(5, np.random.default_rng(seed))

    assert images.shape == masks.shape == (5, 128, 128)
    assert masks.sum((1, 2)).min() >= MIN_PIXELS
    assert np.ptp(images.reshape(5, -1), axis=1).min() > 0


def test_a_task_whose_objects_are_all_out_of_sight_is_drawn_anew(monkeypatch):
    blank = [np.zeros((3, 128, 128), np.int64), np.zeros((3, 128, 128), np.int64)]
    blank[1][:, :20, :20] = 1
    for name in ("_grow_regions", "_place_blobs"):
        monkeypatch.setattr(f"benchmarks.incontext.generated.{name}", lambda n_pairs, rng: blank.pop(0))

    _, masks = generate_task(3, np.random.default_rng(0))

    assert (masks.sum((1, 2)) == 400).all()


@pytest.mark.parametrize("seed", range(6))
def test_image_and_mask_are_deformed_alike(seed, monkeypatch):
    task = make_task()
    monkeypatch.setattr("benchmarks.incontext.augmentation._change_target", lambda masks, rng: masks)
    monkeypatch.setattr("benchmarks.incontext.augmentation._change_intensities", lambda images, rng: images)
    drawn = Pairs(task.pairs.masks * np.uint8(255), task.pairs.masks)

    images, masks = augment(drawn, np.random.default_rng(seed))

    assert torch.equal(images > 0.5, masks > 0.5)
    assert not torch.equal(masks[:, 0], torch.from_numpy(task.pairs.masks).float())


def test_shrinking_stretches_images_and_keeps_the_share_of_the_mask():
    images, masks = torch.linspace(0.2, 0.6, 128 * 128).view(1, 1, 128, 128), torch.zeros(1, 1, 128, 128)
    masks[..., :3] = 1

    small_images, small_masks = shrink(images, masks, 64)

    assert small_images.shape == small_masks.shape == (1, 1, 64, 64)
    assert (float(small_images.min()), float(small_images.max())) == pytest.approx((0, 1))
    assert small_masks[0, 0, 0, :3].tolist() == [1, 0.5, 0]


def lay_out(folder, *, group_rule, mask_kind="semantic"):
    """Twelve images of two labels; the second label in half of them."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = np.zeros((96, 80), np.uint8)
        pixels[10:40, 10:40] = 1
        pixels[50:80, 30:60] = 2 * (number % 2)
        stem = f"vol{number // 3}_s{number:02d}"
        Image.fromarray(rng.integers(0, 255, pixels.shape, dtype=np.uint8)).save(folder / "images" / f"{stem}.png")
        Image.fromarray(pixels).save(folder / "masks" / f"{stem}.png")
    facts = {"labels": {"1": "one", "2": "two"}, "mask_kind": mask_kind, "group_rule": group_rule, "split": "train"}
    (folder / "dataset.json").write_text(json.dumps(facts))


def test_tasks_are_the_labels_and_all_of_them_together(tmp_path):
    lay_out(tmp_path / "a", group_rule='id up to "_s" is the volume')

    first, again = (read_tasks(tmp_path, ["a"], tmp_path / "cache") for _ in range(2))

    # Label two is in six images only: too few.
    assert [(task.label, len(task.groups)) for task in first] == [("one", 12), ("all", 12)]
    assert len(np.unique(first[0].groups)) == 4
    assert first[0].pairs.masks[0].sum() == pytest.approx(30 * 30 * 128 * 128 / (96 * 80), rel=0.05)
    assert all(np.array_equal(a.pairs.masks, b.pairs.masks) for a, b in zip(first, again, strict=True))
    assert find_sets(tmp_path, "train") == ["a"]
    assert find_sets(tmp_path, "test") == []


def test_instances_are_one_task(tmp_path):
    lay_out(tmp_path / "a", group_rule="independent", mask_kind="instance")

    (task,) = read_tasks(tmp_path, ["a"])

    assert task.label == "all"
    assert len(np.unique(task.groups)) == 12


def test_an_exported_file_says_what_the_engine_must_know(tmp_path):
    state = {name: tensor.half() for name, tensor in InContextNetwork(8).state_dict().items()}

    for name in ("a", "b"):
        write(tmp_path / f"{name}.safetensors", state, describe(TINY, 8, 0.4))

    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert {"side": "16", "threshold": "0.4"}.items() <= file.metadata().items()
        assert {name: file.get_tensor(name).dtype for name in file.keys()} == dict.fromkeys(state, torch.float16)  # noqa: SIM118


def test_a_watched_training_tells_loss_and_dice_and_the_card_reads_them(tmp_path):
    training = Training(loop.replace(TINY, side=32), [make_task()])
    training.step = training.settings.n_steps
    watch = Watch([make_task(seed=1)], tmp_path / "training.log")

    watch(training, 0.75)

    again = validate(training.network, [make_task(seed=1)], 32)
    means = [value for row in again for value in row.dice]
    assert all(0 <= value <= 1 for value in means)
    (row,) = read_curve(tmp_path / "training.log").iter_rows()
    assert row[:2] == ("8", 0.75)
    assert row[2:] == pytest.approx(means, abs=1e-4)


class Always:
    """An engine that answers the same, whatever it is shown."""

    threshold, is_cheap, notice = 0.5, True, ""

    def __init__(self, name, answer):
        self.name, self.answer, self.settings = name, answer, {}

    def segment(self, queries, support_images, support_masks):
        assert len(support_images) == len(support_masks) == 9  # of other volumes, all that there are
        return np.full((len(queries), 128, 128), self.answer, np.float32)


def test_the_card_compares_engines_on_the_same_draws(tmp_path):
    lay_out(tmp_path / "a", group_rule='id up to "_s" is the volume')

    frame = measure([Always("full", 1.0), Always("none", 0.0)], ["a"], tmp_path)

    share = 30 * 30 / (96 * 80)
    assert frame["set"].to_list() == ["a", "mean"]
    assert frame["Dice, full"].to_list() == pytest.approx([2 * share / (1 + share)] * 2, rel=0.05)
    assert frame["Dice, none"].to_list() == [0, 0]
