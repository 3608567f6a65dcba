"""From cached features of an image to visual tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlret.encoders.linear import Linear


def pool_grid(cells: Tensor, grid: tuple[int, int], tokens: tuple[int, int]) -> Tensor:
    """Max-pool a grid to fewer cells, as VL-Adapter does with CLIP's.

    Parameters
    ----------
    cells
        `[batch, rows * columns, dim]`, row by row.
    grid
        Rows and columns of `cells`.
    tokens
        Rows and columns to pool to (adaptive windows, which overlap where they do not divide).

    Returns
    -------
    `[batch, tokens, dim]`, row by row.

    Source: github.com/ylsung/VL_adapter, `Downsample`.
    """
    pooled = F.adaptive_max_pool2d(cells.transpose(1, 2).unflatten(2, grid), tokens)
    return pooled.flatten(2).transpose(1, 2)


def pool_cells(features: Tensor, mask: Tensor, grid: tuple[int, int], tokens: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """`pool_grid` of features `[batch, rows * columns, dim]` and of their mask: a token is kept where any cell is."""
    kept = pool_grid(mask.unsqueeze(-1).to(features.dtype), grid, tokens).squeeze(-1).bool()
    return pool_grid(features, grid, tokens), kept


def pool_boxes(boxes: Tensor, grid: tuple[int, int], tokens: tuple[int, int]) -> Tensor:
    """The smallest box around the cells that `pool_grid` pools: `[batch, rows * columns, 4]` to `[batch, tokens, 4]`.

    VL-Adapter keeps the first `tokens` boxes instead, which are all zero for a grid.
    """
    low, high = -pool_grid(-boxes[..., :2], grid, tokens), pool_grid(boxes[..., 2:], grid, tokens)
    return torch.cat([low, high], dim=-1)


class VisualEmbedding(nn.Module):
    """VL-T5's and VL-BART's visual embedding: what a region looks like, where it is, which image and object it is.

    `norm(Linear(features)) + norm(Linear([x1, y1, x2, y2, "area"])) + image order + object order`. The "area" is
    `(y2 - x2) * (y1 - x1)`: the originals take boxes for x1, x2, y1, y2, and published weights were trained so.

    Parameters
    ----------
    feature_dim, dim
        The width of features and of the encoder.
    norm
        Makes a norm of a width: RMS norm in VL-T5, LayerNorm in VL-BART.
    norms
        `each`, one norm a branch; `sum`, one norm over the sum, order included; `none`.
    order
        Whether there are order embeddings. Object `k` is row `vocabulary - 1 - k` of the encoder's token embedding
        (the row of `<vis_extra_id_k>`), images have a table of their own.
    images
        The rows of that table.
    pool
        The rows and columns of a grid of features, and those that it is max-pooled to; None for regions.

    Source: Cho et al. 2021, "Unifying Vision-and-Language Tasks via Text Generation", section 3.1;
    github.com/j-min/VL-T5, `VisualEmbedding`.
    """

    def __init__(
        self,
        feature_dim: int,
        dim: int,
        norm: type[nn.Module] | None = nn.LayerNorm,
        norms: str = "each",
        order: bool = False,
        images: int = 2,
        pool: tuple[tuple[int, int], tuple[int, int]] | None = None,
    ):
        super().__init__()
        self.pool = pool and tuple(tuple(size) for size in pool)

        def branch(width: int) -> nn.Sequential:
            return nn.Sequential(Linear(width, dim), *([norm(dim)] if norms == "each" else []))

        self.feat_embedding, self.absolute_vis_pos_embedding = branch(feature_dim), branch(5)
        self.img_order_embedding = nn.Embedding(images, dim) if order else None
        self.layer_norm = norm(dim) if norms == "sum" else None

    def forward(
        self,
        features: Tensor,
        boxes: Tensor,
        mask: Tensor | None = None,
        tokens: Tensor | None = None,
        image_ids: Tensor | None = None,
        object_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Features `[batch, regions, feature_dim]` to visual tokens `[batch, tokens, dim]` and what of them is kept.

        Parameters
        ----------
        features, boxes
            Of any precision; they become that of the weights.
        boxes
            `[batch, regions, 4]`: x1, y1, x2, y2 in [0, 1].
        mask
            `[batch, regions]`, 0 where there is no region; None where all are there.
        tokens
            The token embedding, `[vocabulary, dim]`; needed for the object order.
        image_ids, object_ids
            `[batch, tokens]`; by default all of image 0, objects counted from 0.
        """
        features, boxes = (part.to(self.feat_embedding[0].weight.dtype) for part in (features, boxes))
        mask = features.new_ones(features.shape[:2]) if mask is None else mask
        if self.pool is not None:
            boxes = pool_boxes(boxes, *self.pool)
            features, mask = pool_cells(features, mask, *self.pool)
        x1, y1, x2, y2 = boxes.unbind(-1)
        place = torch.stack([x1, y1, x2, y2, (y2 - x2) * (y1 - x1)], dim=-1)
        visual = self.feat_embedding(features) + self.absolute_vis_pos_embedding(place)
        if self.img_order_embedding is not None:
            rows = torch.arange(features.shape[1], device=features.device) if object_ids is None else object_ids
            images = torch.zeros_like(rows) if image_ids is None else image_ids
            visual = visual + self.img_order_embedding(images) + F.embedding(len(tokens) - 1 - rows, tokens)
        return visual if self.layer_norm is None else self.layer_norm(visual), mask.bool()
