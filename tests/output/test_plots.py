import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from PIL import Image

from segqa.errors import MissingExtraError
from segqa.output import plots
from segqa.statistics import aurc, pearson

pytest.importorskip("matplotlib", reason="figures need the extra `report`")


def frame(n=50, models=("a", "b")) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    true = rng.random(n * len(models))
    return pl.DataFrame(
        {
            "case": [f"c{i}" for i in range(n * len(models))],
            "model": np.repeat(models, n),
            "predicted_dice": np.clip(true + rng.normal(0, 0.1, true.size), 0, 1),
            "true_dice": true,
        }
    )


def test_the_scatter_has_a_square_panel_per_model_with_its_correlations():
    rows = frame()
    figure = plots.truth_scatter(rows)
    assert len(figure.axes) == 2
    for axis, model in zip(figure.axes, "ab", strict=True):
        one = rows.filter(model=model)
        number = pearson(one["predicted_dice"].to_numpy(), one["true_dice"].to_numpy())
        assert f"Pearson {number:.3f}" in axis.get_title()
        assert axis.get_aspect() == 1.0
        assert axis.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]
        shown = axis.collections[0].get_offsets()
        np.testing.assert_allclose(shown, one.select("true_dice", "predicted_dice").to_numpy())


def test_many_points_are_shown_as_density():
    (axis,) = plots.truth_scatter(frame(n=2001, models=["a"])).axes
    assert type(axis.collections[0]).__name__ == "PolyCollection"


def test_the_risk_coverage_curve_ends_at_the_mean_loss():
    rows = frame(n=3000, models=["a"])
    (axis,) = plots.risk_coverage_curve(rows).axes
    x, y = axis.lines[0].get_data()
    assert (x[-1], y[-1]) == (1.0, pytest.approx(1 - rows["true_dice"].mean()))
    assert x.size <= plots.MAX_CURVE_POINTS
    number = aurc(rows["predicted_dice"].to_numpy(), rows["true_dice"].to_numpy())
    assert f"AURC {number:.3f}" in axis.lines[0].get_label()


def test_the_reliability_curve_shows_means_of_equal_bins():
    rows = frame(n=100, models=["a"]).sort("predicted_dice")
    (axis,) = plots.reliability_curve(rows).axes
    x, y = axis.lines[1].get_data()
    assert x[0] == pytest.approx(rows["predicted_dice"][:10].mean())
    assert y[-1] == pytest.approx(rows["true_dice"][90:].mean())


def test_the_histogram_counts_every_score():
    (axis, _) = plots.score_histogram(frame(n=70)).axes
    assert sum(patch.get_height() for patch in axis.patches) == 70


@pytest.mark.parametrize("name", ["score_histogram", "truth_scatter", "risk_coverage_curve", "reliability_curve"])
@pytest.mark.parametrize(
    ("rows", "models", "n"),
    [
        (frame().clear(), ["no objects"], 0),
        (frame(n=1), ["a", "b"], 1),
        (frame().with_columns(predicted_dice=pl.lit(None, pl.Float64)), ["a", "b"], 0),
        (frame(models=["_hidden", "cost $x_1"]), [" _hidden", r"cost \$x_1"], 50),
    ],
    ids=["empty", "one object", "unscored", "odd names"],
)
def test_odd_tables_are_drawn_too(name, rows, models, n, tmp_path):
    figure = getattr(plots, name)(rows)
    if name.endswith("curve"):  # a model of whom nothing is known has no line
        legend = figure.axes[0].get_legend()
        named = [text.get_text().partition(" (AURC")[0] for text in legend.get_texts()] if legend else []
        assert named == (models if n else [])
    else:
        lines = [axis.get_title().splitlines() for axis in figure.axes]
        assert [(first, last.rpartition("n = ")[2]) for first, last in lines] == [(model, str(n)) for model in models]
    figure.savefig(tmp_path / "figure.png", dpi=30)
    assert len(np.unique(np.asarray(Image.open(tmp_path / "figure.png")))) > 2


def test_figures_are_the_same_bytes_twice(tmp_path):
    rows = frame(n=10, models=["a"]).drop("true_dice")
    for folder in ("one", "two"):
        plots.save_plots(rows, tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["histogram.png", "histogram.svg"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_without_truth_only_the_histogram_is_written(tmp_path):
    written = plots.save_plots(frame().drop("true_dice"), tmp_path, formats=("svg",))
    assert [path.name for path in written] == ["histogram.svg"]


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"segqa\[report\]"):
        plots.score_histogram(frame())


def test_the_room_is_entered_without_matplotlib_and_torch():
    code = "import sys, segqa.output.plots; print({'matplotlib', 'torch', 'scipy.stats'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
