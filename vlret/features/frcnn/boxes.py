"""Boxes as `[boxes, 4]`, x1, y1, x2, y2: regression from references, clipping, non-maximum suppression."""

import math

import torch
from torch import Tensor

# Sides grow to at most 1000 / 16 times the reference (github.com/facebookresearch/detectron2, `Box2BoxTransform`).
LARGEST_LOG_SCALE = math.log(1000 / 16)

# Boxes that `nms` compares at a time.
BLOCK = 512


def apply_deltas(deltas: Tensor, boxes: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Move and scale reference boxes `[boxes, 4]` by regressed deltas `[boxes, 4 * classes]`, dx, dy, dw, dh each.

    `weights` divide the deltas. Returns `[boxes, classes, 4]`. Source: Girshick et al. 2014, "Rich feature
    hierarchies", appendix C; github.com/facebookresearch/detectron2, `Box2BoxTransform`.
    """
    size = boxes[:, None, 2:] - boxes[:, None, :2]
    centre = boxes[:, None, :2] + 0.5 * size
    deltas = deltas.unflatten(1, (-1, 4)) / deltas.new_tensor(weights)
    moved = deltas[..., :2] * size + centre
    scaled = deltas[..., 2:].clamp(max=LARGEST_LOG_SCALE).exp() * size
    return torch.cat([moved - 0.5 * scaled, moved + 0.5 * scaled], dim=-1)


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes `[..., 4]` clipped to an image."""
    edges = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), edges)


def iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of every pair, `[one, other]`; NaN for two boxes of zero area."""
    low = torch.maximum(one[:, None, :2], other[:, :2])
    high = torch.minimum(one[:, None, 2:], other[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    areas, other_areas = ((boxes[:, 2:] - boxes[:, :2]).prod(dim=-1) for boxes in (one, other))
    return shared / (areas[:, None] + other_areas - shared)


def nms(boxes: Tensor, scores: Tensor, threshold: float, most: int) -> Tensor:
    """Indices of at most `most` boxes, best first, none overlapping a better one that is kept.

    Overlap is an IoU above `threshold`; of equal scores, the earlier is better. Equal to the first `most` of
    `torchvision.ops.nms`, without needing its compiled operators.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, kept = boxes[order], order.new_empty(0)
    for start in range(0, len(boxes), BLOCK):
        block = boxes[start : start + BLOCK]
        free = ~_overlap(boxes[kept], block, threshold).any(dim=0)
        kept = torch.cat([kept, start + _suppress(free, _overlap(block, block, threshold).triu(1))])
        if len(kept) >= most:
            break
    return order[kept[:most]]


def _overlap(one: Tensor, other: Tensor, threshold: float) -> Tensor:
    # torchvision's threshold is in double precision, and float32's 0.3 is above 0.3.
    return iou(one, other).double() > threshold


def _suppress(free: Tensor, overlaps: Tensor) -> Tensor:
    """Indices of the `free` boxes that no earlier kept box overlaps.

    Each box depends only on earlier ones, so iterating the rule reaches greedy suppression's unique fixed point.
    """
    kept = free
    while True:
        settled = free & ~(overlaps & kept[:, None]).any(dim=0)
        if torch.equal(settled, kept):
            return kept.nonzero().squeeze(1)
        kept = settled
