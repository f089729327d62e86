import numpy as np
import pytest
from PIL import Image as PillowImage

from segqa import metrics
from segqa.data.boxes import Box, read_boxes
from segqa.phantoms import MODELS, SIDE, make_phantom, spoil, write_demo


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_phantom_has_two_organs_and_a_lesion_that_can_be_seen():
    for seed in range(5):
        phantom = make_phantom(np.random.default_rng(seed))
        assert phantom.image.shape == (SIDE, SIDE, 3)
        assert phantom.image.dtype == np.uint8
        assert set(np.unique(phantom.truth)) == {0, 1, 2, 3}
        grey = phantom.image[..., 0].astype(float)
        body = (grey > 50) & (phantom.truth == 0)
        for label in (1, 2, 3):
            assert grey[phantom.truth == label].mean() > grey[body].mean() + 15


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_demo(tmp_path / name, n_cases=2, seed=seed)
    first, second, other = (files_of(tmp_path / name) for name in "abc")
    assert first == second
    assert first.keys() == other.keys()
    assert first != other


def test_the_first_cases_do_not_depend_on_how_many_follow(tmp_path):
    write_demo(tmp_path / "few", n_cases=1)
    write_demo(tmp_path / "more", n_cases=3)
    few, more = files_of(tmp_path / "few"), files_of(tmp_path / "more")
    assert all(more[name] == few[name] for name in few if name != "boxes.json")


def test_a_demo_holds_images_truth_masks_of_each_model_and_boxes(tmp_path):
    write_demo(tmp_path, n_cases=2)
    folders = ["images", "truth", *(f"masks/{model}" for model in MODELS)]
    names = {f"{folder}/phantom_0{n}.png" for n in (1, 2) for folder in folders}
    assert files_of(tmp_path).keys() == names | {"boxes.json"}
    boxes = read_boxes(tmp_path / "boxes.json")
    for stem, prompts in boxes.items():
        truth = np.asarray(PillowImage.open(tmp_path / f"truth/{stem}.png"))
        assert [prompt.label for prompt in prompts] == ["1", "2", "3"]
        for prompt in prompts:
            assert prompt.box.iou(Box.from_mask(truth == int(prompt.label))) > 0.5


def test_the_pretended_models_differ_in_quality_as_their_names_say():
    rng = np.random.default_rng(0)
    truths = [make_phantom(rng, side=96).truth for _ in range(12)]
    quality = {}
    for model, chance in MODELS.items():
        spoilt = [(spoil(truth, chance, rng), truth) for truth in truths]
        quality[model] = np.mean([metrics.dice(mask == k, truth == k) for mask, truth in spoilt for k in (1, 2, 3)])
    assert quality["careful"] > quality["average"] > quality["careless"]


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_an_object_is_spoilt_with_its_chance(chance):
    truth = make_phantom(np.random.default_rng(0)).truth
    spoilt = spoil(truth, chance, np.random.default_rng(1))
    assert spoilt.dtype == truth.dtype
    assert set(np.unique(spoilt)) <= {0, 1, 2, 3}
    assert (spoilt == truth).all() == (chance == 0)
