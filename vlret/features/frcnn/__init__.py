"""The Faster R-CNN of LXMERT and VL-T5, trained on Visual Genome: 36 regions of an image, 2,048 numbers each.

Source: Anderson et al. 2018, "Bottom-Up and Top-Down Attention"; the PyTorch port of its weights in
github.com/airsplay/py-bottom-up-attention, published as `unc-nlp/frcnn-vg-finetuned`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vlret.features.frcnn.config import PUBLISHED
from vlret.features.frcnn.detector import load
from vlret.features.frcnn.heads import Detections
from vlret.features.frcnn.preprocessing import bilinear, in_order, pad, preprocess, resized


class FRCNN:
    """The frozen backbone, ready to describe images."""

    name = "frcnn"
    config = PUBLISHED
    regions, dim = config.regions, config.dim
    preprocessing = (
        f"{config.channel_order} - {config.mean}, bilinear without anti-aliasing to {config.shorter} pixels a shorter"
        f" side, at most {config.longer} a longer one"
    )
    libraries = ("torch", "pillow")

    def __init__(self, weights: Path):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load(weights, self.config).to(self.device, memory_format=torch.channels_last)

    @classmethod
    def preprocess(cls, image: Image.Image | np.ndarray) -> np.ndarray:
        """An RGB image, `[height, width, 3]` uint8 or Pillow's, as what `describe` takes: the same, in its channels.

        One that is more bytes than after resizing is resized here, to float32: a worker's queue may hold many.
        """
        pixels = in_order(image, cls.config.channel_order)
        height, width = resized(*pixels.shape[:2], cls.config)
        large = pixels.size > np.float32().itemsize * height * width * 3
        return bilinear(torch.from_numpy(pixels), height, width).numpy() if large else pixels

    def describe(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Preprocessed images to features `[images, 36, 2048]` and boxes `[images, 36, 4]`, surest region first.

        Boxes are x1, y1, x2, y2 in [0, 1]. Where an image has fewer regions than 36, the rest is zeros.
        """
        features = np.zeros((len(images), self.regions, self.dim), dtype=np.float32)
        boxes = np.zeros((len(images), self.regions, 4), dtype=np.float32)
        for place, image in enumerate(images):
            found = self.detect(image)
            height, width = resized(*image.shape[:2], self.config)
            features[place, : len(found)] = found.features.cpu().numpy()
            boxes[place, : len(found)] = found.boxes.cpu().numpy() / np.float32([width, height, width, height])
        return features, boxes

    @torch.inference_mode()
    def detect(self, image: np.ndarray) -> Detections:
        """The regions of one preprocessed image, with their objects and attributes; boxes as if it were resized.

        Always one: padded to the largest of a batch, an image has other features than alone.
        """
        batch, sizes = pad([preprocess(torch.from_numpy(image).to(self.device), self.config)], self.config)
        return self.model(batch.contiguous(memory_format=torch.channels_last), sizes)[0]


backbone = FRCNN
