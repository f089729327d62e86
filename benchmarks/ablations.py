"""What each part of the default recipe is worth on data sets left out whole (the table of docs/explanation).

    python -m benchmarks.ablations prepared --leave-out acdc-cardiac-mri,wbc-jiangxi --examples 16000 --size 128

Every arm starts from the same ImageNet weights and sees the same number of examples; the figures are those of
`benchmarks.quality` on the sets left out: all their masks, and the masks of the segmenter only. Arms run one after
another; rows already in `--out` are not computed again.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from benchmarks.quality import agreement_row, by_set, judge, selection_row
from segqa.data.subsets import spread
from segqa.devices import computes_in_bfloat16
from segqa.quality.library import read_library
from segqa.quality.preprocessing import EVANYSEG
from segqa.quality.recipes import Recipe, make_recipe
from segqa.quality.records import Record
from segqa.quality.scoring import load_evaluator
from segqa.quality.training import Plan, Trainer


@dataclass(frozen=True, slots=True)
class Arm:
    """A recipe with one thing changed."""

    change: Callable[[Recipe], Recipe]
    recipe: str = "segqa"
    heads: tuple[str, ...] = ("dice",)
    backbone: str = "tf_efficientnet_lite0"
    keep: Callable[[Record], bool] = lambda record: True
    """Which records it learns from."""


def _mixture(**values: float | bool) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, mixture=replace(recipe.mixture, **values))


def _losses(**values: float | bool) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, losses=recipe.losses | values)


def _spec(**values: object) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, spec=replace(recipe.spec, **values))


def _profile(**values: object) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, spec=replace(recipe.spec, profile=replace(recipe.spec.profile, **values)))


def _papers_psi(recipe: Recipe) -> Recipe:
    profile = replace(EVANYSEG, size=recipe.spec.profile.size)
    return replace(recipe, spec=replace(recipe.spec, profile=profile, compare=False))


ARMS: dict[str, Arm] = {
    "default": Arm(lambda recipe: recipe),
    "no margin": Arm(_profile(margin=0.0, reach=0.0)),
    "no view of what leaks out": Arm(_profile(reach=0.25)),
    "160 pixels": Arm(_profile(size=160)),
    "no belief map": Arm(_spec(compare=False)),
    "paper's psi, no belief map": Arm(_papers_psi),
    "no task models": Arm(
        lambda recipe: recipe, keep=lambda record: not any(c.prompt == "none" for c in record.candidates)
    ),
    "large sets dominate": Arm(_mixture(size_power=0.5)),
    "no edges followed, merged, recoloured": Arm(_mixture(follow_image=0.0, merged=0.0, recolour=0.0)),
    "no nested objects": Arm(_mixture(nested=0.0, confused=0.0)),
    "no generated pictures": Arm(lambda recipe: recipe, keep=lambda record: not record.dataset.startswith("generated")),
    "no looks varied": Arm(_mixture(vary=False)),
    "no ranking loss": Arm(_losses(ranking_weight=0.0)),
    "no balance": Arm(_losses(balance=False)),
    "segmenter's masks only": Arm(
        _mixture(predictions=0.8, spoilt_predictions=0.0, wrong=0.2, swapped=0.0, empty=0.0, whole_box=0.0)
    ),
    "no segmenter's masks": Arm(_mixture(predictions=0.0, spoilt_predictions=0.0, wrong=0.0)),
    "paper's recipe": Arm(lambda recipe: recipe, recipe="evanyseg"),
    "lite2": Arm(lambda recipe: recipe, backbone="tf_efficientnet_lite2"),
    "TinyViT": Arm(lambda recipe: recipe, backbone="tiny_vit_5m_224"),
    "two heads": Arm(lambda recipe: recipe, heads=("dice", "hd95")),
}


def train_arm(arm: Arm, records: Sequence[Record], path: Path, *, size: int, **plan_values: int) -> float:
    """Train one arm, write its weights and return the seconds it took; `plan_values` are those of `Plan`."""
    recipe = arm.change(make_recipe(arm.recipe, backbone=arm.backbone, heads=arm.heads, size=size))
    plan: Plan = recipe.plan(**plan_values, bfloat16=computes_in_bfloat16(torch.device("cpu")))
    records = [record for record in records if arm.keep(record)]
    trainer = Trainer(records, [], recipe.spec, plan, mixture=recipe.mixture)
    start = time.monotonic()
    for progress in trainer.run(report_every=4096):
        print(f"  {progress.line(plan.examples)}", flush=True)
    trainer.save_weights(path, {"records": Counter(record.dataset for record in records)})
    return time.monotonic() - start


def figures(path: Path, records: Sequence[Record], seed: int) -> dict[str, float]:
    """Return the means over the data sets."""
    table = judge(records, load_evaluator(path, runtime="auto", threads=torch.get_num_threads()), seed)
    every = by_set(table).row(-1, named=True)
    plain = by_set(table.filter(pl.col("source").str.contains("exact|jittered"))).row(-1, named=True)
    sets = table["dataset"].unique().to_list()
    worst = min(float(str(agreement_row(name, table.filter(dataset=name))["pearson"])) for name in sets)
    regret = np.mean([float(str(selection_row(name, table.filter(dataset=name))["regret"])) for name in sets])
    return {
        "Pearson": every["pearson"],
        "worst set": worst,
        "MAE": every["mae"],
        "AUROC": every["auroc<0.7"],
        "Pearson, segmenter's": plain["pearson"],
        "regret": float(regret),
    }


def chosen(records: Sequence[Record], n_records: int) -> list[Record]:
    """Return so many records of each data set that have masks of a segmenter, evenly spaced."""
    result = []
    for name in sorted({record.dataset for record in records}):
        mine = [r for r in records if r.dataset == name and r.candidates]
        result += spread(mine, n_records)
    return result


def main() -> None:
    """Train the arms that are asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, nargs="+")
    parser.add_argument("--leave-out", required=True, help="data sets, comma-separated")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--examples", type=int, default=16_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--records", type=int, default=40, help="of each set left out, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("ablations"), help="folder for weights and table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    library = read_library(arguments.prepared, leave_out=arguments.leave_out.split(","))
    held = chosen(library.validation, arguments.records)
    print(f"{len(library.training)} records to learn from, {len(held)} of sets left out", flush=True)
    for name in arguments.arms:
        row = arguments.out / f"{name}.json"
        if row.exists():
            continue
        print(name, flush=True)
        weights = row.with_suffix(".safetensors")
        seconds = train_arm(
            ARMS[name],
            library.training,
            weights,
            examples=arguments.examples,
            size=arguments.size,
            seed=arguments.seed,
            workers=arguments.workers,
            batch_size=arguments.batch_size,
        )
        values = {"arm": name, **figures(weights, held, arguments.seed), "minutes": seconds / 60}
        pl.DataFrame([values]).write_ndjson(row)
    rows = [pl.read_ndjson(row) for name in ARMS if (row := arguments.out / f"{name}.json").exists()]
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, tbl_hide_dataframe_shape=True, float_precision=3):
        print(pl.concat(rows))


if __name__ == "__main__":
    main()
