"""EfficientNet-Lite0: its last 7 × 7 grid of 1,280 channels as 49 regions of an image.

Architecture: Tan and Le 2019, "EfficientNet", without squeeze-and-excite and swish
(github.com/tensorflow/tpu, `efficientnet/lite`), from timm. Weights: `efficientnet-lite0-57934424.pth` of
github.com/RangiLyu/EfficientNet-Lite (converted from TensorFlow), with keys renamed to timm's.
"""

from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from torch import Tensor

from vlret.features.pixels import Square
from vlret.features.squares import SquareBackbone
from vlret.files import InputError

SIZE = 224

# A block's parts in order of computation; the very first block does not expand.
PUBLISHED_PARTS = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
EXPANDING_PARTS = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
FIRST_PARTS = (None, None, "conv_dw", "bn1", "conv_pw", "bn2")
AROUND_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


class EffNet(SquareBackbone):
    """The frozen backbone. It squashes the whole image: cropping would cut both ends off a flag."""

    libraries = ("torch", "timm", "pillow")

    def __init__(self, weights: Path):
        super().__init__(load(weights), weights, Square(SIZE, "squash"), mean=[127.0] * 3, std=[128.0] * 3)

    def cells(self, pixels: Tensor) -> Tensor:
        """`[images, 3, 224, 224]` to `[images, 1280, 7, 7]`."""
        return self.model.forward_features(pixels)


def load(weights: Path) -> torch.nn.Module:
    """timm's `tf_efficientnet_lite0` with the published weights; `InputError` if the file does not fit."""
    model = timm.create_model("tf_efficientnet_lite0")
    try:
        published = torch.load(weights, map_location="cpu", weights_only=True)
        model.load_state_dict(renamed(published, [len(stage) for stage in model.blocks]))
    except FileNotFoundError as error:
        raise InputError(f"{weights}: no such file") from error
    except Exception as error:  # torch raises various types for invalid or mismatched checkpoints
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{weights}: not the weights of EfficientNet-Lite0 ({reason})") from error
    return model


def renamed(published: dict[str, torch.Tensor], blocks: Sequence[int]) -> dict[str, torch.Tensor]:
    """The published state dict with timm's names; `blocks` counts the blocks of each stage.

    The published blocks are one flat list, timm's are per stage. Raises `KeyError` for an unknown name.
    """
    places = [(stage, block) for stage, count in enumerate(blocks) for block in range(count)]

    def rename(key: str) -> str:
        head, _, rest = key.partition(".")
        if head != "_blocks":
            return f"{AROUND_BLOCKS[head]}.{rest}"
        number, part, tensor = rest.split(".")
        stage, block = places[int(number)]
        parts = dict(zip(PUBLISHED_PARTS, EXPANDING_PARTS if stage else FIRST_PARTS, strict=True))
        return f"blocks.{stage}.{block}.{parts[part]}.{tensor}"

    return {rename(key): tensor for key, tensor in published.items()}


backbone = EffNet
