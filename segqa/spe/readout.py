"""The readout engine: a frozen feature pyramid and a closed-form ridge classifier for each support set.

All that is learned from a support set is one weight per feature channel, and every step from feature maps to
the score of a pixel is linear. So the work is done where it is cheap:

- the pyramid of an image is computed once for the whole run and kept at each level's own resolution;
- its Gram matrix (over all pixels of a 64 x 64 grid) is computed once, too, the products of two levels at the
  resolution of the coarser one; a support set's is their sum, and its factorisation is shared by all models that use
  the same support images;
- a score map is the sum of one upsampled single-channel map a level, instead of upsampled features.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from segqa import weights
from segqa.errors import InputError
from segqa.spe.engines import SIDE, Canvas, CanvasMasks

GRAPH = "readout-lite0.onnx"
GRID = 64
"""Pixels are classified on a grid of this side; the score map is then brought to `SIDE`."""
RIDGE = 1e-3
"""Weight of the penalty: in units of each channel's own variance, a pixel."""
N_COSINES = 256
COSINE_GRID = 16
"""Random cosines of all coarse channels (Rahimi and Recht 2007) let the ridge follow what is not linear."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


KEPT_FACTORS = 64
"""Factorised Gram matrices that are kept: those of all sizes and draws, which the next model uses again."""
QUICK_IMAGES = 512
"""Images whose maps are kept in single precision, 0.8 MB each; conversion takes longer than a score map."""
KEPT_IMAGES = 4096
"""Images whose maps are kept at all, the last used: every slice of large volumes would not fit the memory."""


class _Features:
    """One image: its maps `(r * r, channels)` by level, and the Gram matrix of all of them on the grid."""

    def __init__(self, levels: list[Floats], *, quick: bool = False) -> None:
        # Half precision: a run keeps the maps of its images, and the ridge does not see the difference. The
        # quick ones are rounded, too: what is found must not depend on how many images were seen before.
        halved = [level.astype(np.float16) for level in levels]
        self._levels = [level.astype(np.float32) for level in halved] if quick else halved

    @property
    def levels(self) -> list[Floats]:
        """Return the maps in single precision."""
        return [level.astype(np.float32, copy=False) for level in self._levels]

    @cached_property
    def gram(self) -> Floats:
        """Return the products of all pairs of channels, summed over the grid, shape `(C, C)`."""
        levels = self.levels
        ends = np.cumsum([level.shape[1] for level in levels])
        places = [slice(end - level.shape[1], end) for level, end in zip(levels, ends, strict=True)]
        gram = np.empty((ends[-1], ends[-1]), np.float32)
        for i, j in combinations_with_replacement(range(len(levels)), 2):
            block = _products(levels[i], levels[j])
            gram[places[i], places[j]], gram[places[j], places[i]] = block, block.T
        return gram

    def pull(self, mask: Floats) -> Floats:
        """Return the product of every channel with a mask `(GRID, GRID)`, shape `(C,)`."""
        return np.concatenate([level.T @ _shrink(mask, _side(level)).ravel() for level in self.levels])

    def scores(self, weights: Floats) -> Floats:
        """Return the weighted sum of all channels on the grid, of weights `(..., C)` with shape `(..., GRID, GRID)`."""
        *several, _ = weights.shape
        total = np.zeros((*several, GRID, GRID), np.float32)
        start = 0
        for level in self.levels:
            side, width = _side(level), level.shape[1]
            coarse = (weights[..., start : start + width] @ level.T).reshape(*several, side, side)
            total += coarse if side == GRID else _stretch(side, GRID) @ coarse @ _stretch(side, GRID).T
            start += width
        return total


@dataclass(frozen=True, slots=True)
class Classifier:
    """What a support set taught: one weight for each channel, and the score from which a pixel is foreground."""

    weights: Floats
    cut: np.float32

    def apply(self, features: _Features) -> Floats:
        """Return foreground probabilities `(SIDE, SIDE)`."""
        up = _stretch(GRID, SIDE)
        return np.clip(up @ features.scores(self.weights) @ up.T - self.cut + np.float32(0.5), 0, 1)


class Readout:
    """The default engine; it needs no weights but those that ship."""

    name = "readout"
    threshold = 0.5
    is_cheap = True
    notice = ""

    def __init__(self) -> None:
        path = weights.shipped_weights_dir() / GRAPH
        if not path.is_file():
            msg = f"{path}: the readout engine's weights are missing; install segqa again"
            raise InputError(msg)
        content = path.read_bytes()
        self.settings = {"weights_sha256": hashlib.sha256(content).hexdigest()}
        self._session = _open_graph(content)
        self._features: dict[bytes, _Features] = {}
        self._factors: dict[bytes, Any] = {}

    def __reduce__(self) -> tuple[type[Readout], tuple[()]]:
        """Travel to another process as its name: the weights ship, and what was seen is seen again."""
        return Readout, ()

    def segment(self, queries: Canvas, support_images: Canvas, support_masks: CanvasMasks) -> Floats:
        """Return foreground probabilities `(Q, SIDE, SIDE)`; see `engines.Engine`."""
        return self.find(queries, self.fit(support_images, support_masks))

    def fit(self, support_images: Canvas, support_masks: CanvasMasks) -> Classifier:
        """Return what a support set teaches; the features of its images are kept for other sets.

        The cut at 0.5 gives the support images as much foreground as their masks have. A ridge fitted to 0
        and 1 seldom reaches 0.5 inside a small object, so a fixed cut would lose what is rare.
        """
        supports = [self._look_up(image) for image in support_images]
        factor = self._factorise(supports, hashlib.sha256(support_images.tobytes()).digest())
        solution = _solve(factor, _sum(_targets(supports, support_masks)))
        known = np.stack([one.scores(solution) for one in supports])
        return Classifier(solution, _cut(known, support_masks))

    def fit_others(
        self, support_images: Canvas, support_masks: CanvasMasks, groups: Sequence[str]
    ) -> dict[str, Classifier]:
        """Return for each group of support pairs what the others teach, as `fit` of them does.

        Sums over the others are those over all less the group's own, in double precision, and each image is scored for
        all groups at once.

        Args:
            support_images: Of two groups or more.
            support_masks: Their masks.
            groups: The group of each pair.
        """
        supports = [self._look_up(image) for image in support_images]
        targets = _targets(supports, support_masks)
        places = {group: np.flatnonzero(np.array(groups) == group) for group in groups}
        own_grams = [_sum(supports[i].gram for i in own) for own in places.values()]
        own_targets = [_sum(targets[i] for i in own) for own in places.values()]
        gram, target = _sum(own_grams), _sum(own_targets)
        solutions = []
        for own, own_gram, own_target in zip(places.values(), own_grams, own_targets, strict=True):
            factor = _factor(gram - own_gram, len(supports) - len(own))
            solutions.append(_solve(factor, target - own_target))
        known = np.stack([one.scores(np.stack(solutions)) for one in supports], axis=1)
        return {
            group: Classifier(solution, _cut(np.delete(scores, own, axis=0), np.delete(support_masks, own, axis=0)))
            for (group, own), solution, scores in zip(places.items(), solutions, known, strict=True)
        }

    def find(self, images: Canvas, classifier: Classifier) -> Floats:
        """Return foreground probabilities `(N, SIDE, SIDE)` of images; their features are kept as supports' are."""
        return np.stack([classifier.apply(self._look_up(image)) for image in images])

    def classify(self, image: NDArray[np.uint8], classifier: Classifier) -> Floats:
        """Return foreground probabilities `(SIDE, SIDE)` of an image `(SIDE, SIDE, 3)` that will not come again."""
        return classifier.apply(_Features(_build_levels(self._session, image), quick=True))

    def forget(self) -> None:
        """Let go of the features of all images: when everything is taught, they are memory only."""
        self._features.clear()
        self._factors.clear()

    def embed(self, images: Canvas) -> Floats:
        """Return one vector an image, shape `(N, C)`: the mean of each channel of the coarsest level."""
        return np.stack([self._look_up(image).levels[COARSEST].mean(axis=0) for image in images])

    def _look_up(self, image: NDArray[np.uint8]) -> _Features:
        key = hashlib.sha256(image.tobytes()).digest()
        found = self._features.pop(key, None)
        if found is None:
            levels = _build_levels(self._session, image)
            found = _Features(levels, quick=len(self._features) < QUICK_IMAGES)
        self._features[key] = found
        while len(self._features) > KEPT_IMAGES:
            del self._features[next(iter(self._features))]
        return found

    def _factorise(self, supports: list[_Features], key: bytes) -> Any:
        if key not in self._factors:
            while len(self._factors) >= KEPT_FACTORS:
                del self._factors[next(iter(self._factors))]
            self._factors[key] = _factor(_sum(one.gram for one in supports), len(supports))
        return self._factors[key]


def _sum(arrays: Iterable[NDArray[np.floating]]) -> Doubles:
    """Return a sum in double precision; `np.sum` of a list would copy all into one array first."""
    first, *others = arrays
    total = first.astype(np.float64)
    for one in others:
        total += one
    return total


def _targets(supports: Sequence[_Features], masks: CanvasMasks) -> list[Floats]:
    block = SIDE // GRID
    small = masks.reshape(-1, GRID, block, GRID, block).mean(axis=(2, 4), dtype=np.float32)
    return [one.pull(mask) for one, mask in zip(supports, small, strict=True)]


def _factor(gram: Doubles, n_images: int) -> Any:
    """Return the factors of a support set's Gram matrix with the penalty."""
    n_pixels = n_images * GRID**2
    variance = np.diag(gram) / n_pixels
    # The small constant keeps a channel that is zero everywhere from making the matrix singular.
    penalty = n_pixels * (RIDGE * variance + 1e-6)
    return linalg.cho_factor(gram + np.diag(penalty))


def _solve(factor: Any, target: Doubles) -> Floats:
    return np.asarray(linalg.cho_solve(factor, target), np.float32)


def _cut(known: Floats, masks: CanvasMasks) -> np.float32:
    """Return the score that leaves as much foreground in the support images as their masks have."""
    return np.float32(np.quantile(known, 1 - masks.mean()))


COARSEST = 3
"""Index of the stride-16 level among `_Features.levels`."""


def _build_levels(session: Any, image: NDArray[np.uint8]) -> list[Floats]:
    """Return the levels of one image: strides 2 to 16, random cosines, then colour and position."""
    maps = session.run(None, {"image": image[None]})
    levels = [np.ascontiguousarray(each.reshape(len(each), -1).T) for each in maps]
    coarse = [_resize(level, COSINE_GRID) for level in levels]
    block = SIDE // GRID
    colour = image.reshape(GRID, block, GRID, block, 3).mean(axis=(1, 3), dtype=np.float32) / 127.5 - 1
    plain = np.concatenate([colour.reshape(GRID**2, 3), _positions()], axis=1)
    together = np.concatenate([*coarse, _resize(plain, COSINE_GRID)], axis=1)
    direction, phase = _random_waves(together.shape[1])
    return [*levels, np.cos(together @ direction + phase), plain]


@lru_cache(maxsize=1)
def _positions() -> Floats:
    """Return x, y, their products and a constant on the grid, shape `(GRID * GRID, 6)`, in -1..1."""
    axis = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID * 2 - 1
    y, x = (each.ravel() for each in np.meshgrid(axis, axis, indexing="ij"))
    return np.stack([x, y, x * x, y * y, x * y, np.ones_like(x)], axis=1)


@lru_cache(maxsize=1)
def _random_waves(n_channels: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    direction = rng.standard_normal((n_channels, N_COSINES)) / np.sqrt(n_channels)
    phase = rng.uniform(0, 2 * np.pi, N_COSINES)
    return direction.astype(np.float32), phase.astype(np.float32)


@lru_cache(maxsize=16)
def _stretch(start: int, end: int) -> Floats:
    """Return the matrix `(end, start)` of linear interpolation between pixel centres, edges held."""
    position = np.clip((np.arange(end) + 0.5) * start / end - 0.5, 0, start - 1)
    low = np.minimum(position.astype(int), max(start - 2, 0))
    matrix = np.zeros((end, start), np.float32)
    matrix[np.arange(end), low] = 1 - (position - low)
    matrix[np.arange(end), np.minimum(low + 1, start - 1)] += position - low
    return matrix


def _side(level: Floats) -> int:
    return math.isqrt(len(level))


def _shrink(mask: Floats, side: int) -> Floats:
    """Return the adjoint of stretching to the grid: what a coarse pixel takes part in."""
    if side == GRID:
        return mask
    return np.asarray(_stretch(side, GRID).T @ mask @ _stretch(side, GRID), np.float32)


def _products(one: Floats, other: Floats) -> Floats:
    """Return the products of the channels of two levels, summed over the grid: at the side of the coarser one."""
    if len(one) > len(other):
        return _products(other, one).T
    return one.T @ _carry(other, _stretch(_side(one), GRID).T @ _stretch(_side(other), GRID))


def _carry(level: Floats, matrix: Floats) -> Floats:
    """Return a level `(r * r, C)` at another side: rows and columns are mixed by a matrix `(side, r)`."""
    side, own = matrix.shape
    rows = (matrix @ level.reshape(own, -1)).reshape(side, own, -1)
    return (matrix @ rows).reshape(side**2, -1)


def _resize(level: Floats, side: int) -> Floats:
    """Return a level `(r * r, C)` at another side: means of blocks when smaller, interpolated when larger."""
    own, width = _side(level), level.shape[1]
    if own == side:
        return level
    square = level.reshape(own, own, width)
    if own > side:
        block = own // side
        square = square.reshape(side, block, side, block, width).mean(axis=(1, 3))
        return np.asarray(square.reshape(side**2, width), np.float32)
    return _carry(level, _stretch(own, side))


def _open_graph(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # the graph is small: more threads would only wait for each other
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
