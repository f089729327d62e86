"""A small U-Net whose training is saved many times: the checkpoints that SPE is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

SIDE = 128
WIDTHS = (12, 24, 48, 64)
"""Channels at strides 2 to 16: at full resolution each channel would cost four times as much."""
FIRST_STEP = 20
"""Before that, everything is still predicted as one label, whatever the image."""
RATE = 2e-3


def _block(n_in: int, n_out: int, *, stride: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, step in ((n_in, stride), (n_out, 1)):
        layers += [nn.Conv2d(width, n_out, 3, step, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Encoder and decoder of four levels with skips; `(B, 3, H, W)` to `(B, n_classes, H, W)` logits.

    The first block halves the resolution; the logits are brought back to it by interpolation.
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        ends = (3, *WIDTHS)
        self.down = nn.ModuleList(
            _block(a, b, stride=1 if level else 2) for level, (a, b) in enumerate(zip(ends, WIDTHS, strict=False))
        )
        self.up = nn.ModuleList(_block(a + b, b) for a, b in zip(WIDTHS[::-1], WIDTHS[-2::-1], strict=False))
        self.head = nn.Conv2d(WIDTHS[0], n_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0), skip], dim=1))
        return functional.interpolate(self.head(x), scale_factor=2.0, mode="bilinear")


def read_images(folder: Path) -> tuple[list[str], torch.Tensor]:
    """Return stems and images `(N, 3, SIDE, SIDE)` in 0..1, sorted by name."""
    paths = sorted(folder.iterdir())
    pixels = [np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE))) for path in paths]
    stack = np.stack(pixels).astype(np.float32) / 255
    return [path.stem for path in paths], torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()


def read_masks(folder: Path) -> torch.Tensor:
    """Return label maps `(N, SIDE, SIDE)`, sorted by name."""
    maps = [Image.open(path).resize((SIDE, SIDE), Image.Resampling.NEAREST) for path in sorted(folder.iterdir())]
    return torch.from_numpy(np.stack([np.asarray(each) for each in maps]).astype(np.int64))


def train(root: Path, *, n_checkpoints: int, n_steps: int, batch: int = 8, seed: int = 0) -> None:
    """Train on `root/train`, saving at `n_checkpoints` steps that are spaced geometrically.

    Geometric, because a network improves quickly at first: even spacing gives one bad and many good ones.
    Rare labels weigh more in the loss, so that early checkpoints predict some of each.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    _, images = read_images(root / "train" / "images")
    masks = read_masks(root / "train" / "masks")
    network = UNet(int(masks.max()) + 1)
    network.to(memory_format=torch.channels_last)
    weights = torch.bincount(masks.flatten()).clamp(min=1).float() ** -0.5
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    save_at = set(np.unique(np.geomspace(FIRST_STEP, n_steps, n_checkpoints).round().astype(int)).tolist())
    folder = root / "checkpoints"
    folder.mkdir(exist_ok=True)
    for step in range(1, n_steps + 1):
        rows = torch.from_numpy(rng.choice(len(images), size=batch, replace=False))
        batch_of = images[rows].contiguous(memory_format=torch.channels_last)
        loss = functional.cross_entropy(network(batch_of), masks[rows], weight=weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step in save_at:
            torch.save(network.state_dict(), folder / f"step{step:06d}.pt")
    (folder / "training.done").touch()


def predict(root: Path, part: str, checkpoints: list[Path]) -> None:
    """Write the label map of every image of a part for each checkpoint, at the image's own size."""
    stems, images = read_images(root / part / "images")
    sizes = [Image.open(path).size for path in sorted((root / part / "images").iterdir())]
    for checkpoint in checkpoints:
        target = root / part / "predictions" / checkpoint.stem
        if (target / f"{stems[-1]}.png").exists():
            continue
        target.mkdir(parents=True, exist_ok=True)
        for stem, size, label_map in zip(stems, sizes, _segment(checkpoint, images), strict=True):
            Image.fromarray(label_map).resize(size, Image.Resampling.NEAREST).save(target / f"{stem}.png")


@torch.inference_mode()
def _segment(checkpoint: Path, images: torch.Tensor) -> NDArray[np.uint8]:
    state = torch.load(checkpoint, weights_only=True)
    network = UNet(len(state["head.bias"]))
    network.load_state_dict(state)
    network.eval()
    return torch.cat([network(part).argmax(1) for part in images.split(16)]).numpy().astype(np.uint8)
