from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import spearmanr

from segqa.data.boxes import Box
from segqa.errors import InputError
from segqa.quality.preprocessing import Profile, build_input

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from segqa.quality.error_map import error_map  # noqa: E402
from segqa.quality.network import NetworkSpec, Output, QualityNetwork  # noqa: E402

SEGQA = Profile(size=24)
EVANYSEG = Profile(name="evanyseg", size=24, margin=0.0, reach=0.0)


class Linear(torch.nn.Module):
    """A network whose gradient is known: a weighted sum of its input."""

    def __init__(self, profile):
        super().__init__()
        self.spec = SimpleNamespace(profile=profile, heads=("hd95", "dice"), compare=False)
        rng = np.random.default_rng(1)
        size = (profile.channels, profile.size, profile.size)
        self.weight = torch.nn.Parameter(torch.tensor(rng.normal(size=size), dtype=torch.float32))

    def forward(self, inputs):
        score = (inputs * self.weight).sum(dim=(1, 2, 3))
        return Output(torch.stack([-score, score], dim=1), score[:, None], inputs.new_zeros((len(inputs), 0)))


class Believer(torch.nn.Module):
    """A network that believes in the left half of its view."""

    def __init__(self):
        super().__init__()
        self.spec = SimpleNamespace(profile=SEGQA, heads=("dice",), compare=True)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        belief = torch.full((1, 1, 6, 6), -20.0)
        belief[..., :3] = 20.0
        return Output(torch.zeros((1, 1)), torch.zeros((1, 1)), belief)


def tiny_network(*, compare=True):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = QualityNetwork(NetworkSpec(Profile(size=32), backbone="test_efficientnet", compare=compare))
    return network.eval()


def picture(side=40, seed=0):
    rng = np.random.default_rng(seed)
    image = np.repeat(rng.integers(0, 255, (side, side, 1), np.uint8), 3, axis=2)
    mask = np.zeros((side, side), bool)
    mask[12:24, 10:25] = True
    return image, mask


def flipped_gains(image, mask, box, network, pixels):
    """Theorem 3.2 taken literally: one run of the network for each pixel."""

    def score(one):
        inputs = torch.from_numpy(build_input(image, one, box, network.spec.profile))[None]
        with torch.inference_mode():
            return float(network(inputs).scores[0, network.spec.heads.index("dice")])

    before = score(mask)
    gains = []
    for y, x in pixels:
        other = mask.copy()
        other[y, x] ^= True
        gains.append(score(other) - before)
    return np.array(gains)


def pixels_of(box):
    return [(y, x) for y in range(box.y0, box.y1) for x in range(box.x0, box.x1)]


@pytest.mark.parametrize("profile", [SEGQA, EVANYSEG])
@pytest.mark.parametrize("box", [Box(8, 8, 32, 32), Box(9, 11, 22, 23), Box(0, 0, 40, 40), Box(0, 5, 14, 38)])
def test_the_gradient_of_a_linear_network_is_what_flipping_each_pixel_gives(profile, box):
    image, mask = picture()
    network = Linear(profile)
    found = error_map(image, mask, box, network)
    pixels = pixels_of(box)
    literal = flipped_gains(image, mask, box, network, pixels)
    # Pillow rounds the resized mask to 1/255 and EvanySeg's blend cuts to whole grey levels.
    assert np.corrcoef(found[tuple(np.array(pixels).T)], literal)[0, 1] > 0.99
    scale = np.abs(literal).max()
    np.testing.assert_allclose(found[tuple(np.array(pixels).T)], literal, atol=0.1 * scale)


def test_the_gradient_of_a_real_network_orders_pixels_as_flipping_them_does():
    image, mask = picture()
    box = Box(8, 8, 29, 29)  # its view is of 32 pixels, as the input: nothing is resized
    network = tiny_network(compare=False)  # whether a mask reaches its box has no gradient
    found = error_map(image, mask, box, network, method="gradient")
    pixels = pixels_of(box)[::7]
    literal = flipped_gains(image, mask, box, network, pixels)
    assert spearmanr(found[tuple(np.array(pixels).T)], literal).statistic > 0.9


def test_belief_is_an_error_where_it_and_the_mask_differ():
    image, mask = picture()
    box = Box(8, 8, 24, 24)  # view 4..28
    found = error_map(image, mask, box, Believer(), method="belief")
    assert found[20, 6] > 0.99  # believed, not in the mask
    assert found[20, 12] < 0.01  # both
    assert found[20, 22] > 0.99  # in the mask, not believed
    assert found[26, 26] < 0.01  # neither
    assert (found[:, 30:] == 0).all()  # not seen


def test_by_default_the_belief_is_asked_where_there_is_one():
    image, mask = picture()
    for network, method in ((Believer(), "belief"), (Linear(SEGQA), "gradient")):
        chosen = error_map(image, mask, None, network, method=method)
        np.testing.assert_array_equal(error_map(image, mask, None, network), chosen)


@pytest.mark.parametrize("method", ["gradient", "belief"])
@pytest.mark.parametrize(
    ("shape", "box"),
    [((7, 50), None), ((50, 7), Box(0, 0, 7, 50)), ((1, 1), None), ((300, 200), Box(190, 290, 200, 300))],
)
def test_every_shape_gives_a_finite_map_of_that_shape(method, shape, box):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*shape, 3), np.uint8)
    for mask in (np.zeros(shape, bool), np.ones(shape, bool)):
        found = error_map(image, mask, box, tiny_network(), method=method)
        assert found.shape == shape
        assert found.dtype == np.float32
        assert np.isfinite(found).all()


def test_a_pixel_that_the_network_does_not_see_is_zero():
    image, mask = picture(side=200)
    found = error_map(image, mask, None, tiny_network())
    assert (found[60:] == 0).all()
    assert (found[:60, :60] != 0).any()


def test_belief_of_a_network_without_one_is_an_input_error():
    image, mask = picture()
    with pytest.raises(InputError, match="use the gradient"):
        error_map(image, mask, None, Linear(SEGQA), method="belief")
