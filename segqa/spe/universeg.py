"""UniverSeg (Butoi et al. 2023) in a form that never does the same work for each of the S support pairs.

A CrossBlock convolves the pair [query map u, support map v_i] with W = [Wu | Wv] and applies no
nonlinearity before it takes the mean over the support. Hence, exactly:

- the query half `Wu*u + b` is computed once, not S times, and no `(S, 2C, H, W)` tensor is built;
- the query path needs only the mean support map: `mean_i W[u; v_i] = Wu*u + b + Wv*mean_i(v_i)`;
- the first block's support maps `Ws*(Wv*v_i)` do not depend on the query: made once per support set;
- the last decoder block feeds only the query path, so it has no per-support work at all; bilinear
  upsampling is linear, so there the mean is upsampled instead of S maps.

Supports go through a block one at a time: a single map stays in the processor's cache, and what the next
block is given is made from it there and then. A map is let go of when its block has seen it, so that at no
time more is held than the first block's maps and one set of maps at half the resolution.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from segqa import state_dicts, weights
from segqa.errors import InputError
from segqa.spe.engines import SIDE, Canvas, CanvasMasks

OFFICIAL_FILE = "universeg_v1_nf64_ss64_STA.pt"
OWN_FILE = "incontext-w32.safetensors"
"""The same architecture, narrower and trained by segqa: what is used where the published weights are not."""
OFFICIAL_PARAMETERS, OFFICIAL_WIDTH = 1_182_785, 64
LICENCE_NOTICE = "UniverSeg's published weights are for research only (OpenRAIL++-M); they are not part of segqa"
THRESHOLD = 0.4
"""The SPE authors' cut of UniverSeg's probabilities (their configuration, not in the paper)."""
REPLACED_BY = f"the published weights replace it where {OFFICIAL_FILE} is installed"
CPU = torch.device("cpu")
SIDES = (32, 64, 128)
N_ENCODER, N_DECODER = 4, 3
SLOPE = 0.01
GREY = np.array([0.299, 0.587, 0.114], np.float32)

State = dict[str, Tensor]


def find_weights() -> Path:
    """Return the official weights file where the `universeg` package or segqa keeps it, else segqa's own.

    Raises:
        InputError: when there is none of them; the line names the official file, its origin and where to put it.
    """
    by_package = Path(torch.hub.get_dir()) / "checkpoints" / OFFICIAL_FILE
    if by_package.is_file():
        return by_package
    try:
        return weights.find_weights("universeg")
    except InputError:
        own = weights.shipped_weights_dir() / OWN_FILE
        if own.is_file():
            return own
        raise


def universeg_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Return the published layout, tensor by tensor, for blocks of `width` features (published: 64)."""
    shapes: dict[str, tuple[int, ...]] = {}
    pairs = [("enc_blocks", i, 3 if i == 0 else 2 * width) for i in range(N_ENCODER)]
    pairs += [("dec_blocks", i, 4 * width) for i in range(N_DECODER)]
    for group, index, n_in in pairs:
        block = f"{group}.{index}"
        shapes[f"{block}.cross.cross_conv.weight"] = (width, n_in, 3, 3)
        shapes[f"{block}.cross.cross_conv.bias"] = (width,)
        for path in ("target", "support"):
            shapes[f"{block}.{path}.vmapped.conv.weight"] = (width, width, 3, 3)
            shapes[f"{block}.{path}.vmapped.conv.bias"] = (width,)
    shapes["out_conv.conv.weight"] = (1, width, 1, 1)
    shapes["out_conv.conv.bias"] = (1,)
    return shapes


@dataclass(frozen=True, slots=True)
class Usage:
    """How the weights of a file are to be used; as published when it says nothing."""

    side: int = SIDE
    """Pixels that the network was trained on; canvases are averaged to it."""
    threshold: float = THRESHOLD
    notice: str = LICENCE_NOTICE

    @classmethod
    def from_file(cls, path: Path) -> Usage:
        """Return what a file says of itself.

        Raises:
            InputError: when that makes no sense, or the file is not readable.
        """
        said = weights.read_metadata(path) if path.suffix == ".safetensors" else {}
        if "side" not in said:
            return cls(notice=f"{path.name}: {LICENCE_NOTICE}")
        try:
            side, threshold = int(said["side"]), float(said["threshold"])
        except (KeyError, ValueError) as error:
            msg = f"{path.name}: its metadata has no usable side and threshold ({error}); restore the file"
            raise InputError(msg) from error
        if side not in SIDES or not 0 < threshold < 1:
            msg = f"{path.name}: side {side} (possible: {SIDES}) or threshold {threshold} cannot be; restore the file"
            raise InputError(msg)
        licence = said.get("licence", "see its card")
        return cls(side, threshold, f"{path.name}: segqa's own in-context network ({licence}); {REPLACED_BY}")


@dataclass(frozen=True, slots=True)
class _Block:
    """One CrossBlock with its cross convolution cut into the query's and the support's half."""

    query: Tensor
    support: Tensor
    bias: Tensor
    after_query: tuple[Tensor, Tensor]
    after_support: tuple[Tensor, Tensor]

    @classmethod
    def from_state(cls, state: State, name: str) -> _Block:
        cross = state[f"{name}.cross.cross_conv.weight"]
        half = cross.shape[1] // 2 if name != "enc_blocks.0" else 1
        paths = [
            (_fast(state[f"{name}.{path}.vmapped.conv.weight"]), state[f"{name}.{path}.vmapped.conv.bias"])
            for path in ("target", "support")
        ]
        bias = state[f"{name}.cross.cross_conv.bias"]
        return cls(_fast(cross[:, :half]), _fast(cross[:, half:]), bias, *paths)

    def mix(self, query: Tensor) -> Tensor:
        """Return `Wu*u + b`: what every support pair has in common."""
        return _conv(query, self.query, self.bias)

    def to_query(self, mixed: Tensor, mean: Tensor) -> Tensor:
        """Return the next query map, which needs only the mean of the support maps."""
        return functional.leaky_relu_(_conv(mixed + _conv(mean, self.support), *self.after_query), SLOPE)

    def to_support(self, shared: Tensor, support: Tensor) -> Tensor:
        """Return the next map of one support pair; `shared` is `Ws*(Wu*u + b) + bs`."""
        own = _conv(_conv(support, self.support), self.after_support[0])
        return functional.leaky_relu_(own.add_(shared), SLOPE)


@dataclass(frozen=True, slots=True)
class SupportSet:
    """A support set with the part of the first block that no query changes."""

    mean: Tensor
    """Mean of the pairs, shape `(1, 2, H, W)`."""
    first: Tensor
    """First block's map of each pair before the query is added, shape `(S, C, H, W)`."""


class UniverSeg:
    """The in-context network behind the `Engine` protocol."""

    name = "universeg"
    is_cheap = False

    def __init__(
        self,
        state: State,
        *,
        source: str = "state dict",
        precision: str = "fp32",
        device: torch.device = CPU,
        usage: Usage | None = None,
    ) -> None:
        usage = usage or Usage()
        self.side, self.threshold, self.notice = usage.side, usage.threshold, usage.notice
        head = state.get("out_conv.conv.weight")
        self.width = int(head.shape[1]) if head is not None and head.ndim == 4 else OFFICIAL_WIDTH
        state_dicts.check_shapes(state, universeg_shapes(self.width), name="universeg", source=source)
        state_dicts.check_finite(state, source=source)
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        self._device = device
        digest = hashlib.sha256()
        for name in sorted(state):
            digest.update(name.encode() + state[name].float().contiguous().numpy().tobytes())
        self.settings = {"weights_sha256": digest.hexdigest(), "precision": precision}
        cast = {name: tensor.to(device, self._dtype) for name, tensor in state.items()}
        self._encoder = [_Block.from_state(cast, f"enc_blocks.{i}") for i in range(N_ENCODER)]
        self._decoder = [_Block.from_state(cast, f"dec_blocks.{i}") for i in range(N_DECODER)]
        self._head = (cast["out_conv.conv.weight"], cast["out_conv.conv.bias"])

    @classmethod
    def from_file(cls, path: Path, *, precision: str = "fp32", device: torch.device = CPU) -> UniverSeg:
        """Return the network of a safetensors file or of the official checkpoint.

        Raises:
            InputError: when the file is missing, damaged or of another layout.
        """
        state = state_dicts.read_state(path)
        return cls(state, source=path.name, precision=precision, device=device, usage=Usage.from_file(path))

    @torch.inference_mode()
    def segment(self, queries: Canvas, support_images: Canvas, support_masks: CanvasMasks) -> NDArray[np.float32]:
        """Return foreground probabilities `(Q, H, W)` of queries `(Q, H, W, 3)`; H and W divisible by 8."""
        factor = max(1, queries.shape[1] // self.side)
        masks = _average(support_masks.astype(np.float32), factor)
        support = self.prepare(torch.from_numpy(np.stack([to_unit_grey(support_images, factor), masks], axis=1)))
        grey = torch.from_numpy(to_unit_grey(queries, factor))[:, None]
        probabilities = torch.sigmoid(torch.cat([self.forward(query[None], support) for query in grey]))
        if factor > 1:
            probabilities = functional.interpolate(probabilities, scale_factor=factor, mode="bilinear")
        found: NDArray[np.float32] = probabilities[:, 0].cpu().numpy()
        return found

    @torch.inference_mode()
    def prepare(self, pairs: Tensor) -> SupportSet:
        """Return what depends on the support pairs `(S, 2, H, W)` (image, mask) alone."""
        pairs = _fast(pairs.to(self._device, self._dtype))
        block = self._encoder[0]
        # One tensor for all: maps of their own would lie scattered between what is freed, and hold its memory.
        shape = (len(pairs), self.width, *pairs.shape[2:])
        first = torch.empty(shape, dtype=self._dtype, device=self._device, memory_format=torch.channels_last)
        for pair, kept in zip(pairs, first, strict=True):
            kept.copy_(_conv(_conv(pair[None], block.support), block.after_support[0])[0])
        return SupportSet(pairs.mean(0, keepdim=True), first)

    @torch.inference_mode()
    def forward(self, query: Tensor, support: SupportSet) -> Tensor:
        """Return float32 logits `(1, 1, H, W)` of one query `(1, 1, H, W)` in 0..1."""
        block = self._encoder[0]
        mixed = block.mix(_fast(query.to(self._device, self._dtype)))
        shared = _conv(mixed, *block.after_support)
        target = block.to_query(mixed, support.mean)
        mean_of_first = torch.zeros_like(shared)
        maps = _finish_first(support.first, shared, mean_of_first)
        query_skips, support_skips = [target], []
        for block in self._encoder[1:-1]:
            target, supports = _cross(block, functional.max_pool2d(target, 2), maps)
            query_skips.append(target)
            support_skips.append(supports)
            maps = (functional.max_pool2d(own, 2) for own in supports)
        target, supports = _cross(self._encoder[-1], functional.max_pool2d(target, 2), maps)
        for block in self._decoder[:-1]:
            query = torch.cat([_double(target), query_skips.pop()], dim=1)
            target, supports = _cross(block, query, _join(supports, support_skips.pop()))
        block = self._decoder[-1]
        mixed = block.mix(torch.cat([_double(target), query_skips.pop()], dim=1))
        mean = torch.cat([_double(sum(supports, torch.zeros(())) / len(supports)), mean_of_first], dim=1)
        return functional.conv2d(block.to_query(mixed, mean), *self._head).float()


def to_unit_grey(images: Canvas, factor: int = 1) -> NDArray[np.float32]:
    """Return images `(N, H, W, 3)` as grey `(N, H / factor, W / factor)`, stretched to 0..1; a constant one is 0."""
    grey = _average(images.astype(np.float32) @ GREY, factor)
    low = grey.min(axis=(1, 2), keepdims=True)
    spread = grey.max(axis=(1, 2), keepdims=True) - low
    stretched: NDArray[np.float32] = ((grey - low) / np.where(spread > 0, spread, 1)).astype(np.float32)
    return stretched


def _average(maps: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Return maps `(N, H, W)` at a side `factor` times smaller."""
    n, height, width = maps.shape
    blocks = maps.reshape(n, height // factor, factor, width // factor, factor)
    averages: NDArray[np.float32] = blocks.mean(axis=(2, 4))
    return averages


def _finish_first(first: Tensor, shared: Tensor, mean: Tensor) -> Iterator[Tensor]:
    """Yield the first block's maps for one query, halved; `mean` becomes their mean at full resolution."""
    own = torch.empty_like(shared)
    for prepared in first:
        functional.leaky_relu_(torch.add(prepared, shared, out=own), SLOPE)
        mean.add_(own, alpha=1 / len(first))
        yield functional.max_pool2d(own, 2)


def _join(supports: deque[Tensor], skips: deque[Tensor]) -> Iterator[Tensor]:
    """Yield the decoder's maps, and let go of the two that each is made of."""
    while skips:
        yield torch.cat([_double(supports.popleft()), skips.popleft()], dim=1)


def _cross(block: _Block, query: Tensor, supports: Iterable[Tensor]) -> tuple[Tensor, deque[Tensor]]:
    """Return the next query map and the next map of each support pair."""
    mixed = block.mix(query)
    shared = _conv(mixed, *block.after_support)
    following: deque[Tensor] = deque()
    total = torch.zeros(())
    for own in supports:
        total = total + own
        following.append(block.to_support(shared, own))
    return block.to_query(mixed, total / len(following)), following


def _conv(maps: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.conv2d(maps, weight, bias, padding=1)


def _double(maps: Tensor) -> Tensor:
    return functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)


def _fast(maps: Tensor) -> Tensor:
    return maps.contiguous(memory_format=torch.channels_last)
