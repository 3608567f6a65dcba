"""The complete detector and its published weights."""

from pathlib import Path

import torch
from torch import Tensor, nn

from vlret.encoders.checkpoints import load_strictly, read_tensors
from vlret.features.frcnn.config import PUBLISHED, Config
from vlret.features.frcnn.heads import Detections, RegionHeads
from vlret.features.frcnn.proposals import ProposalGenerator
from vlret.features.frcnn.resnet import ResNet
from vlret.files import InputError

ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"


class FasterRCNN(nn.Module):
    """Faster R-CNN with a C4 head (Ren et al. 2015; He et al. 2016, appendix A) and attributes."""

    def __init__(self, config: Config, anchors: int):
        super().__init__()
        self.config = config
        self.backbone = ResNet(config)
        self.proposal_generator = ProposalGenerator(config, anchors)
        self.roi_heads = RegionHeads(config)

    def forward(self, images: Tensor, sizes: list[tuple[int, int]]) -> list[Detections]:
        """Detections in a padded batch `[images, 3, height, width]` of images of `sizes` (height, width).

        As in the original, padding is not masked: it has anchors and changes features at an image's edges. So results
        are independent of the batch only for single images.
        """
        features = self.backbone(images)
        found = []
        for place, scores in enumerate(zip(*self.proposal_generator.rpn_head(features), strict=True)):
            proposals, _ = self.proposal_generator(*scores, sizes[place])
            found.append(self.roi_heads(features[place], proposals, sizes[place]))
        return found


def load(weights: Path, config: Config = PUBLISHED) -> FasterRCNN:
    """The detector with weights from a safetensors or PyTorch file; the anchors come from the file too.

    Raises `InputError` if the file is missing or invalid, or a parameter is missing, unexpected or misshapen.
    """
    stored = read_tensors(weights)
    anchors = stored.get(ANCHORS, torch.empty(0))
    if anchors.ndim != 2 or not len(anchors):
        raise InputError(f"{weights}: no table {ANCHORS}; use a checkpoint in the layout of frcnn-vg-finetuned")
    model = FasterRCNN(config, len(anchors))
    load_strictly(model.state_dict(), stored, weights)
    return model.eval()
