"""SAM's mask decoder with less work and the same masks, for encoders so light that the decoder would dominate.

A handful of tokens and the places of the image (64 x 64 of them) attend to each other. Three things make the published
order of operations slow on a CPU, and none of them changes the result beyond rounding:

- Before the first layer changes them, the places are the same for all prompts: their projections are computed once.
- A score is `q . (W k)`, which is `(W' q) . k`: projecting 7 tokens back costs less than projecting 4096 places. So it
  is with what the tokens receive (average first, project then) and with what the places receive.
- The mask is upscaled place by place with the channels last; only the mask that is wanted is made, and only its single
  channel is put in order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional


class MaskDecoder:
    """The decoder of one network, for one mask a prompt and no mask prompts.

    Args:
        network: Has `prompt_encoder` and `mask_decoder`, of SAM's structure with two layers, on their device.
    """

    def __init__(self, network: Any) -> None:
        decoder = network.mask_decoder
        self._decoder = decoder
        self._first, self._second = decoder.transformer.layers
        dense_position = network.prompt_encoder.get_dense_pe()
        self._grid = dense_position.shape[2:]
        self._position = dense_position.flatten(2).mT
        """Encoding of the places, shape `(1, L, C)`."""
        self._no_mask = network.prompt_encoder.no_mask_embed.weight
        self._look = _Scores(self._second.cross_attn_token_to_image, "k_proj", self._position)
        self._give = _Scores(self._second.cross_attn_image_to_token, "q_proj", self._position)
        self._last_look = _Scores(decoder.transformer.final_attn_token_to_image, "k_proj", self._position)

    def __call__(self, embedding: torch.Tensor, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits `(N, 1, 4h, 4w)` and predicted IoUs `(N,)`.

        Args:
            embedding: Of the image, shape `(1, C, h, w)`.
            prompts: Tokens of the prompts, shape `(N, P, C)`.
        """
        own = torch.cat([self._decoder.iou_token.weight, self._decoder.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(prompts), -1, -1), prompts], dim=1)
        queries, places = self._attend_first(tokens, embedding.flatten(2).mT + self._no_mask)
        queries, places = self._attend_second(queries, tokens, places)
        last = self._decoder.transformer
        seen = _gather(last.final_attn_token_to_image, self._last_look, queries + tokens, places)
        queries = last.norm_final_attn(queries + seen)
        iou = self._decoder.iou_prediction_head(queries[:, 0])[:, 0]
        return self._upscale(places, self._decoder.output_hypernetworks_mlps[0](queries[:, 1])), iou

    def _attend_first(self, tokens: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the first layer; the places `(1, L, C)` are those of every prompt."""
        layer, look, give = self._first, self._first.cross_attn_token_to_image, self._first.cross_attn_image_to_token
        placed = places + self._position
        queries = layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
        # No token looks at another here: those of all prompts are one list.
        seen = look(q=(queries + tokens).flatten(0, 1)[None], k=placed, v=places)
        queries = layer.norm2(queries + seen.view_as(queries))
        queries = layer.norm3(queries + layer.mlp(queries))
        scores = _scaled(give.k_proj(queries + tokens), give) @ _split(give.q_proj(placed), give).mT
        return queries, layer.norm4(_spread(give, scores, queries, places))

    def _attend_second(
        self, queries: torch.Tensor, tokens: torch.Tensor, places: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the second layer; the places `(N, L, C)` are those of each prompt."""
        layer, look, give = self._second, self._second.cross_attn_token_to_image, self._second.cross_attn_image_to_token
        placed = queries + tokens
        queries = layer.norm1(queries + layer.self_attn(q=placed, k=placed, v=queries))
        queries = layer.norm2(queries + _gather(look, self._look, queries + tokens, places))
        queries = layer.norm3(queries + layer.mlp(queries))
        scores = self._give(_scaled(give.k_proj(queries + tokens), give), places)
        return queries, layer.norm4(_spread(give, scores, queries, places))

    def _upscale(self, places: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return logits `(N, 1, 4h, 4w)`: two strided transposed convolutions, then channels weighed per prompt."""
        first, norm, _, second, _ = self._decoder.output_upscaling
        height, width = self._grid
        fine = _enlarge(first, places).view(len(places), -1, len(norm.weight))
        fine = functional.gelu(functional.layer_norm(fine, fine.shape[-1:], norm.weight, norm.bias, norm.eps))
        finer = functional.gelu(_enlarge(second, fine)).view(len(places), -1, weights.shape[1])
        logits = (finer @ weights[..., None]).view(-1, height, width, 2, 2, 2, 2)
        return logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 1, 4 * height, 4 * width)


class _Scores:
    """Products of tokens with places `W (p + e)`, without projecting the places `p`; `e` is their encoding."""

    def __init__(self, attention: Any, projection: str, position: torch.Tensor) -> None:
        layer = getattr(attention, projection)
        self._position = _split(layer(position), attention)
        self._weight = layer.weight.view(attention.num_heads, -1, position.shape[-1])

    def __call__(self, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return scores `(N, H, T, L)` for tokens `(N, H, T, D)` and places `(N, L, C)`."""
        near = tokens @ self._position.mT
        projected_back = (tokens @ self._weight).flatten(1, 2)
        return torch.baddbmm(near.flatten(1, 2), projected_back, places.mT).view_as(near)


def _split(values: torch.Tensor, attention: Any) -> torch.Tensor:
    """Return `(N, T, H * D)` as `(N, H, T, D)`."""
    return values.view(*values.shape[:2], attention.num_heads, -1).transpose(1, 2)


def _scaled(values: torch.Tensor, attention: Any) -> torch.Tensor:
    """Return `(N, T, H * D)` as `(N, H, T, D)`, divided by the root of D."""
    parts = _split(values, attention)
    scaled: torch.Tensor = parts / parts.shape[-1] ** 0.5
    return scaled


def _gather(attention: Any, score: _Scores, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return what tokens `(N, T, C)` see of the places `(N, L, C)`: averaged first, projected then."""
    shares = score(_scaled(attention.q_proj(tokens), attention), places).softmax(-1)
    n_prompts, heads, n_tokens, _ = shares.shape
    seen = (shares.flatten(1, 2) @ places).view(n_prompts, heads, n_tokens, -1)
    values = seen @ attention.v_proj.weight.view(heads, -1, places.shape[-1]).mT
    # The shares add up to 1, so the bias of the values is added once.
    result: torch.Tensor = attention.out_proj(values.transpose(1, 2).flatten(2) + attention.v_proj.bias)
    return result


def _spread(attention: Any, scores: torch.Tensor, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the places with what they receive from tokens `(N, T, C)` added; scores: `(N, H, T, L)`."""
    heads = attention.num_heads
    values = _split(attention.v_proj(tokens), attention)
    shares = scores.softmax(2)
    # The shares of each head add up to 1, so each head brings its part of the bias.
    weight = attention.out_proj.weight.mT.reshape(heads, -1, places.shape[-1])
    received = values @ weight + attention.out_proj.bias / heads
    return torch.baddbmm(places, shares.flatten(1, 2).mT, received.flatten(1, 2))


def _enlarge(convolution: Any, values: torch.Tensor) -> torch.Tensor:
    """Return `(..., 4 * D)` for values `(..., C)`: the 2 x 2 pixels that a transposed convolution makes of each."""
    weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)
    enlarged: torch.Tensor = functional.linear(values, weight, convolution.bias.repeat(4))
    return enlarged
