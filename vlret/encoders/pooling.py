"""From hidden states to one vector."""

from collections.abc import Callable

import torch
from torch import Tensor


def first_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """The first position (the first prompt, where there are prompts): `[batch, tokens, dim]` to `[batch, dim]`."""
    return hidden[:, 0]


def average(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean over the positions that are not masked: `[batch, tokens, dim]`, `[batch, tokens]` to `[batch, dim]`.

    Unlike cvlp's plain mean over every position, padding does not enter, so the vector of a text does not depend on
    what it is batched with.
    """
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def concatenation(hidden: Tensor, mask: Tensor) -> Tensor:
    """All positions one after the other: `[batch, tokens, dim]` to `[batch, tokens * dim]`, NaN if any is masked."""
    return hidden.masked_fill(~mask.unsqueeze(-1), torch.nan).flatten(1)


Pooling = Callable[[Tensor, Tensor], Tensor]
POOLINGS: dict[str, Pooling] = {"1token": first_token, "avg": average, "concat": concatenation}
