"""RoIPool in plain torch: max-pooling over the cells of a quantised region of interest."""

import torch
from torch import Tensor


def roi_pool(features: Tensor, boxes: Tensor, size: int, scale: float) -> Tensor:
    """Max-pool each box of a feature map to a square of `size` × `size` cells.

    Parameters
    ----------
    features
        `[channels, height, width]`.
    boxes
        `[boxes, 4]`, x1, y1, x2, y2 in pixels of the image.
    size
        Cells per side.
    scale
        Feature cells per pixel of the image.

    Returns
    -------
    `[boxes, channels, size, size]`; 0 for cells outside the map.

    Corners are rounded to whole cells, inclusive; neighbouring cells may share a row. Source:
    Girshick 2015, "Fast R-CNN", section 2.1; equal to `torchvision.ops.roi_pool`, bit for bit.
    """
    channels, height, width = features.shape
    corners = _round(boxes * scale)
    top, bottom = _intervals(corners[:, 1], corners[:, 3], size, height)
    left, right = _intervals(corners[:, 0], corners[:, 2], size, width)
    rows, first_row, last_row = _windows(top, bottom)
    columns, first_column, last_column = _windows(left, right)
    tables = _running_maxima(features.permute(1, 2, 0).contiguous(), _levels(rows), _levels(columns))
    grid, values = tables.shape[:4], tables.flatten(0, 3)
    pooled = None
    for row in (first_row, last_row):
        for column in (first_column, last_column):
            level = rows[:, :, None] * grid[1] + columns[:, None, :]
            place = (level * height + row[:, :, None]) * width + column[:, None, :]
            found = values.index_select(0, place.flatten())
            pooled = found if pooled is None else torch.maximum(pooled, found, out=pooled)
    empty = (bottom <= top)[:, :, None] | (right <= left)[:, None, :]
    pooled = pooled.masked_fill_(empty.flatten()[:, None], 0)
    return pooled.view(len(boxes), size, size, channels).permute(0, 3, 1, 2)


def _round(values: Tensor) -> Tensor:
    """Round halves away from zero, as in C; `torch.round` rounds them to even."""
    whole = values.trunc()
    return torch.where((values - whole).abs() == 0.5, whole + values.sign(), values.round()).long()


def _intervals(start: Tensor, end: Tensor, cells: int, limit: int) -> tuple[Tensor, Tensor]:
    """The start and end (exclusive) of each cell between two coordinates, clipped to the map: `[boxes, cells]`."""
    extent = (end - start + 1).clamp(min=1).float()[:, None] / cells
    cell = torch.arange(cells + 1, device=start.device)
    low, high = (extent * cell[:-1]).floor().long(), (extent * cell[1:]).ceil().long()
    return (low + start[:, None]).clamp(0, limit), (high + start[:, None]).clamp(0, limit)


def _windows(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two windows of 2**level positions that together cover `low` to `high`: the level and both starts."""
    level = torch.frexp((high - low).clamp(min=1).float()).exponent.long() - 1
    last = (high - 2**level).clamp(min=0)
    return level, torch.minimum(low, last), last


def _levels(levels: Tensor) -> int:
    return int(levels.max()) + 1 if levels.numel() else 1


def _running_maxima(grid: Tensor, row_levels: int, column_levels: int) -> Tensor:
    """Maxima over the 2**i rows and 2**j columns from each position: `[i, j, height, width, channels]`."""
    tables = [grid]
    for level in range(1, row_levels):
        tables.append(_with_next(tables[-1], 2 ** (level - 1), 0))
    tables = [torch.stack(tables)]
    for level in range(1, column_levels):
        tables.append(_with_next(tables[-1], 2 ** (level - 1), 2))
    return torch.stack(tables, dim=1)


def _with_next(values: Tensor, step: int, dim: int) -> Tensor:
    length = values.shape[dim]
    later = (torch.arange(length, device=values.device) + step).clamp(max=length - 1)
    return torch.maximum(values, values.index_select(dim, later))
