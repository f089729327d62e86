import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from segqa.data.boxes import Box
from segqa.quality.preprocessing import EVANYSEG, SEGQA, Profile, build_input, view_of

SMALL = Profile(size=32)


def noise_image(rng, height, width):
    return rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)


def disc(height, width, row, column, radius):
    rows, columns = np.ogrid[:height, :width]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def official_input(image, prediction, box):
    """The official order of operations (dataset.py, train.py), in its own words."""
    crop_image = image[box.y0 : box.y1, box.x0 : box.x1].copy()
    crop_predict = np.where(prediction[box.y0 : box.y1, box.x0 : box.x1] > 0, 255, 0)
    crop_image[:, :, 0] = 0.5 * crop_image[:, :, 0] + 0.5 * crop_predict  # into uint8: truncates
    picture = PillowImage.fromarray(crop_image).resize((224, 224), PillowImage.BILINEAR)
    tensor = np.array(picture).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    mean = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
    std = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
    return (tensor - mean) / std


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(90, 140, Box(20, 10, 111, 73)), (300, 260, Box(0, 0, 260, 300)), (40, 50, Box(7, 8, 8, 31))],
)
def test_the_evanyseg_profile_equals_the_official_order_of_operations_bit_for_bit(height, width, box):
    rng = np.random.default_rng(0)
    image, mask = noise_image(rng, height, width), rng.random((height, width)) < 0.5
    ours = build_input(image, mask, box, EVANYSEG)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, official_input(image, mask, box))


@pytest.mark.slow
def test_the_evanyseg_profile_equals_torchvisions_transforms():
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms")
    rng = np.random.default_rng(1)
    image, mask, box = noise_image(rng, 80, 120), disc(80, 120, 40, 60, 25), Box(30, 10, 95, 72)
    crop = image[10:72, 30:95].copy()
    crop[:, :, 0] = 0.5 * crop[:, :, 0] + 0.5 * np.where(mask[10:72, 30:95], 255, 0)
    steps = [
        transforms.ToPILImage(),
        transforms.Resize((224, 224)),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    official = transforms.Compose(steps)(crop)
    assert torch.equal(torch.from_numpy(build_input(image, mask, box, EVANYSEG)), official)


def test_the_blend_truncates_instead_of_rounding():
    image = np.full((4, 4, 3), 255, np.uint8)
    red = build_input(image, np.zeros((4, 4), bool), Box(0, 0, 4, 4), EVANYSEG)[0] * np.float32(0.229)
    assert np.rint((red + np.float32(0.485)) * 255).max() == 127


def test_without_a_box_the_evanyseg_profile_shows_the_masks_own_box():
    rng = np.random.default_rng(2)
    image, mask = noise_image(rng, 60, 60), disc(60, 60, 30, 25, 9)
    own = Box.from_mask(mask)
    assert (build_input(image, mask, None, EVANYSEG) == build_input(image, mask, own, EVANYSEG)).all()


def test_the_evanyseg_profile_leaves_the_image_as_it_is():
    image, mask = np.full((20, 20, 3), 9, np.uint8), np.ones((20, 20), bool)
    build_input(image, mask, None, EVANYSEG)
    assert (image == 9).all()


def test_the_segqa_profile_has_five_channels_of_its_size():
    image, mask = noise_image(np.random.default_rng(0), 50, 70), disc(50, 70, 25, 30, 8)
    result = build_input(image, mask, Box(20, 15, 45, 36), SMALL)
    assert result.shape == (5, 32, 32)
    assert result.dtype == np.float32
    assert build_input(image, mask, None, SEGQA).shape == (5, SEGQA.size, SEGQA.size)


@pytest.mark.parametrize("box", [Box(90, 90, 110, 110), Box(90, 60, 110, 140), Box(60, 90, 140, 110)])
def test_shapes_keep_their_aspect(box):
    mask = disc(200, 200, 100, 100, 10)
    shown = build_input(np.zeros((200, 200, 3), np.uint8), mask, box, Profile(size=128))[3]
    own = Box.from_mask(shown > 0.5)
    assert abs(own.width - own.height) <= 1


def test_the_mask_channel_holds_the_share_of_the_mask_in_each_pixel():
    mask = disc(200, 200, 100, 100, 30)
    profile = Profile(size=64)
    shown = build_input(np.zeros((200, 200, 3), np.uint8), mask, None, profile)[3]
    side = view_of(mask, None, profile).width
    assert shown.min() == 0
    assert shown.max() == 1
    assert shown.sum() * (side / 64) ** 2 == pytest.approx(mask.sum(), rel=0.01)


def test_the_box_channel_marks_the_prompt_and_stays_empty_without_one():
    image, mask = np.zeros((100, 100, 3), np.uint8), disc(100, 100, 50, 50, 9)
    box = Box(40, 40, 60, 60)
    shown = build_input(image, mask, box, SMALL)[4]
    side = view_of(mask, box, SMALL).width
    assert set(np.unique(shown)) == {0, 1}
    assert Box.from_mask(shown > 0).width == pytest.approx(20 * 32 / side, abs=1)
    assert not build_input(image, mask, None, SMALL)[4].any()


def test_the_view_grows_for_a_mask_that_leaks_out_of_the_box_up_to_the_reach():
    box = Box(80, 80, 120, 120)
    tight = view_of(disc(200, 200, 100, 100, 10), box, SMALL)
    assert tight == Box(70, 70, 130, 130)  # a margin of a quarter
    leaking = view_of(disc(200, 200, 100, 100, 30) | disc(200, 200, 100, 125, 20), box, SMALL)
    assert leaking.union(Box(70, 70, 146, 131)) == leaking
    assert view_of(np.ones((200, 200), bool), box, SMALL) == Box(50, 50, 150, 150)  # the reach is three quarters


def test_a_mask_wholly_elsewhere_does_not_move_the_view():
    box = Box(80, 80, 120, 120)
    assert view_of(disc(200, 200, 15, 15, 8), box, SMALL) == view_of(np.zeros((200, 200), bool), box, SMALL)


def test_beyond_the_images_edge_every_channel_is_zero():
    image = noise_image(np.random.default_rng(3), 100, 100)
    mask = np.zeros((100, 100), bool)
    mask[:20, :20] = True
    view = view_of(mask, None, SMALL)
    assert view == Box(-5, -5, 25, 25)
    result = build_input(image, mask, None, SMALL)
    edge = 5 * 32 // 30
    assert not result[:, :edge].any()
    assert not result[:, :, :edge].any()
    assert result[3, edge + 2, edge + 2] == 1


@pytest.mark.parametrize("profile", [EVANYSEG, SMALL], ids=["evanyseg", "segqa"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 300)])
@pytest.mark.parametrize("filled", [False, True])
def test_tiny_pictures_and_empty_masks_give_finite_inputs(profile, shape, filled):
    image = noise_image(np.random.default_rng(4), *shape)
    mask = np.full(shape, filled)
    for box in (None, Box(0, 0, shape[1], shape[0]), Box(0, 0, 1, 1)):
        result = build_input(image, mask, box, profile)
        assert result.shape == (profile.channels, profile.size, profile.size)
        assert np.isfinite(result).all()


def test_an_empty_mask_without_a_box_shows_the_whole_image():
    view = view_of(np.zeros((60, 90), bool), None, SMALL)
    assert view.intersection(Box(0, 0, 90, 60)) == Box(0, 0, 90, 60)
    assert not build_input(noise_image(np.random.default_rng(0), 60, 90), np.zeros((60, 90), bool), None, SMALL)[
        3
    ].any()


def test_a_constant_image_is_zero_not_noise():
    result = build_input(np.full((50, 50, 3), 77, np.uint8), disc(50, 50, 25, 25, 8), None, SMALL)
    assert not result[:3].any()


def test_the_noise_of_a_flat_image_is_not_stretched():
    image = np.random.default_rng(0).integers(100, 102, size=(47, 47, 3), dtype=np.uint8)
    result = build_input(image, np.ones((47, 47), bool), None, SMALL)
    assert 0 < np.ptp(result[:3]) <= 1 / 4  # one grey level of at least four


def test_offset_and_gain_of_the_scanner_do_not_matter():
    rng = np.random.default_rng(5)
    image = rng.integers(20, 60, size=(80, 80, 3), dtype=np.uint8)
    mask, profile = disc(80, 80, 40, 40, 15), Profile(size=47)  # the view's own size: nothing is resampled
    assert view_of(mask, None, profile).width == 47
    plain, bright = (build_input(pixels, mask, None, profile) for pixels in (image, image * 3 + 40))
    np.testing.assert_allclose(plain, bright, atol=1e-5)


@st.composite
def scenes(draw):
    height, width = draw(st.integers(4, 60)), draw(st.integers(4, 60))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    box = Box(x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height)))
    return height, width, draw(st.none() | st.just(box)), draw(st.integers(0, 2**32 - 1))


@settings(max_examples=50, deadline=None)
@given(scenes())
def test_pixels_outside_of_the_view_do_not_matter(scene):
    height, width, box, seed = scene
    rng = np.random.default_rng(seed)
    image, mask = noise_image(rng, height, width), np.zeros((height, width), bool)
    mask[height // 3 : height // 2, width // 3 : width // 2] = True
    view = view_of(mask, box, SMALL).clip(height, width)
    other = noise_image(rng, height, width)
    other[view.y0 : view.y1, view.x0 : view.x1] = image[view.y0 : view.y1, view.x0 : view.x1]
    first, second = (build_input(pixels, mask, box, SMALL) for pixels in (image, other))
    np.testing.assert_array_equal(first, second)


@settings(max_examples=50, deadline=None)
@given(scenes())
def test_the_view_is_square_and_holds_the_box_and_any_input_is_finite(scene):
    height, width, box, seed = scene
    rng = np.random.default_rng(seed)
    image, mask = noise_image(rng, height, width), rng.random((height, width)) < 0.05
    view = view_of(mask, box, SMALL)
    assert view.width == view.height
    if box is not None:
        assert view.union(box) == view
    result = build_input(image, mask, box, SMALL)
    assert np.isfinite(result).all()
    assert 0 <= result[3:].min() <= result[3:].max() <= 1


def test_mask_and_box_stay_in_register_with_the_picture():
    mask = np.zeros((120, 90), bool)
    mask[30:80, 20:50] = True
    image = np.repeat((mask * np.uint8(200))[..., None], 3, axis=2)
    result = build_input(image, mask, Box.from_mask(mask), Profile(size=64))
    inside = Box.from_mask(result[3] >= 0.5)
    assert inside == Box.from_mask(result[0] >= (result[0].max() + result[0].min()) / 2)
    assert inside.iou(Box.from_mask(result[4] > 0)) > 0.9
