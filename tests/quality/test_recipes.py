"""Which networks a recipe makes of timm's backbones."""

from dataclasses import asdict

import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from segqa.errors import InputError  # noqa: E402
from segqa.quality.network import QualityNetwork  # noqa: E402
from segqa.quality.recipes import make_recipe  # noqa: E402


@pytest.mark.parametrize(
    ("backbone", "compare", "size"),
    [
        ("resnet10t", True, 160),
        ("test_convnext", True, 160),
        ("test_vit", False, 160),
        pytest.param("vit_tiny_patch16_224", False, 224, marks=pytest.mark.slow),
        pytest.param("mixer_s32_224", False, 224, marks=pytest.mark.slow),
        pytest.param("swin_tiny_patch4_window7_224", True, 224, marks=pytest.mark.slow),
        pytest.param("tiny_vit_5m_224", True, 160, marks=pytest.mark.slow),
    ],
)
@torch.inference_mode()
def test_the_default_recipe_suits_backbones_of_every_kind(backbone, compare, size):
    spec = make_recipe("segqa", backbone=backbone, heads=("dice",)).spec
    assert (spec.compare, spec.profile.size) == (compare, size)
    output = QualityNetwork(spec).eval()(torch.zeros(1, spec.profile.channels, size, size))
    assert output.scores.shape == (1, 1)
    assert output.belief.shape == ((1, 1, size // 4, size // 4) if compare else (1, 0))


@pytest.mark.parametrize("backbone", ["resnet101", "vit_base_patch16_224", "vit_large_patch16_224"])
def test_the_papers_recipe_has_the_papers_size(backbone):
    spec = make_recipe("evanyseg", backbone=backbone, heads=("dice",)).spec
    assert (spec.profile.size, spec.profile.name, spec.compare) == (224, "evanyseg", False)


@pytest.mark.parametrize("recipe", ["segqa", "evanyseg"])
def test_a_size_that_a_transformer_does_not_take_is_refused(recipe):
    with pytest.raises(InputError, match="--size 192: vit_base_patch16_224 takes inputs of 224 pixels only"):
        make_recipe(recipe, backbone="vit_base_patch16_224", heads=("dice",), size=192)


def test_corruptions_are_the_default_but_for_the_masks_of_segmenters():
    default, other = (make_recipe(name, backbone="resnet10t", heads=("dice",)) for name in ("segqa", "corruptions"))
    assert (other.spec, other.losses) == (default.spec, default.losses)
    changed = {"predictions": 0.0, "spoilt_predictions": 0.0}
    assert asdict(other.mixture) == asdict(default.mixture) | changed


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(InputError, match="--size 100: a multiple of 32"):
        make_recipe("segqa", backbone="resnet10t", heads=("dice",), size=100)
