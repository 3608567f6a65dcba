"""Bi-encoders: a question vector and a passage vector, compared by inner product."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlret.encoders.joint import Encoded
from vlret.encoders.pooling import pooling_of
from vlret.encoders.visual import pool_cells
from vlret.files import InputError

SIDES = ("question", "passage")


class ImageEncoder(nn.Module):
    """Only the image backbone: its cached features, max-pooled to fewer cells, are the hidden states."""

    def __init__(self, grid: tuple[int, int], tokens: tuple[int, int]):
        super().__init__()
        self.grid, self.tokens = tuple(grid), tuple(tokens)

    def forward(self, features: Tensor, boxes: Tensor, visual_mask: Tensor, keep: int = 1) -> Encoded:
        """Features `[batch, rows * columns, dim]` and their mask `[batch, rows * columns]`, encoded."""
        hidden, mask = pool_cells(features.float(), visual_mask, self.grid, self.tokens)
        return Encoded((hidden,), mask, slice(0, 0))


class Tower(nn.Module):
    """One side of a bi-encoder: an encoder, a pooling, a head.

    Parameters
    ----------
    projection
        The width of a linear map without bias after the pooling (cvlp's projection head); None for none.
    normalise
        Whether vectors are scaled to length 1.
    """

    def __init__(self, encoder: nn.Module, pooling: str, projection: int | None = None, normalise: bool = True):
        super().__init__()
        self.encoder, self.pooling, self.normalise = encoder, pooling_of(pooling), normalise
        self.projection = nn.Identity()
        if projection:
            self.projection = nn.Linear(encoder.dim * self.pooling.width, projection, bias=False)

    def forward(self, **inputs: Tensor) -> Tensor:
        """The encoder's keyword arguments to vectors, `[batch, dim]`.

        A unit with nothing to encode (no image for an image encoder) gets a vector of NaN.
        """
        vectors = self.pooling.apply(self.encoder, self.encoder(**inputs, keep=self.pooling.layers))
        vectors = self.projection(vectors)
        return F.normalize(vectors, dim=-1) if self.normalise else vectors


class BiEncoder(nn.Module):
    """A question encoder and a passage encoder, which may be the same or share parts.

    Source: Reimers and Gurevych 2019, "Sentence-BERT", section 3 (the siamese network); Karpukhin et al. 2020, "Dense
    Passage Retrieval", section 3.1 (two encoders).

    Parameters
    ----------
    tower
        The question tower; also the passage tower if everything is shared.
    sharing
        What the towers share: `everything`, `nothing`, or any of `visual` (the visual embedding) and
        `token` (the token embedding) joined by `+`.
    pretrained
        The names of a tower's parameters that come from published weights.
    passage
        The passage tower, if it is not a copy of the question tower.

    Attributes
    ----------
    pretrained
        The names of the parameters that come from published weights; all others are specific to the experiment.
    """

    def __init__(
        self,
        tower: Tower,
        sharing: str = "everything",
        pretrained: frozenset[str] = frozenset(),
        passage: Tower | None = None,
    ):
        super().__init__()
        self.question, self.passage = tower, passage
        if passage is None and sharing != "everything":
            self.passage = copy.deepcopy(tower)
        if "visual" in sharing.split("+"):
            self.passage.encoder.encoder.visual_embedding = tower.encoder.encoder.visual_embedding
        if "token" in sharing.split("+"):
            table = tower.encoder.token_embedding
            self.passage.encoder.set_submodule(table, tower.encoder.get_submodule(table))
        names = {f"{side}.{name}" for side in SIDES for name in pretrained}
        self.pretrained = frozenset(names & dict(self.named_parameters()).keys())

    @property
    def towers(self) -> list[Tower]:
        """The distinct towers."""
        return [self.question] if self.passage is None else [self.question, self.passage]

    def encode(self, side: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """The inputs of one of `SIDES` to vectors, `[batch, dim]`."""
        tower = self.passage if side == "passage" and self.passage is not None else self.question
        return tower(**inputs)

    def part_of(self, name: str) -> str:
        """The part of a parameter: `visual` (its embedding), `head`, `added` by tuning, or the pretrained `encoder`."""
        inside = name.partition(".")[2].removeprefix("encoder.")
        if inside.startswith("projection."):
            return "head"
        if "visual_embedding." in inside:
            return "visual"
        return "encoder" if name in self.pretrained else "added"

    def own_weights(self) -> dict[str, Tensor]:
        """What a checkpoint holds: every parameter that is trained or not published."""
        named = self.named_parameters()
        return {name: p for name, p in named if p.requires_grad or name not in self.pretrained}

    def restore(self, weights: dict[str, Tensor], path: Path) -> None:
        """Load what `own_weights` saved; a missing, unexpected or misshapen parameter is an `InputError`."""
        own = self.own_weights()
        wrong = sorted(own.keys() ^ weights.keys())
        if wrong := wrong or [name for name in own if own[name].shape != weights[name].shape]:
            raise InputError(f"{path}: does not fit the experiment's settings; the first wrong parameter is {wrong[0]}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])
