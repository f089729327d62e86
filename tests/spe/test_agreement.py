from __future__ import annotations

import numpy as np
import pytest

from segqa import metrics
from segqa.spe import agreement
from segqa.spe.agreement import measure_agreement
from segqa.spe.cohorts import Labelled, Predicted
from segqa.spe.mapping import SPE_METRICS


class Majority:
    """Finds in every image what most support masks show."""

    name, threshold = "majority", 0.5
    settings: dict[str, str] = {}  # noqa: RUF012, as the protocol has it

    def __init__(self, is_cheap=True):
        self.is_cheap = is_cheap
        self.shown = []

    def segment(self, queries, support_images, support_masks):
        self.shown.append(support_masks)
        return np.repeat(support_masks.mean(axis=0, dtype=np.float32)[None], len(queries), axis=0)


def square(at, side=30):
    mask = np.zeros((128, 128), bool)
    mask[at : at + side, 20 : 20 + side] = True
    return mask


def training_of(*masks):
    images, groups = np.zeros((len(masks), 128, 128, 3), np.uint8), np.arange(len(masks))
    return Labelled(images, np.stack(masks)[:, None], groups, [1])


def predicted_of(**models):
    packed = {name: np.packbits(np.stack(masks)[:, None], axis=-1) for name, masks in models.items()}
    n = len(next(iter(models.values())))
    images, shown = np.zeros((n, 128, 128, 3), np.uint8), np.ones(n, bool)
    return Predicted(images, packed, np.empty(0), np.arange(n), 181.0, shown, [])


def measure(training, predicted, engine=None, support_size=64):
    return measure_agreement(engine or Majority(), training, predicted, support_size=support_size, seed=0)


def test_agreement_is_each_metric_of_the_predictions_against_what_training_masks_teach():
    training = training_of(square(40), square(40), square(70))
    models = {"good": [square(40), square(42)], "bad": [square(55), square(80)]}

    found = measure(training, predicted_of(**models))

    for by_image, masks in zip(found[:, :, 0].swapaxes(0, 1), models.values(), strict=True):
        expected = [metrics.all_metrics(mask, square(40)) for mask in masks]
        assert by_image.tolist() == [[each[name] for name in SPE_METRICS] for each in expected]


def test_many_images_are_segmented_some_at_a_time(monkeypatch):
    training, predicted = training_of(square(40)), predicted_of(a=[square(at) for at in (38, 40, 42, 50, 70)])
    expected = measure(training, predicted)
    monkeypatch.setattr(agreement, "AT_ONCE", 2)
    engine = Majority()

    np.testing.assert_array_equal(measure(training, predicted, engine), expected)

    assert len(engine.shown) == 3


@pytest.mark.parametrize(("is_cheap", "n"), [(True, 7), (False, 3)])
def test_a_cheap_engine_is_taught_by_more_images(is_cheap, n, monkeypatch):
    monkeypatch.setattr(agreement, "MOST_TEACHERS", 7)
    engine = Majority(is_cheap)

    measure(training_of(*[square(40)] * 9), predicted_of(a=[square(40)]), engine, support_size=3)

    assert [len(shown) for shown in engine.shown] == [n]


def test_training_masks_too_small_to_teach_are_left_out_and_none_at_all_find_nothing():
    engine = Majority()
    dot = square(40, side=3)

    some = measure(training_of(dot, square(40)), predicted_of(a=[square(40)]), engine)
    none = measure(training_of(dot, dot), predicted_of(a=[square(40)]), engine)

    assert [len(shown) for shown in engine.shown] == [1]
    assert some[0, 0, 0, 0] == 1
    assert none[0, 0, 0, 0] == 0


def test_images_where_neither_side_has_foreground_are_undefined():
    found = measure(training_of(square(40, side=3)), predicted_of(a=[square(40), square(0, side=0)]))

    assert found[:, 0, 0, 0].tolist() == pytest.approx([0, np.nan], nan_ok=True)
