"""Dropout that costs a CPU little: torch draws a Bernoulli number per element there, in as long as products take."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 1 << 16  # the resolution of a probability: an element is dropped by 16 random bits


class Dropout(nn.Dropout):
    """Zero elements with probability `p` in training, and scale the others; `inplace` has no effect on a CPU."""

    def forward(self, hidden: Tensor) -> Tensor:
        """A tensor of any shape to the same shape."""
        return dropout(hidden, self.p, self.training)


def dropout(hidden: Tensor, p: float, training: bool) -> Tensor:
    """`torch.nn.functional.dropout`; on a CPU, with other random numbers of the same distribution."""
    if not (training and p) or hidden.device.type != "cpu":
        return F.dropout(hidden, p, training)
    dropped = round(p * STEPS)
    # Named for another use: the product of a tensor, a mask and a factor in one pass.
    return torch.ops.aten.native_dropout_backward(hidden, kept(hidden.detach(), dropped), STEPS / (STEPS - dropped))


# Opaque to torch.compile, so that compiled and uncompiled encoders draw the same numbers.
@torch.library.custom_op("vlret::kept", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def kept(like: Tensor, dropped: int) -> Tensor:
    """A mask of the shape of `like`, False with probability `dropped / STEPS`, seeded by torch's generator."""
    seed = int(torch.randint(1 << 62, ()))
    words = np.random.SFC64(seed).random_raw(-(-like.numel() // 4))
    bits = torch.from_numpy(words.view(np.int16))[: like.numel()].view(like.shape)
    return bits >= dropped - STEPS // 2


@kept.register_fake
def _(like: Tensor, dropped: int) -> Tensor:
    return torch.empty(like.shape, dtype=torch.bool, device=like.device)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    p: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Multi-head attention `[batch, heads, queries, width]`, by torch's fused kernel.

    With dropout on a CPU, for which that kernel falls back to single-precision products, it is spelt out.

    Parameters
    ----------
    query, key, value
        `[batch, heads, positions, width]`.
    bias
        Added to the scores; broadcast to `[batch, heads, queries, keys]`.
    p
        The probability of dropping a weight.
    causal
        Whether a query sees no later key; excludes a bias.
    scale
        Of the scores; by default 1 / sqrt(width).
    """
    if not p or causal or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, bias, p, causal, scale=scale)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query if scale == 1 else query * scale) @ key.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    dropped = round(p * STEPS)
    weights = scores.softmax(dim=-1)
    # The factor is cheaper at the values, which are fewer.
    return weights * kept(weights.detach(), dropped) @ (value * (STEPS / (STEPS - dropped)))


def rounded(hidden: Tensor) -> Tensor:
    """`hidden` as autocast rounds it for a product: once, where several products follow."""
    kind = hidden.device.type
    return hidden.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else hidden
