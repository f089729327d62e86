"""SAM, MedSAM and SAM-Med2D on generated checkpoints of exactly the published layout.

A cheap encoder stands in for the ViT where only what surrounds it is under test; one slow test runs the ViT.
"""

from contextlib import contextmanager

import numpy as np
import pytest
from scipy import ndimage

from segqa.data.boxes import Box
from segqa.errors import InputError
from segqa.published import expected_shapes
from segqa.segmenters.base import Prompt
from segqa.segmenters.registry import load_segmenter

torch = pytest.importorskip("torch")
official = pytest.importorskip("segment_anything", reason="segment-anything is not installed")

IMAGE = np.random.default_rng(3).integers(20, 230, (60, 90, 3), dtype=np.uint8)
IMAGE = ndimage.gaussian_filter(IMAGE, (6, 6, 0))
PROMPTS = [
    Prompt(Box(10, 5, 60, 50)),
    Prompt(points=((30.0, 20.0, True),)),
    Prompt(Box(40, 20, 85, 58)),
    Prompt(Box(10, 5, 60, 50), ((12.5, 40.0, False),)),
    Prompt(points=((70.0, 30.0, True), (5.0, 5.0, False))),
]


class CheapEncoder(torch.nn.Module):
    """Averages patches and mixes their colours into 256 features."""

    def __init__(self, img_size):
        super().__init__()
        self.img_size = img_size
        generator = torch.Generator().manual_seed(5)
        self.mix = torch.randn(256, 3, generator=generator)

    def forward(self, pixels):
        return torch.einsum("fc,nchw->nfhw", self.mix, torch.nn.functional.avg_pool2d(pixels, 16))


@contextmanager
def cheap_encoder(model):
    """Let the cheap encoder stand in for the model's own."""
    own = model._net.image_encoder
    model._net.image_encoder = CheapEncoder(own.img_size)
    try:
        yield model._net.image_encoder
    finally:
        model._net.image_encoder = own


def generate_state(name):
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in expected_shapes(name, {}).items():
        noise = torch.randn(shape, generator=generator)
        is_scale = len(shape) == 1 and key.endswith("weight")
        state[key] = 1 + 0.1 * noise if is_scale else noise * (0.5 if "embed" in key else 0.06)
    return state


@pytest.fixture(scope="module")
def sam_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "sam_vit_b.pth"
    torch.save(generate_state("sam-vit-b"), path)
    return path


@pytest.fixture(scope="module")
def sam(sam_file):
    return load_segmenter(f"sam-vit-b={sam_file}")


@pytest.fixture(scope="module")
def med2d_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("med2d") / "sam-med2d_b.pth"
    torch.save({"model": generate_state("sam-med2d"), "optimizer": {"state": {}}}, path)
    return path


@pytest.fixture(scope="module")
def med2d(med2d_file):
    return load_segmenter(f"sam-med2d={med2d_file}")


@pytest.mark.parametrize("encoder", ["vit_b", "vit_l", "vit_h"])
def test_the_layout_of_each_sam_is_that_of_the_official_package(encoder):
    with torch.device("meta"):
        built = official.sam_model_registry[encoder]().state_dict()

    layout = expected_shapes(f"sam-{encoder.replace('_', '-')}", {})

    assert dict(layout) == {key: tuple(value.shape) for key, value in built.items()}
    assert len(layout) == {"vit_b": 314, "vit_l": 482, "vit_h": 594}[encoder]


def predict_officially(model, prompts):
    """One call of the official predictor a prompt, on the same network."""
    predictor = official.SamPredictor(model)
    predictor.set_image(IMAGE)
    for prompt in prompts:
        box = prompt.box and np.array([prompt.box.x0, prompt.box.y0, prompt.box.x1, prompt.box.y1])
        points = np.array([point[:2] for point in prompt.points]) if prompt.points else None
        labels = np.array([int(point[2]) for point in prompt.points]) if prompt.points else None
        masks, iou, _ = predictor.predict(points, labels, box, multimask_output=False)
        yield masks[0], iou[0]


def test_everything_around_the_encoder_equals_the_official_predictor(sam):
    with cheap_encoder(sam):
        result = sam.segment(IMAGE, PROMPTS)
        expected = list(predict_officially(sam._net, PROMPTS))

    assert 0 < result.masks.mean() < 1
    for mask, confidence, (official_mask, iou) in zip(result.masks, result.confidence, expected, strict=True):
        assert (mask == official_mask).all()
        assert confidence == pytest.approx(iou, abs=1e-5)


@pytest.mark.slow
def test_sam_vit_b_equals_the_official_predictor_exactly(sam, sam_file):
    reference = official.sam_model_registry["vit_b"]()
    reference.load_state_dict(torch.load(sam_file, weights_only=True))

    result = sam.segment(IMAGE, PROMPTS[:2])

    for index, (expected, iou) in enumerate(predict_officially(reference.eval(), PROMPTS[:2])):
        assert (result.masks[index] == expected).all()
        assert result.confidence[index] == iou


def test_medsam_squeezes_scales_and_thresholds_as_its_authors_do(sam_file):
    medsam = load_segmenter(f"medsam={sam_file}")

    with cheap_encoder(medsam) as encoder:
        result = medsam.segment(IMAGE, [Prompt(Box(10, 5, 60, 50))])

    wide = np.stack(
        [
            ndimage.zoom(plane, (1024 / 60, 1024 / 90), order=3, mode="mirror", grid_mode=True)
            for plane in np.moveaxis(IMAGE.astype(float), -1, 0)
        ]
    )
    wide = wide.clip(IMAGE.min((0, 1))[:, None, None], IMAGE.max((0, 1))[:, None, None]).astype(np.uint8)
    scaled = (wide - wide.min()) / (wide.max() - wide.min())
    net = medsam._net
    with torch.no_grad():
        place = torch.tensor([[10 / 90, 5 / 60, 60 / 90, 50 / 60]]) * 1024
        sparse, dense = net.prompt_encoder(points=None, boxes=place[:, None], masks=None)
        low, iou = net.mask_decoder(
            image_embeddings=encoder(torch.tensor(scaled[None], dtype=torch.float32)),
            image_pe=net.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        share = torch.nn.functional.interpolate(low.sigmoid(), size=(60, 90), mode="bilinear", align_corners=False)
    assert (result.masks[0] == (share[0, 0] > 0.5).numpy()).mean() > 0.999
    assert result.confidence[0] == pytest.approx(float(iou), abs=1e-3)


def test_medsam_as_sam_is_sam_on_medsams_weights(sam, sam_file):
    compatible = load_segmenter(f"medsam-as-sam={sam_file}")

    with cheap_encoder(sam), cheap_encoder(compatible):
        assert (compatible.segment(IMAGE, PROMPTS).masks == sam.segment(IMAGE, PROMPTS).masks).all()

    assert compatible.name == "medsam-as-sam"


def test_sam_med2d_has_the_published_number_of_tensors(med2d):
    layout = expected_shapes("sam-med2d", {})

    assert len(layout) == 314 + 12 * 6
    assert layout["image_encoder.pos_embed"] == (1, 16, 16, 768)
    assert layout["image_encoder.blocks.11.Adapter.spatial.2.weight"] == (768, 768, 4, 4)
    assert {key: tuple(value.shape) for key, value in med2d._net.state_dict().items()} == dict(layout)


def test_sam_med2d_makes_masks_for_boxes_and_points(med2d):
    result = med2d.segment(IMAGE, PROMPTS)

    assert result.masks.shape == (5, 60, 90)
    assert 0 < result.masks.mean() < 1
    assert np.isfinite(result.confidence).all()


def test_an_adapter_adds_to_the_mlp_what_the_paper_draws(med2d):
    """Written out by hand from the figure: channel weights, strided convolution and back, skip, norm."""
    block = med2d._net.image_encoder.blocks[2]
    tensors = {key: value for key, value in block.state_dict().items() if key.startswith("Adapter")}
    tokens = torch.randn(1, 16, 16, 768, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        attended = tokens + block.attn(block.norm1(tokens))
        seen = block.norm2(attended)
        mlp = block.mlp.lin2(torch.nn.functional.gelu(block.mlp.lin1(seen)))
        image = seen.permute(0, 3, 1, 2)
        weights = torch.relu(image.mean((2, 3)) @ tensors["Adapter.channel.0.weight"].T)
        weights = torch.sigmoid(weights @ tensors["Adapter.channel.2.weight"].T)
        half = torch.conv2d(weights[..., None, None] * image, tensors["Adapter.spatial.0.weight"], stride=2, padding=1)
        full = torch.conv_transpose2d(half.relu(), tensors["Adapter.spatial.2.weight"], stride=2, padding=1).relu()
        adapted = torch.nn.functional.layer_norm(
            (image + full).permute(0, 2, 3, 1),
            (768,),
            tensors["Adapter.norm.weight"],
            tensors["Adapter.norm.bias"],
        )
        expected = attended + mlp + adapted

        torch.testing.assert_close(block(tokens), expected, atol=1e-4, rtol=1e-4)


def test_sam_med2d_takes_the_nearest_pixel(med2d):
    pixels, frame = med2d.preprocess(IMAGE)

    assert frame.filled == (256, 256)
    expected = (IMAGE[37 * 60 // 256, 200 * 90 // 256] - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    np.testing.assert_allclose(pixels[0, :, 37, 200], expected, rtol=1e-5)


def test_a_checkpoint_of_another_sam_is_refused_with_the_first_keys_that_differ(med2d_file, sam_file):
    with pytest.raises(InputError, match=r"not a checkpoint of sam-vit-b.*72 unexpected.*Adapter") as error:
        load_segmenter(f"sam-vit-b={med2d_file}")
    assert "image_encoder.pos_embed is 1x16x16x768 instead of 1x64x64x768" in str(error.value)

    with pytest.raises(InputError, match=r"not a checkpoint of sam-med2d.*72 missing.*Adapter"):
        load_segmenter(f"sam-med2d={sam_file}")
