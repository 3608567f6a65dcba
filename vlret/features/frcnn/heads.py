"""Region heads: the feature, object, attribute and box of a proposal.

Source: Anderson et al. 2018, "Bottom-Up and Top-Down Attention for Image Captioning and Visual Question Answering",
section 3.1 (attributes from the feature and the object's embedding); github.com/airsplay/py-bottom-up-attention.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlret.features.frcnn.boxes import apply_deltas, clip, nms
from vlret.features.frcnn.config import Config
from vlret.features.frcnn.pooling import roi_pool
from vlret.features.frcnn.preprocessing import STRIDE
from vlret.features.frcnn.resnet import stage

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)

# Regions per pass through res5, whose maps of 300 regions take gigabytes.
AT_A_TIME = 50


class Predictions(NamedTuple):
    """Per proposal: object logits (background last), attribute logits (none last), box deltas per object."""

    objects: Tensor
    attributes: Tensor
    deltas: Tensor


@dataclass(frozen=True)
class Detections:
    """The regions of one image, sorted by confidence.

    Attributes
    ----------
    objects, object_probabilities
        `[regions]`: the likeliest object other than the background, from 0, and its probability.
    attributes, attribute_probabilities
        `[regions]`: the likeliest attribute, from 0, and its probability.
    boxes
        `[regions, 4]` in pixels of the resized image, before padding.
    features
        `[regions, dim]`.
    """

    objects: Tensor
    object_probabilities: Tensor
    attributes: Tensor
    attribute_probabilities: Tensor
    boxes: Tensor
    features: Tensor

    def __len__(self) -> int:
        """Regions."""
        return len(self.objects)

    def __getitem__(self, places: Tensor) -> "Detections":
        return Detections(*(getattr(self, field.name)[places] for field in fields(self)))


class Predictor(nn.Module):
    """Predicts object, attribute and box from a region's feature; the attribute depends on the object."""

    def __init__(self, config: Config):
        super().__init__()
        dim, embedding, hidden = config.dim, config.dim // 8, config.dim // 4
        self.cls_score = nn.Linear(dim, config.objects + 1)
        self.bbox_pred = nn.Linear(dim, 4 * config.objects)
        self.cls_embedding = nn.Embedding(config.objects + 1, embedding)
        self.fc_attr = nn.Linear(dim + embedding, hidden)
        self.attr_score = nn.Linear(hidden, config.attributes + 1)

    def forward(self, features: Tensor) -> Predictions:
        """`[regions, dim]` to logits and deltas."""
        objects = self.cls_score(features)
        known = self.cls_embedding(objects.argmax(dim=1))  # the background counts as an object here
        hidden = F.relu(self.fc_attr(torch.cat([features, known], dim=1)))
        return Predictions(objects, self.attr_score(hidden), self.bbox_pred(features))


class RegionHeads(nn.Module):
    """An image's feature map and proposals to its detections."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.res5 = stage(config, 5, 3, config.res5_halves, dilation=1 if config.res5_halves else 2)
        self.box_predictor = Predictor(config)

    def pool(self, features: Tensor, proposals: Tensor) -> Tensor:
        """The feature of each proposal, `[proposals, dim]`, from res4's map `[channels, height, width]`."""
        pooled = roi_pool(features, proposals, self.config.cells, 1 / STRIDE)
        return torch.cat([self.res5(some).mean(dim=(2, 3)) for some in pooled.split(AT_A_TIME)])

    def forward(self, features: Tensor, proposals: Tensor, size: tuple[int, int]) -> Detections:
        """The detections of one image of `size` (height, width); map and proposals as for `pool`."""
        regions = self.pool(features, proposals)
        return self.select(self.box_predictor(regions), regions, proposals, size)

    def select(self, predicted: Predictions, features: Tensor, proposals: Tensor, size: tuple[int, int]) -> Detections:
        """The most confident non-overlapping proposals, each as its likeliest object other than the background.

        The threshold is the first of `config.overlaps` that leaves `least_regions`, else the last, so an image with
        few proposals has few regions.
        """
        probabilities, objects = predicted.objects.softmax(dim=1)[:, :-1].max(dim=1)
        attribute_probabilities, attributes = predicted.attributes[:, :-1].softmax(dim=1).max(dim=1)
        boxes = apply_deltas(predicted.deltas, proposals, BOX_WEIGHTS)
        boxes = clip(boxes[torch.arange(len(boxes), device=boxes.device), objects], *size)
        found = Detections(objects, probabilities, attributes, attribute_probabilities, boxes, features)
        for overlap in self.config.overlaps:
            kept = nms(boxes, probabilities, overlap, self.config.regions)
            if len(kept) >= self.config.least_regions:
                break
        return found[kept]
