"""Bi-encoders: one vector for a question, one for a passage, compared by their inner product."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlret.encoders.checkpoints import load_bert
from vlret.encoders.pooling import POOLINGS
from vlret.encoders.visual import VisualEmbedding, pool_boxes, pool_cells
from vlret.files import InputError

TEXT_ENCODERS = {"bert": load_bert}


class GridEmbedding(nn.Module):
    """A grid of features, max-pooled to fewer cells, as visual tokens."""

    def __init__(self, feature_dim: int, dim: int, grid: tuple[int, int], tokens: tuple[int, int]):
        super().__init__()
        self.grid, self.tokens = tuple(grid), tuple(tokens)
        self.visual_embedding = VisualEmbedding(feature_dim, dim)

    def forward(self, features: Tensor, boxes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Cells to tokens: `[batch, tokens, dim]` and their mask `[batch, tokens]`, kept where any cell is.

        Features are `[batch, rows * columns, feature_dim]`, boxes `[batch, rows * columns, 4]`, the mask
        `[batch, rows * columns]`.
        """
        pooled, kept = pool_cells(features, mask, self.grid, self.tokens)
        return self.visual_embedding(pooled, pool_boxes(boxes, self.grid, self.tokens)), kept


class ImageEncoder(nn.Module):
    """The image backbone alone: its cached features, max-pooled to fewer cells, are the hidden states."""

    def __init__(self, grid: tuple[int, int], tokens: tuple[int, int]):
        super().__init__()
        self.grid, self.tokens = tuple(grid), tuple(tokens)

    def forward(self, features: Tensor, boxes: Tensor, visual_mask: Tensor) -> tuple[Tensor, Tensor]:
        """`[batch, rows * columns, dim]`, `[batch, rows * columns]` to `[batch, tokens, dim]`, `[batch, tokens]`."""
        return pool_cells(features, visual_mask, self.grid, self.tokens)


class BiEncoder(nn.Module):
    """One encoder for questions and passages alike, a pooling, vectors of length 1.

    Source: Reimers and Gurevych 2019, "Sentence-BERT", section 3 (the siamese network).

    Attributes
    ----------
    pretrained
        The names of the parameters that came from published weights; all others are this experiment's own.
    """

    def __init__(self, encoder: nn.Module, pooling: str, pretrained: frozenset[str] = frozenset()):
        super().__init__()
        self.encoder, self.pooling, self.pretrained = encoder, POOLINGS[pooling], pretrained

    def forward(self, **inputs: Tensor) -> Tensor:
        """The keyword arguments of the encoder to vectors of length 1, `[batch, dim]`.

        A unit with nothing to encode (an image encoder, no image) has a vector of NaN.
        """
        return F.normalize(self.pooling(*self.encoder(**inputs)), dim=-1)

    def own_weights(self) -> dict[str, Tensor]:
        """What a checkpoint holds: every parameter that was trained or that no published weights contain."""
        named = self.named_parameters()
        return {name: p for name, p in named if p.requires_grad or name not in self.pretrained}

    def restore(self, weights: dict[str, Tensor], path: Path) -> None:
        """Load what `own_weights` saved; a missing or superfluous name is an `InputError`."""
        own = self.own_weights()
        if odd := sorted(own.keys() ^ weights.keys()):
            raise InputError(f"{path}: does not fit the experiment's settings, the first parameter amiss is {odd[0]}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])


def assemble(settings: dict, weights: Path | None, feature_dim: int | None) -> BiEncoder:
    """Build the bi-encoder of a model entry from its pretrained weights, with nothing tuned.

    Parameters
    ----------
    settings
        `vlret.experiment.settings` of the experiment.
    weights
        The folder of the text encoder's pretrained weights; None for an image model.
    feature_dim
        The width of the cached features; None for a text model.
    """
    model = settings["model"]
    visual = model.get("visual")
    if model["kind"] == "image":
        return BiEncoder(ImageEncoder(**visual), settings["pooling"])
    encoder = TEXT_ENCODERS[model["text"]["architecture"]](weights)
    pretrained = frozenset(f"encoder.{name}" for name, _ in encoder.named_parameters())
    if model["kind"] == "joint":
        encoder.visual_embedding = GridEmbedding(feature_dim, encoder.dim, **visual)
    return BiEncoder(encoder, settings["pooling"], pretrained)
