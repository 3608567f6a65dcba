"""From cached features of an image to visual tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def pool_grid(features: Tensor, boxes: Tensor, grid: tuple[int, int], tokens: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Max-pool a grid of features to fewer cells, as VL-Adapter does with CLIP's.

    Parameters
    ----------
    features
        `[batch, rows * columns, dim]`, row by row.
    boxes
        `[batch, rows * columns, 4]`, x1, y1, x2, y2 of each cell in [0, 1].
    grid
        Rows and columns of `features`.
    tokens
        Rows and columns to pool to (adaptive windows, which overlap where they do not divide).

    Returns
    -------
    features `[batch, tokens, dim]` and, for each, the smallest box `[batch, tokens, 4]` around the cells pooled.

    Source: github.com/ylsung/VL_adapter, `Downsample` (features; it leaves the boxes, which are zero there).
    """
    rows, columns = grid

    def pool(values: Tensor) -> Tensor:
        cells = values.transpose(1, 2).unflatten(2, (rows, columns))
        return F.adaptive_max_pool2d(cells, tokens).flatten(2).transpose(1, 2)

    return pool(features), torch.cat([-pool(-boxes[..., :2]), pool(boxes[..., 2:])], dim=-1)


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
