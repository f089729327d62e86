from __future__ import annotations

import numpy as np
import pytest

from segqa import metrics
from segqa.spe.mapping import SPE_METRICS
from segqa.spe.pseudo import MIN_QUERIES, QueryPlan, measure_masks, measure_pseudo
from segqa.spe.support import draw_orders


class Copycat:
    """Finds in every query what the first support mask shows."""

    name, threshold, is_cheap = "copycat", 0.5, False
    settings: dict[str, str] = {}  # noqa: RUF012, as the protocol has it

    def __init__(self):
        self.calls = []

    def segment(self, queries, support_images, support_masks):
        self.calls.append((len(queries), len(support_masks)))
        return np.repeat(support_masks[:1].astype(np.float32), len(queries), axis=0)


def squares(n, seed=0, spread=10):
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, 128, 128), bool)
    for mask in masks:
        y, x = 40 + rng.integers(0, spread + 1, 2)
        mask[y : y + 30, x : x + 30] = True
    return np.zeros((n, 128, 128, 3), np.uint8), masks


def measure(plan, *, queries=None, supports=None, engine=None, **steps):
    return measure_pseudo(
        engine or Copycat(),
        queries or squares(plan.n_queries),
        supports or squares(plan.orders.shape[1], seed=1),
        plan=plan,
        key="model/64/1",
        **steps,
    )


def test_each_image_is_queried_once_and_the_draws_rotate():
    plan = QueryPlan(draw_orders(20), 50)

    steps = list(plan.steps())

    assert sorted(np.concatenate([step.queries for step in steps]).tolist()) == list(range(50))
    assert [step.draw for step in steps] == list(range(6))


def test_every_draw_queries_all_images_each_time():
    steps = list(QueryPlan(draw_orders(20), 50, every_draw=True).steps())

    assert [len(step.queries) for step in steps] == [50] * 6


def test_the_mean_is_over_the_draws_of_each_image_then_over_the_images():
    plan = QueryPlan(draw_orders(12, repeats=2), 5, every_draw=True, support_size=3)
    queries, supports = squares(5), squares(12, seed=1)

    found = measure(plan, queries=queries, supports=supports)

    by_hand = []
    for truth in queries[1]:
        shown = [supports[1][np.sort(order[:3])[0]] for order in plan.orders]
        by_hand.append(np.mean([metrics.dice(mask, truth) for mask in shown]))
    assert found.mean[SPE_METRICS.index("dice")] == pytest.approx(np.mean(by_hand))
    assert found.n == 5


def test_a_tolerance_stops_early_and_the_true_mean_is_near():
    everything = measure(QueryPlan(draw_orders(40), 400))
    engine = Copycat()

    part = measure(QueryPlan(draw_orders(40), 400, tolerance=0.05), engine=engine)

    assert MIN_QUERIES <= part.n < 200
    assert sum(n for n, _ in engine.calls) == part.n
    assert part.half_width[0] < 0.05
    assert abs(part.mean[0] - everything.mean[0]) < 0.1


def test_a_tolerance_that_cannot_be_met_early_queries_all():
    found = measure(QueryPlan(draw_orders(40), 60, tolerance=0.0))

    assert found.n == 60


def test_nothing_is_left_to_chance_when_all_images_are_queried():
    assert measure(QueryPlan(draw_orders(40), 60)).half_width == pytest.approx(np.zeros(6))


def test_the_half_width_is_that_of_the_mean_of_a_part_of_a_finite_population():
    plan = QueryPlan(draw_orders(40), 400, tolerance=0.05)
    queries, supports = squares(400), squares(40, seed=1)

    found = measure(plan, queries=queries, supports=supports)

    asked = np.concatenate([step.queries for step in plan.steps()])[: found.n]
    dice = [metrics.dice(supports[1][0], queries[1][row]) for row in asked]  # what the copycat finds everywhere
    expected = 1.96 * np.std(dice, ddof=1) * np.sqrt((1 - found.n / 400) / found.n)
    assert found.half_width[SPE_METRICS.index("dice")] == pytest.approx(expected)


def test_a_model_without_usable_predictions_finds_nothing():
    plan = QueryPlan(draw_orders(4), 6)
    images, masks = squares(4)

    found = measure(plan, supports=(images, np.zeros_like(masks)))

    assert found.mean.tolist() == pytest.approx([0, np.hypot(128, 128), 0, 0, 0, 0])


def test_images_without_foreground_on_both_sides_are_counted_and_left_out():
    plan = QueryPlan(draw_orders(4), 6)
    images, masks = squares(6)
    masks[:2] = False

    found = measure(plan, queries=(images, masks), supports=(squares(4)[0], np.zeros((4, 128, 128), bool)))

    assert found.n_undefined == 2
    assert found.n == 6


def test_finished_steps_are_not_done_again():
    plan = QueryPlan(draw_orders(10), 30)
    kept = {}
    first = measure(plan, keep=kept.__setitem__)
    engine = Copycat()

    again = measure(plan, known=dict(list(kept.items())[:4]), engine=engine)

    assert len(kept) == 6
    assert len(engine.calls) == 2
    assert again.mean.tobytes() == first.mean.tobytes()


def test_masks_are_measured_as_metrics_does_with_the_diagonal_for_a_missed_object():
    masks = squares(3)[1]
    found = measure_masks(np.stack([masks[0], np.zeros_like(masks[1])]), masks[1:])

    expected = metrics.all_metrics(masks[0], masks[1])
    assert found[0].tolist() == [expected[name] for name in SPE_METRICS]
    assert found[1, SPE_METRICS.index("hd95")] == pytest.approx(np.hypot(128, 128))
