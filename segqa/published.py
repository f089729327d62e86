"""Names and shapes of the published checkpoints, and how EvanySeg's turn into segqa's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from segqa.state_dicts import Shapes

_SAM_ENCODERS = {
    # width, blocks, heads, blocks with global attention
    "sam-vit-b": (768, 12, 12, (2, 5, 8, 11)),
    "sam-vit-l": (1024, 24, 16, (5, 11, 17, 23)),
    "sam-vit-h": (1280, 32, 16, (7, 15, 23, 31)),
}
_WINDOW = 14
_RESNET101_BLOCKS = (3, 4, 23, 3)

EVANYSEG_VIT_B, EVANYSEG_RESNET101 = "evanyseg-vit-b", "evanyseg-resnet101"

EVANYSEG_BACKBONES = {EVANYSEG_VIT_B: "vit_base_patch16_224", EVANYSEG_RESNET101: "resnet101"}
"""timm's name for the backbone of EvanySeg's published checkpoints."""

_EVANYSEG_HEADS = {
    EVANYSEG_VIT_B: {"classifier": "dice", "hd_classifier": "hd"},
    EVANYSEG_RESNET101: {"dice_classifier": "dice", "hd_classifier": "hd"},
}


IMPORTABLE = (*_SAM_ENCODERS, "medsam", "sam-med2d", "universeg", *EVANYSEG_BACKBONES)
"""Checkpoints with a known layout."""


def expected_shapes(name: str, keys: Mapping[str, object]) -> Shapes:
    """Return the layout of a checkpoint of the registry.

    Args:
        name: Name in the registry.
        keys: The keys that were found; EvanySeg's second head is optional.

    Raises:
        KeyError: For a name without a layout.
    """
    if name in _SAM_ENCODERS:
        return _sam(*_SAM_ENCODERS[name], grid=64)
    if name == "medsam":
        return _sam(*_SAM_ENCODERS["sam-vit-b"], grid=64)
    if name == "sam-med2d":
        return {**_sam(*_SAM_ENCODERS["sam-vit-b"], grid=16), **_adapters(768, 12)}
    if name == "universeg":
        from segqa.spe.universeg import OFFICIAL_WIDTH, universeg_shapes

        return universeg_shapes(OFFICIAL_WIDTH)
    layout = {EVANYSEG_VIT_B: _evanyseg_vit_b, EVANYSEG_RESNET101: _evanyseg_resnet101}[name]()
    features = 768 if name == EVANYSEG_VIT_B else 2048
    for head in _EVANYSEG_HEADS[name]:
        if not head.startswith("hd") or f"{head}.weight" in keys:
            layout |= _linear(head, features, 1)
    return layout


def convert_evanyseg(name: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return EvanySeg's tensors under the names of a timm backbone and of segqa's heads.

    Args:
        name: `evanyseg-vit-b` or `evanyseg-resnet101`.
        state: Tensors of exactly the published layout.

    Returns:
        `backbone.*` and `heads.<metric>.*`.
    """
    heads = {
        f"heads.{metric}.{part}": state[f"{head}.{part}"]
        for head, metric in _EVANYSEG_HEADS[name].items()
        for part in ("weight", "bias")
        if f"{head}.{part}" in state
    }
    backbone = _vit_to_timm(state) if name == EVANYSEG_VIT_B else _resnet_to_timm(state)
    return {f"backbone.{key}": value for key, value in backbone.items()} | heads


def _vit_to_timm(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    import torch

    result = {
        "cls_token": state["vit.embeddings.cls_token"],
        "pos_embed": state["vit.embeddings.position_embeddings"],
    }
    for part in ("weight", "bias"):
        result[f"patch_embed.proj.{part}"] = state[f"vit.embeddings.patch_embeddings.projection.{part}"]
        result[f"norm.{part}"] = state[f"vit.layernorm.{part}"]
        for index in range(12):
            old, new = f"vit.encoder.layer.{index}", f"blocks.{index}"
            result[f"{new}.attn.qkv.{part}"] = torch.cat(
                [state[f"{old}.attention.attention.{kind}.{part}"] for kind in ("query", "key", "value")]
            )
            for theirs, ours in _VIT_BLOCK.items():
                result[f"{new}.{ours}.{part}"] = state[f"{old}.{theirs}.{part}"]
    return result


_VIT_BLOCK = {
    "layernorm_before": "norm1",
    "attention.output.dense": "attn.proj",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}

_RESNET_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""torchvision's names by position: the published network is a plain sequence of the children."""


def _resnet_to_timm(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    result = {}
    for key, value in state.items():
        if key.startswith("backbone."):
            position, rest = key.removeprefix("backbone.").split(".", 1)
            result[f"{_RESNET_CHILDREN[position]}.{rest}"] = value
    return result


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _conv(name: str, inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> dict[str, tuple[int, ...]]:
    layout: dict[str, tuple[int, ...]] = {f"{name}.weight": (outputs, inputs, kernel, kernel)}
    return layout | ({f"{name}.bias": (outputs,)} if bias else {})


def _sam(width: int, blocks: int, heads: int, global_blocks: tuple[int, ...], *, grid: int) -> Shapes:
    encoder = "image_encoder"
    layout: dict[str, tuple[int, ...]] = {f"{encoder}.pos_embed": (1, grid, grid, width)}
    layout |= _conv(f"{encoder}.patch_embed.proj", 3, width, 16)
    for index in range(blocks):
        block = f"{encoder}.blocks.{index}"
        span = 2 * (grid if index in global_blocks else _WINDOW) - 1
        layout |= _norm(f"{block}.norm1", width) | _norm(f"{block}.norm2", width)
        layout |= dict.fromkeys((f"{block}.attn.rel_pos_h", f"{block}.attn.rel_pos_w"), (span, width // heads))
        layout |= _linear(f"{block}.attn.qkv", width, 3 * width) | _linear(f"{block}.attn.proj", width, width)
        layout |= _linear(f"{block}.mlp.lin1", width, 4 * width)
        layout |= _linear(f"{block}.mlp.lin2", 4 * width, width)
    layout |= _conv(f"{encoder}.neck.0", width, 256, 1, bias=False) | _norm(f"{encoder}.neck.1", 256)
    layout |= _conv(f"{encoder}.neck.2", 256, 256, 3, bias=False) | _norm(f"{encoder}.neck.3", 256)
    return layout | _sam_prompt_encoder() | _sam_mask_decoder()


def _sam_prompt_encoder() -> dict[str, tuple[int, ...]]:
    name = "prompt_encoder"
    layout: dict[str, tuple[int, ...]] = {f"{name}.pe_layer.positional_encoding_gaussian_matrix": (2, 128)}
    embeddings = [*(f"point_embeddings.{index}" for index in range(4)), "not_a_point_embed", "no_mask_embed"]
    layout |= {f"{name}.{embedding}.weight": (1, 256) for embedding in embeddings}
    down = f"{name}.mask_downscaling"
    layout |= _conv(f"{down}.0", 1, 4, 2) | _norm(f"{down}.1", 4)
    return layout | _conv(f"{down}.3", 4, 16, 2) | _norm(f"{down}.4", 16) | _conv(f"{down}.6", 16, 256, 1)


def _sam_mask_decoder() -> dict[str, tuple[int, ...]]:
    name, width = "mask_decoder", 256
    layout: dict[str, tuple[int, ...]] = {}
    for index in range(2):
        block = f"{name}.transformer.layers.{index}"
        layout |= _attention(f"{block}.self_attn", width)
        layout |= _attention(f"{block}.cross_attn_token_to_image", width // 2)
        layout |= _attention(f"{block}.cross_attn_image_to_token", width // 2)
        layout |= _linear(f"{block}.mlp.lin1", width, 2048) | _linear(f"{block}.mlp.lin2", 2048, width)
        for number in range(1, 5):
            layout |= _norm(f"{block}.norm{number}", width)
    layout |= _attention(f"{name}.transformer.final_attn_token_to_image", width // 2)
    layout |= _norm(f"{name}.transformer.norm_final_attn", width)
    layout |= {f"{name}.iou_token.weight": (1, width), f"{name}.mask_tokens.weight": (4, width)}
    layout |= {f"{name}.output_upscaling.0.weight": (256, 64, 2, 2), f"{name}.output_upscaling.0.bias": (64,)}
    layout |= _norm(f"{name}.output_upscaling.1", 64)
    layout |= {f"{name}.output_upscaling.3.weight": (64, 32, 2, 2), f"{name}.output_upscaling.3.bias": (32,)}
    heads = {f"output_hypernetworks_mlps.{index}": 32 for index in range(4)} | {"iou_prediction_head": 4}
    for head, outputs in heads.items():
        for layer, size in enumerate((width, width, outputs)):
            layout |= _linear(f"{name}.{head}.layers.{layer}", width, size)
    return layout


def _attention(name: str, inner: int) -> dict[str, tuple[int, ...]]:
    layout = _linear(f"{name}.out_proj", inner, 256)
    for part in "qkv":
        layout |= _linear(f"{name}.{part}_proj", 256, inner)
    return layout


def _adapters(width: int, blocks: int) -> dict[str, tuple[int, ...]]:
    layout: dict[str, tuple[int, ...]] = {}
    for index in range(blocks):
        name = f"image_encoder.blocks.{index}.Adapter"
        layout |= _norm(f"{name}.norm", width)
        layout[f"{name}.channel.0.weight"] = (width // 4, width)
        layout[f"{name}.channel.2.weight"] = (width, width // 4)
        layout[f"{name}.spatial.0.weight"] = (width, width, 3, 3)
        layout[f"{name}.spatial.2.weight"] = (width, width, 4, 4)
    return layout


def _evanyseg_vit_b() -> dict[str, tuple[int, ...]]:
    width = 768
    layout: dict[str, tuple[int, ...]] = {
        "vit.embeddings.cls_token": (1, 1, width),
        "vit.embeddings.position_embeddings": (1, 197, width),
    }
    layout |= _conv("vit.embeddings.patch_embeddings.projection", 3, width, 16)
    for index in range(12):
        block = f"vit.encoder.layer.{index}"
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            layout |= _linear(f"{block}.attention.{part}", width, width)
        layout |= _linear(f"{block}.intermediate.dense", width, 4 * width)
        layout |= _linear(f"{block}.output.dense", 4 * width, width)
        layout |= _norm(f"{block}.layernorm_before", width) | _norm(f"{block}.layernorm_after", width)
    return layout | _norm("vit.layernorm", width)


def _evanyseg_resnet101() -> dict[str, tuple[int, ...]]:
    layout = _conv("backbone.0", 3, 64, 7, bias=False) | _batch_norm("backbone.1", 64)
    inputs = 64
    for stage, blocks in enumerate(_RESNET101_BLOCKS):
        inner = 64 * 2**stage
        for index in range(blocks):
            block = f"backbone.{4 + stage}.{index}"
            sizes = ((inputs, inner, 1), (inner, inner, 3), (inner, 4 * inner, 1))
            for number, (before, after, kernel) in enumerate(sizes, start=1):
                layout |= _conv(f"{block}.conv{number}", before, after, kernel, bias=False)
                layout |= _batch_norm(f"{block}.bn{number}", after)
            if index == 0:
                layout |= _conv(f"{block}.downsample.0", inputs, 4 * inner, 1, bias=False)
                layout |= _batch_norm(f"{block}.downsample.1", 4 * inner)
            inputs = 4 * inner
    return layout


def _batch_norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    moving: dict[str, tuple[int, ...]] = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}
    return _norm(name, width) | moving | {f"{name}.num_batches_tracked": ()}
