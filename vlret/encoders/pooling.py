"""Poolings: hidden states to one vector."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlret.encoders.joint import Encoded
from vlret.files import InputError


@dataclass(frozen=True)
class Pooling:
    """How an encoder's output becomes one vector.

    Attributes
    ----------
    apply
        The encoder and its output for a batch to `[batch, dim * width]`.
    layers
        How many of the last layers it uses.
    width
        The width of the vector, in hidden states.
    """

    apply: Callable[[nn.Module, Encoded], Tensor]
    layers: int = 1
    width: int = 1


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean over unmasked positions: `[batch, positions, dim]` to `[batch, dim]`."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def first_token(encoder: nn.Module, encoded: Encoded) -> Tensor:
    """The first position: the first prompt if there are prompts, the first region if there is no text."""
    return encoded.hidden[:, 0]


def average(encoder: nn.Module, encoded: Encoded) -> Tensor:
    """The mean over unmasked positions.

    Unlike cvlp's plain mean, it excludes padding, so a vector does not depend on its batch.
    """
    return masked_mean(encoded.hidden, encoded.mask)


def average_all(encoder: nn.Module, encoded: Encoded) -> Tensor:
    """cvlp's mean over every position, padding included; only for comparison with cvlp."""
    return encoded.hidden.mean(dim=1)


def end_of_text(encoder: nn.Module, encoded: Encoded) -> Tensor:
    """The last token of the text, the end-of-sequence token of T5 and BART; `ValueError` without text."""
    mask = encoded.mask[:, encoded.text]
    if not mask.shape[1]:
        raise ValueError("pooling eos: the input has no text")
    places = torch.arange(mask.shape[1], device=mask.device)
    last = encoded.text.start + (mask * places).amax(dim=1)
    return encoded.hidden[torch.arange(len(last), device=last.device), last]


def sum_last(encoder: nn.Module, encoded: Encoded) -> Tensor:
    """The masked mean of the sum of the last layers."""
    return masked_mean(torch.stack(encoded.layers).sum(dim=0), encoded.mask)


def concat_last(encoder: nn.Module, encoded: Encoded) -> Tensor:
    """The masked mean of the concatenated last layers."""
    return masked_mean(torch.cat(encoded.layers, dim=-1), encoded.mask)


def decoder(encoder: nn.Module, encoded: Encoded) -> Tensor:
    """The decoder's first position, which sees only the start token.

    Source: Ni et al. 2022, "Sentence-T5", section 3.1 (encoder-decoder first).
    """
    return encoder.decode(encoded)[:, 0]


def concat(encoder: nn.Module, encoded: Encoded) -> Tensor:
    """All positions concatenated, `[batch, positions * dim]`; NaN where masked."""
    return encoded.hidden.masked_fill(~encoded.mask.unsqueeze(-1), torch.nan).flatten(1)


POOLINGS = {
    "1token": Pooling(first_token),
    "avg": Pooling(average),
    "avg-all": Pooling(average_all),
    "eos": Pooling(end_of_text),
    "decoder": Pooling(decoder),
    "concat": Pooling(concat),
}
LAYERED = {"sum-last": sum_last, "concat-last": concat_last}


def pooling_of(name: str) -> Pooling:
    """A pooling by name; `n` in `sum-last-n` and `concat-last-n` counts layers. `InputError` for an unknown name."""
    if name in POOLINGS:
        return POOLINGS[name]
    if match := re.fullmatch(r"(sum-last|concat-last)-([1-9]\d*)", name):
        layers = int(match.group(2))
        return Pooling(LAYERED[match.group(1)], layers, width=layers if match.group(1) == "concat-last" else 1)
    raise InputError(f"pooling {name!r}: known are {', '.join(POOLINGS)}, sum-last-N, concat-last-N")
