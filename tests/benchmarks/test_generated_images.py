import json

import numpy as np
from PIL import Image

from benchmarks.generated_images import PER_TASK, write_set
from segqa.data.reading import Reading
from segqa.prepared import plan_prepare
from segqa.quality.preparation import Settings


def test_a_generated_set_is_a_data_set_that_prepare_reads(tmp_path):
    write_set(tmp_path / "generated-1", 6, seed=1)
    plan = plan_prepare(tmp_path / "generated-1", None, settings=Settings(), reading=Reading())
    assert len(plan.cases) == 6
    assert {case.group for case in plan.cases.values()} == {f"task{number:04d}" for number in range(6 // PER_TASK)}
    assert plan.dataset.split == "train"
    with Image.open(tmp_path / "generated-1/images/g0000.png") as picture:
        assert picture.mode == "L"
        assert np.asarray(picture).std() > 5
    masks = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "generated-1/masks").iterdir())]
    assert any(len(np.unique(mask)) > 2 for mask in masks)
    about = json.loads((tmp_path / "generated-1/dataset.json").read_text())
    assert {str(value) for mask in masks for value in np.unique(mask[mask > 0])} <= set(about["labels"])


def test_the_same_seed_gives_the_same_pictures(tmp_path):
    for name in ("one", "two"):
        write_set(tmp_path / name, 2, seed=3)
    for folder in ("images", "masks"):
        first, second = ((tmp_path / name / folder / "g0001.png").read_bytes() for name in ("one", "two"))
        assert first == second
