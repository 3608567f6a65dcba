"""The Faster R-CNN of LXMERT and VL-T5, trained on Visual Genome: 36 regions per image, 2,048 dimensions each.

Source: Anderson et al. 2018, "Bottom-Up and Top-Down Attention"; the PyTorch port of its weights in
github.com/airsplay/py-bottom-up-attention, published as `unc-nlp/frcnn-vg-finetuned`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vlret.encoders.checkpoints import weights_file
from vlret.features.frcnn.config import PUBLISHED, Config
from vlret.features.frcnn.detector import load
from vlret.features.frcnn.heads import Detections
from vlret.features.frcnn.preprocessing import Prepare, pad, preprocess, resized


class FRCNN:
    """The frozen backbone, ready to describe images.

    Parameters
    ----------
    weights
        A file in the layout of `frcnn-vg-finetuned`, or a folder with `model.safetensors` or `pytorch_model.bin`.
    regions
        The minimum (if found) and maximum number of regions per image.
    config
        Everything else that is not in the checkpoint.
    """

    libraries = ("torch", "pillow")

    def __init__(self, weights: Path, regions: tuple[int, int] | None = None, config: Config = PUBLISHED):
        if regions is not None:
            config = replace(config, least_regions=regions[0], regions=regions[1])
        self.config, self.regions, self.dim = config, config.regions, config.dim
        self.weights = weights_file(Path(weights)) if Path(weights).is_dir() else Path(weights)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load(self.weights, config).to(self.device, memory_format=torch.channels_last)
        self.prepare = Prepare(config)
        self.preprocessing = (
            f"{config.channel_order} - {config.mean}, bilinear without anti-aliasing to {config.shorter} pixels a"
            f" shorter side, at most {config.longer} a longer one; {config.least_regions} to {config.regions} regions"
        )

    def describe(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Prepared images to features `[images, regions, dim]`, boxes `[images, regions, 4]`, counts `[images]`.

        Regions are sorted by confidence; boxes are x1, y1, x2, y2 in [0, 1]. Missing regions are zeros.
        """
        features = np.zeros((len(images), self.regions, self.dim), dtype=np.float32)
        boxes = np.zeros((len(images), self.regions, 4), dtype=np.float32)
        counts = np.zeros(len(images), dtype=np.int32)
        for place, image in enumerate(images):
            found = self.detect(image)
            height, width = resized(*image.shape[:2], self.config)
            counts[place] = len(found)
            features[place, : len(found)] = found.features.cpu().numpy()
            boxes[place, : len(found)] = found.boxes.cpu().numpy() / np.float32([width, height, width, height])
        return features, boxes, counts

    @torch.inference_mode()
    def detect(self, image: np.ndarray) -> Detections:
        """The regions of one prepared image, with objects and attributes; boxes in pixels of the resized image.

        Never a batch: padding to the largest image changes an image's features.
        """
        batch, sizes = pad([preprocess(torch.from_numpy(image).to(self.device), self.config)], self.config)
        return self.model(batch.contiguous(memory_format=torch.channels_last), sizes)[0]


backbone = FRCNN
