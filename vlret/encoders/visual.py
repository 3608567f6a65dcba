"""Visual tokens from the cached features of an image."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def pool_grid(cells: Tensor, grid: tuple[int, int], tokens: tuple[int, int]) -> Tensor:
    """Max-pool a grid to fewer cells, as VL-Adapter does with CLIP's grid.

    Parameters
    ----------
    cells
        `[batch, rows * columns, dim]`, row by row.
    grid
        Rows and columns of `cells`.
    tokens
        Rows and columns to pool to (adaptive windows, which overlap where sizes do not divide).

    Returns
    -------
    `[batch, tokens, dim]`, row by row.

    Source: github.com/ylsung/VL_adapter, `Downsample`.
    """
    pooled = F.adaptive_max_pool2d(cells.transpose(1, 2).unflatten(2, grid), tokens)
    return pooled.flatten(2).transpose(1, 2)


def pool_cells(features: Tensor, mask: Tensor, grid: tuple[int, int], tokens: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """`pool_grid` of features `[batch, rows * columns, dim]` and of their mask: a token is kept if any cell is."""
    kept = pool_grid(mask.unsqueeze(-1).to(features.dtype), grid, tokens).squeeze(-1).bool()
    return pool_grid(features, grid, tokens), kept


def pool_boxes(boxes: Tensor, grid: tuple[int, int], tokens: tuple[int, int]) -> Tensor:
    """The bounding boxes of the cells that `pool_grid` pools: `[batch, rows * columns, 4]` to `[batch, tokens, 4]`.

    VL-Adapter keeps the first `tokens` boxes instead, which are all zero for a grid.
    """
    low, high = -pool_grid(-boxes[..., :2], grid, tokens), pool_grid(boxes[..., 2:], grid, tokens)
    return torch.cat([low, high], dim=-1)


class VisualEmbedding(nn.Module):
    """The visual embedding of VL-T5 and VL-BART: a region's appearance, position, image and object order.

    `norm(Linear(features)) + norm(Linear([x1, y1, x2, y2, "area"])) + image order + object order`. The "area" is
    `(y2 - x2) * (y1 - x1)`: the originals read boxes as x1, x2, y1, y2, and the published weights were trained so.

    Parameters
    ----------
    feature_dim, dim
        The widths of the features and of the encoder.
    norm
        Builds a norm from a width: RMS norm in VL-T5, LayerNorm in VL-BART.
    norms
        `each`, one norm per branch; `sum`, one norm over the sum, order included; `none`.
    order
        Whether to add order embeddings. Object `k` is row `vocabulary - 1 - k` of the encoder's token embedding
        (that of `<vis_extra_id_k>`); images have a separate table.
    images
        The number of rows of that table.
    pool
        Rows and columns of the feature grid before and after max-pooling; None for regions.

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
            return nn.Sequential(nn.Linear(width, dim), *([norm(dim)] if norms == "each" else []))

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
        """Features `[batch, regions, feature_dim]` to visual tokens `[batch, tokens, dim]` and their mask.

        Parameters
        ----------
        features, boxes
            Of any precision; cast to that of the weights.
        boxes
            `[batch, regions, 4]`: x1, y1, x2, y2 in [0, 1].
        mask
            `[batch, regions]`, 0 for padding; None without padding.
        tokens
            The token embedding, `[vocabulary, dim]`; needed for the object order.
        image_ids, object_ids
            `[batch, tokens]`; by default image 0, and objects counted from 0.
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
