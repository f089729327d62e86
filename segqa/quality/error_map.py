"""Where a mask is likely wrong, pixel by pixel, from the evaluator that judged it.

A network that draws where it believes the object is (`compare`) answers by holding the mask against its belief: an
error is where they differ. Theorem 3.2 of EvanySeg asks instead about every pixel on its own: flip the pixel, and see
whether the predicted Dice gets better; the gradient of the predicted Dice with respect to the mask asks for all pixels
in one backward pass. The belief finds wrong pixels far better (docs/explanation/error-maps.md); the gradient is for
networks without one.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from segqa.data.boxes import Box
from segqa.data.types import Image, Mask
from segqa.errors import InputError
from segqa.quality.network import QualityNetwork
from segqa.quality.preprocessing import IMAGENET_STD, Profile, build_input, placed, view_of

Method = Literal["belief", "gradient"]


def error_map(
    image: Image, mask: Mask, box: Box | None, network: QualityNetwork, *, method: Method | None = None
) -> NDArray[np.float32]:
    """Return how likely each pixel of the mask is wrong, shape `(H, W)`.

    Only the part of the image that the network sees can be judged; all other pixels are 0.

    Args:
        image: Pixels `(H, W, 3)`, 0..255.
        mask: Predicted mask `(H, W)` of one object; may be empty.
        box: Prompt box inside the image, when there was one.
        network: In evaluation mode.
        method: `belief`: chance of an error, 0..1: the believed chance of the object outside of the mask, its
            complement inside. `gradient`: what flipping the pixel would add to the predicted Dice, to first order;
            positive is likely wrong, negative likely right. By default the belief where the network draws one.

    Raises:
        InputError: `belief` is asked of a network that has none.
    """
    profile = network.spec.profile
    # A view is of the mask as it is: what flipping a pixel does to the view itself is left out.
    seen, rows, columns = _place(mask, box, profile)
    inputs = torch.from_numpy(build_input(image, mask, box, profile))[None].to(next(network.parameters()).device)
    inside = mask[seen.slices]
    if (method or best_method(network)) == "gradient":
        values = _gains(network, inputs, inside, rows, columns)
    else:
        values = _error_chances(network, inputs, inside, rows, columns)
    result = np.zeros(mask.shape, dtype=np.float32)
    result[seen.slices] = values
    return result


def best_method(network: QualityNetwork) -> Method:
    """Return the method that finds wrong pixels best with this network."""
    return "belief" if network.spec.compare else "gradient"


def _place(mask: Mask, box: Box | None, profile: Profile) -> tuple[Box, slice, slice]:
    """Return the part of the image that the network sees, and where it lies in the input."""
    if profile.name == "evanyseg":
        seen = box or Box.around(mask)
        return seen, slice(0, profile.size), slice(0, profile.size)
    view = view_of(mask, box, profile)
    seen = view.clip(*mask.shape)
    scale = profile.size / view.width
    rows = slice(*placed(seen.y0 - view.y0, seen.y1 - view.y0, scale, profile.size))
    columns = slice(*placed(seen.x0 - view.x0, seen.x1 - view.x0, scale, profile.size))
    return seen, rows, columns


def _gains(
    network: QualityNetwork, inputs: torch.Tensor, inside: Mask, rows: slice, columns: slice
) -> NDArray[np.float32]:
    """Return the gain in predicted Dice by flipping each pixel of the seen part, `(h, w)`, to first order."""
    pixels = torch.from_numpy(inside.astype(np.float32)).to(inputs.device).requires_grad_()
    size = (rows.stop - rows.start, columns.stop - columns.start)
    channel = functional.interpolate(pixels[None, None], size, mode="bilinear", antialias=True)[0, 0]
    # The input stays ψ's to the bit; only the gradient goes the way of the resized mask.
    change = channel - channel.detach()
    if network.spec.profile.name == "evanyseg":
        number, gain = 0, 0.5 / float(IMAGENET_STD[0])  # the mask is half of the red channel
    else:
        number, gain = 3, 1.0
    inputs[0, number, rows, columns] += gain * change
    score = network(inputs).scores[0, network.spec.heads.index("dice")]
    (gradient,) = torch.autograd.grad(score, pixels)
    gains: NDArray[np.float32] = gradient.cpu().numpy() * np.where(inside, -1, 1).astype(np.float32)
    return gains


@torch.inference_mode()
def _error_chances(
    network: QualityNetwork, inputs: torch.Tensor, inside: Mask, rows: slice, columns: slice
) -> NDArray[np.float32]:
    if not network.spec.compare:
        msg = "these weights draw no belief of where the object is; use the gradient for error maps"
        raise InputError(msg)
    size = network.spec.profile.size
    chance = functional.interpolate(network(inputs).belief, (size, size), mode="bilinear").sigmoid()
    there = functional.interpolate(chance[..., rows, columns], inside.shape, mode="bilinear", antialias=True)[0, 0]
    believed: NDArray[np.float32] = there.cpu().numpy().clip(0, 1)
    return np.where(inside, 1 - believed, believed)
