"""From cached features of an image to visual tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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

    VL-Adapter leaves the boxes of a grid at zero.
    """
    low, high = -pool_grid(-boxes[..., :2], grid, tokens), pool_grid(boxes[..., 2:], grid, tokens)
    return torch.cat([low, high], dim=-1)


class VisualEmbedding(nn.Module):
    """VL-T5's visual embedding, with VL-BART's norms: what a region looks like plus where it is.

    `LayerNorm(Linear(features)) + LayerNorm(Linear([x1, y1, x2, y2, area]))`, no order embeddings: a text encoder
    without VL-T5's `<vis_extra_id_k>` tokens has no rows for them.

    Source: Cho et al. 2021, "Unifying Vision-and-Language Tasks via Text Generation", section 3.1;
    github.com/j-min/VL-T5, `VisualEmbedding` with `individual_vis_layer_norm`.
    """

    def __init__(self, feature_dim: int, dim: int, eps: float = 1e-5):
        super().__init__()
        self.feat_embedding = nn.Sequential(nn.Linear(feature_dim, dim), nn.LayerNorm(dim, eps=eps))
        self.absolute_vis_pos_embedding = nn.Sequential(nn.Linear(5, dim), nn.LayerNorm(dim, eps=eps))

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """`[batch, regions, feature_dim]` and boxes `[batch, regions, 4]` to `[batch, regions, dim]`.

        Boxes are x1, y1, x2, y2 in [0, 1].
        """
        height, width = boxes[..., 3] - boxes[..., 1], boxes[..., 2] - boxes[..., 0]
        place = torch.cat([boxes, (height * width).unsqueeze(-1)], dim=-1)
        return self.feat_embedding(features) + self.absolute_vis_pos_embedding(place)
