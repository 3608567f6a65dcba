"""The region proposal network: boxes that may contain objects.

Source: Ren et al. 2015, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", section 3.1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlret.features.frcnn.boxes import apply_deltas, clip, nms
from vlret.features.frcnn.config import Config
from vlret.features.frcnn.preprocessing import STRIDE


class ProposalHead(nn.Module):
    """Scores and box deltas of every anchor at every cell of the map."""

    def __init__(self, config: Config, anchors: int):
        super().__init__()
        self.conv = nn.Conv2d(4 * config.channels, config.hidden, 3, padding=1)
        self.objectness_logits = nn.Conv2d(config.hidden, anchors, 1)
        self.anchor_deltas = nn.Conv2d(config.hidden, 4 * anchors, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `[images, channels, ...]` to logits `[images, anchors, ...]` and deltas `[images, 4 * anchors, ...]`."""
        hidden = F.relu_(self.conv(features))
        return self.objectness_logits(hidden), self.anchor_deltas(hidden)


class ProposalGenerator(nn.Module):
    """Selects an image's best anchors and applies their deltas."""

    def __init__(self, config: Config, anchors: int):
        super().__init__()
        self.config = config
        table = nn.Parameter(torch.zeros(anchors, 4), requires_grad=False)
        self.anchor_generator = nn.ModuleDict({"cell_anchors": nn.ParameterList([table])})
        self.rpn_head = ProposalHead(config, anchors)

    def anchors(self, height: int, width: int) -> Tensor:
        """The boxes of all anchors over a map, row by row, then by anchor: `[height * width * anchors, 4]`."""
        table = self.anchor_generator["cell_anchors"][0]
        y, x = (torch.arange(side, device=table.device) * STRIDE for side in (height, width))
        y, x = torch.meshgrid(y, x, indexing="ij")
        return (torch.stack([x, y, x, y], dim=-1)[:, :, None] + table).flatten(0, 2)

    def forward(self, logits: Tensor, deltas: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The proposals from `ProposalHead`'s output for one image.

        Parameters
        ----------
        logits, deltas
            `[anchors, height, width]`, `[4 * anchors, height, width]`.
        size
            Height and width of the image before padding, in pixels.

        Returns
        -------
        Boxes `[proposals, 4]` in pixels and their logits `[proposals]`, best first.
        """
        anchors = self.anchors(*logits.shape[1:])
        deltas = deltas.unflatten(0, (-1, 4)).permute(2, 3, 0, 1).reshape(-1, 4)
        logits, order = logits.permute(1, 2, 0).flatten().sort(descending=True, stable=True)
        logits, order = logits[: self.config.before_suppression], order[: self.config.before_suppression]
        boxes = clip(apply_deltas(deltas[order], anchors[order], (1.0, 1.0, 1.0, 1.0))[:, 0], *size)
        large = (boxes[:, 2:] - boxes[:, :2] > self.config.least_side).all(dim=1)
        boxes, logits = boxes[large], logits[large]
        kept = nms(boxes, logits, self.config.proposal_overlap, self.config.after_suppression)
        return boxes[kept], logits[kept]
