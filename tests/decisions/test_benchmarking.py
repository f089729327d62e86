import math

import numpy as np
import polars as pl
import pytest
import scipy.stats

from segqa.decisions import benchmarking
from segqa.decisions.benchmarking import benchmark
from segqa.errors import InputError


def scores(n_cases=60, n_objects=3, shifts=(("a", 0.0), ("b", 0.1), ("c", 0.1)), seed=0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for case in range(n_cases):
        level = rng.uniform(0.3, 0.7)
        for number in range(n_objects):
            for model, shift in shifts:
                dice = level + shift + rng.normal(0, 0.05)
                rows.append((f"case {case}", str(number), "1", model, dice))
    return pl.DataFrame(rows, schema=["case", "object", "label", "model", "predicted_dice"], orient="row")


def test_means_are_those_of_the_scores_best_first():
    frame = scores()
    table = benchmark(frame).models
    means = dict(frame.group_by("model").agg(pl.col("predicted_dice").mean()).iter_rows())
    assert table["model"].to_list() == sorted(means, key=means.get, reverse=True)
    assert table["mean_predicted_dice"].to_list() == pytest.approx(sorted(means.values(), reverse=True))


def test_the_interval_of_equally_many_objects_a_case_is_student_s_of_the_means_of_the_cases():
    frame = scores(n_cases=12, shifts=[("a", 0.0)])
    table = benchmark(frame, n_draws=20_000, level=0.9).models
    by_case = frame.group_by("case").agg(pl.col("predicted_dice").mean())["predicted_dice"].to_numpy()
    low, high = scipy.stats.t.interval(0.9, 11, loc=by_case.mean(), scale=scipy.stats.sem(by_case))
    assert table["mean_lower"][0] == pytest.approx(low, abs=2e-3)
    assert table["mean_upper"][0] == pytest.approx(high, abs=2e-3)


def test_the_interval_of_a_mean_stays_within_0_and_1():
    rows = [(f"c{i}", "1", "1", "a", dice) for i, dice in enumerate((0.0, 1.0, 1.0))]
    frame = pl.DataFrame(rows, schema=["case", "object", "label", "model", "predicted_dice"], orient="row")
    assert benchmark(frame).models.select("mean_lower", "mean_upper").row(0) == (0.0, 1.0)


@pytest.mark.parametrize("n_cases", [2, 4, 8])
def test_equal_models_on_few_cases_are_seldom_called_different(n_cases):
    shifts = (("a", 0.0), ("b", 0.0))
    tables = [benchmark(scores(n_cases, 1, shifts, seed), n_draws=200, seed=seed) for seed in range(200)]
    assert np.mean([table.differences["real"][0] for table in tables]) < 0.1
    assert np.mean([(table.models["place_stability"] > 0.99).any() for table in tables]) < 0.1


def test_objects_of_one_case_do_not_count_as_independent():
    table = benchmark(scores(shifts=[("a", 0.0)], n_objects=20)).models
    width = table["mean_upper"][0] - table["mean_lower"][0]
    independent = 2 * 1.96 * scores(shifts=[("a", 0.0)], n_objects=20)["predicted_dice"].std() / math.sqrt(1200)
    assert width > 2 * independent


def slices(n_volumes=8, n_slices=40, seed=0) -> pl.DataFrame:
    """Two equal models whose difference varies from volume to volume, not from slice to slice."""
    rng = np.random.default_rng(seed)
    rows = []
    for volume in range(n_volumes):
        difference = rng.normal(0, 0.05)
        for number in range(n_slices):
            rows += [
                (f"v{volume}:{number:03d}", "1", "1", model, 0.7 + sign * difference / 2 + rng.normal(0, 0.01))
                for model, sign in (("a", 1), ("b", -1))
            ]
    return pl.DataFrame(rows, schema=["case", "object", "label", "model", "predicted_dice"], orient="row")


def test_slices_of_one_volume_do_not_count_as_independent():
    called_real = [benchmark(slices(seed=seed), n_draws=300).differences["real"][0] for seed in range(30)]
    assert sum(called_real) <= 8  # 24 of 30 when slices were drawn


def test_a_pair_is_ordered_by_the_objects_that_both_have_scores_of():
    frame = scores(shifts=[("a", -0.05), ("b", 0.0)])
    only_easy = pl.col("predicted_dice").mean().over("case") > 0.55
    frame = frame.with_columns(
        predicted_dice=pl.when((pl.col("model") == "a") & ~only_easy).then(None).otherwise("predicted_dice")
    )
    result = benchmark(frame)
    assert result.models["model"].to_list() == ["a", "b"]
    pair = result.differences.row(0, named=True)
    assert (pair["better"], pair["other"], pair["real"]) == ("b", "a", True)
    assert pair["difference"] == pytest.approx(0.05, abs=0.02)
    assert 0 < pair["lower"] < pair["difference"] < pair["upper"]


def test_a_mask_that_is_not_there_is_an_object_without_score():
    there, gone = {"case": "x", "object": "1", "label": "1", "model": "b", "predicted_dice": 0.5}, {"case": "x"}
    lost = pl.DataFrame([there, gone | {"object": "", "label": "", "model": "a"}])
    counts = {
        row["model"]: row["n_unscored"]
        for row in benchmark(pl.concat([scores(), lost], how="diagonal")).models.to_dicts()
    }
    before = {row["model"]: row["n_unscored"] for row in benchmark(scores()).models.to_dicts()}
    assert {model: counts[model] - before[model] for model in counts} == {"a": 1, "b": 0, "c": 1}


def test_a_real_difference_is_told_from_chance():
    table = benchmark(scores()).differences
    found = {frozenset((row["better"], row["other"])): row for row in table.to_dicts()}
    assert found[frozenset("ab")]["real"]
    assert found[frozenset("ac")]["real"]
    assert not found[frozenset("bc")]["real"]
    assert found[frozenset("ab")]["difference"] == pytest.approx(0.1, abs=0.02)


def test_differences_are_paired():
    difference = benchmark(scores()).differences.row(0, named=True)
    models = benchmark(scores()).models
    assert difference["upper"] - difference["lower"] < 0.5 * (models["mean_upper"][0] - models["mean_lower"][0])


def test_places_are_stable_where_models_differ():
    table = benchmark(scores()).models
    assert table["place_stability"][2] == 1.0
    assert 0.3 < table["place_stability"][0] < 0.99


@pytest.mark.parametrize("number", [pl.col("object"), (2 - pl.col("object").cast(pl.Int64)).cast(pl.String)])
def test_equal_models_are_not_sure_of_their_place(number):
    """Also when their objects are added up in another order, which changes the last bits of the means."""
    frame = scores(shifts=[("a", 0.0), ("b", 0.3)])
    twin = frame.filter(model="a").with_columns(number.alias("object"), model=pl.lit("c"))
    table = benchmark(pl.concat([frame, twin])).models
    assert dict(table.select("model", "place_stability").iter_rows()) == {"b": 1.0, "a": 0.0, "c": 0.0}


def test_equal_models_stand_by_name():
    frame = scores(shifts=[("b", 0.0)])
    table = benchmark(pl.concat([frame, *(frame.with_columns(model=pl.lit(name)) for name in "ca")])).models
    assert table["model"].to_list() == ["a", "b", "c"]


def test_a_draw_without_a_score_of_the_model_does_not_keep_its_place():
    gone = (pl.col("model") == "a") & ~pl.col("case").is_in(["case 7", "case 8"])
    table = benchmark(scores(shifts=[("a", -0.3), ("b", 0.3)]).filter(~gone)).models
    drawn = 1 - (1 - 2 / 60) ** 60  # at least one of the two images
    assert table["place_stability"].to_list() == [1.0, pytest.approx(drawn, abs=0.05)]


def test_a_model_without_scores_has_no_place_to_keep():
    frame = scores().with_columns(predicted_dice=pl.when(pl.col("model") != "b").then("predicted_dice"))
    assert benchmark(frame).models["place_stability"].to_list()[-1] is None


def test_models_of_different_objects_are_remarked_on():
    frame = scores(n_cases=10, n_objects=1)
    number = pl.col("case").str.slice(5).cast(pl.Int64)

    def remark(is_there):
        return benchmarking.overlap_remark(benchmark(frame.filter(is_there), n_draws=10))

    is_a, is_b = pl.col("model") == "a", pl.col("model") == "b"
    assert remark(pl.lit(True)) is None
    assert remark(~is_a | (number < 5)) is None
    assert remark(~is_a | (number < 4)).startswith(
        "b and a are placed by different objects: 10 and 4 are scored, 4 of them for both; "
    )
    assert ": 4 and 5 are scored, 0 of them for both; " in remark((is_a & (number < 5)) | (is_b & (number > 5)))
    assert remark(~is_a) is None


def test_the_same_seed_gives_the_same_table():
    assert benchmark(scores(), seed=3).models.equals(benchmark(scores(), seed=3).models)
    assert not benchmark(scores(), seed=3).models.equals(benchmark(scores(), seed=4).models)


def test_missing_scores_are_counted_and_differences_use_common_objects():
    frame = scores().with_columns(
        predicted_dice=pl.when((pl.col("model") == "b") & (pl.col("object") == "0"))
        .then(None)
        .otherwise("predicted_dice")
    )
    result = benchmark(frame)
    unscored = dict(result.models.select("model", "n_unscored").iter_rows())
    assert unscored == {"a": 0, "b": 60, "c": 0}
    common = {frozenset((row["better"], row["other"])): row["n"] for row in result.differences.to_dicts()}
    assert common == {frozenset("ab"): 120, frozenset("bc"): 120, frozenset("ac"): 180}


def test_a_file_that_could_not_be_read_lacks_the_objects_that_others_have_there():
    lost = (pl.col("model") == "b") & (pl.col("case") == "case 7")
    row = pl.DataFrame({"case": ["case 7"], "object": "", "label": "", "model": "b", "predicted_dice": None})
    result = benchmark(pl.concat([scores().filter(~lost), row], how="vertical_relaxed"))
    assert dict(result.models.select("model", "n_unscored").iter_rows()) == {"a": 0, "b": 3, "c": 0}


def test_a_model_without_scores_comes_last_without_a_mean():
    frame = scores().with_columns(predicted_dice=pl.when(pl.col("model") == "b").then(None).otherwise("predicted_dice"))
    result = benchmark(frame)
    assert result.models["model"][-1] == "b"
    assert result.models["mean_predicted_dice"][-1] is None
    assert result.differences.filter(pl.col("other") == "b")["real"].to_list() == [None, None]


def test_many_cases_in_groups_give_the_same_interval(monkeypatch):
    frame = scores(n_cases=3000, n_objects=1)
    monkeypatch.setattr(benchmarking, "MAX_GROUPS", 3000)
    exact = benchmark(frame).models
    monkeypatch.setattr(benchmarking, "MAX_GROUPS", 1000)
    grouped = benchmark(frame).models
    width = (exact["mean_upper"] - exact["mean_lower"]).to_numpy()
    np.testing.assert_allclose((grouped["mean_upper"] - grouped["mean_lower"]).to_numpy(), width, rtol=0.15)
    np.testing.assert_allclose(grouped["mean_predicted_dice"], exact["mean_predicted_dice"])


UNKNOWN_OF_MODELS, UNKNOWN_OF_PAIRS = ("mean_lower", "mean_upper", "place_stability"), ("lower", "upper", "real")


@pytest.mark.parametrize("frame", [scores(n_cases=1), slices(n_volumes=1)], ids=["image", "volume"])
def test_one_image_or_volume_has_means_but_nothing_is_said_of_the_next(frame):
    found = benchmark(frame)
    assert found.models["mean_predicted_dice"].null_count() == found.differences["difference"].null_count() == 0
    for table, names in ((found.models, UNKNOWN_OF_MODELS), (found.differences, UNKNOWN_OF_PAIRS)):
        assert table.select(names).null_count().row(0) == (table.height,) * 3
    assert found.models.schema["place_stability"] == pl.Float64


def test_a_model_that_is_scored_in_one_image_only_leaves_the_others_their_intervals():
    is_gone = (pl.col("model") == "b") & (pl.col("case") != "case 7")
    frame = scores().with_columns(predicted_dice=pl.when(~is_gone).then("predicted_dice"))
    found = benchmark(frame)
    for row in found.models.to_dicts():
        assert [row[name] is None for name in UNKNOWN_OF_MODELS] == [row["model"] == "b"] * 3
    for row in found.differences.to_dicts():
        assert [row[name] is None for name in UNKNOWN_OF_PAIRS] == ["b" in (row["better"], row["other"])] * 3


def test_a_pair_with_one_image_in_common_is_not_called_different():
    of_a = (pl.col("model") == "a") & (pl.col("case") > "case 30")
    of_b = (pl.col("model") == "b") & (pl.col("case") < "case 31")
    frame = scores(shifts=[("a", 0.0), ("b", 0.3)]).filter(of_a | of_b | (pl.col("case") == "case 31"))
    found = benchmark(frame)
    assert found.models.null_count().row(0) == (0,) * found.models.width
    (pair,) = found.differences.to_dicts()
    assert pair["n"] == 3
    assert [pair[name] for name in UNKNOWN_OF_PAIRS] == [None] * 3


def test_an_empty_table_is_refused():
    with pytest.raises(InputError, match="no row"):
        benchmark(scores().clear())


def test_a_level_outside_of_0_and_1_is_refused():
    with pytest.raises(InputError, match="level 95"):
        benchmark(scores(), level=95)


@pytest.mark.parametrize(
    ("options", "text"), [({"n_draws": 0}, "draws 0: a number from 1"), ({"seed": -1}, "seed -1: a number from 0")]
)
def test_no_draws_and_a_negative_seed_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        benchmark(scores(), **options)
