"""Preprocess images for the detector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vlret.features.frcnn.config import Config

# Image pixels per cell of res4. Shorter sides are padded to it, as the stem cannot pool less than 3 pixels.
STRIDE = 16


@dataclass(frozen=True)
class Prepare:
    """RGB image to the detector's input."""

    config: Config

    def __call__(self, image: Image.Image | np.ndarray) -> np.ndarray:
        """An image, `[height, width, 3]` uint8 or Pillow's, as an array with channels in the configured order.

        Images that take more bytes than after resizing are resized here, to float32, as many may be queued.
        """
        pixels = in_order(image, self.config.channel_order)
        height, width = resized(*pixels.shape[:2], self.config)
        large = pixels.size > np.float32().itemsize * height * width * 3
        return bilinear(torch.from_numpy(pixels), height, width).numpy() if large else pixels


def in_order(image: Image.Image | np.ndarray, order: str) -> np.ndarray:
    """An RGB image as `[height, width, 3]` uint8 with channels in the order `RGB` or `BGR`."""
    pixels = np.asarray(image)
    return np.array({"RGB": pixels, "BGR": pixels[:, :, ::-1]}[order], order="C")


def resized(height: int, width: int, config: Config) -> tuple[int, int]:
    """Height and width after resizing: the shorter side to `shorter`, unless the longer would exceed `longer`."""
    scale = config.shorter / min(height, width)
    scale *= min(config.longer / (scale * max(height, width)), 1)
    return tuple(max(int(side * scale + 0.5), 1) for side in (height, width))


def preprocess(pixels: Tensor, config: Config) -> Tensor:
    """Resize `[height, width, 3]` uint8 and normalise it: float32 `[3, ...]`."""
    image = bilinear(pixels, *resized(*pixels.shape[:2], config))
    return ((image - image.new_tensor(config.mean)) / image.new_tensor(config.std)).permute(2, 0, 1)


def bilinear(pixels: Tensor, height: int, width: int) -> Tensor:
    """`[rows, columns, channels]` as float32 `[height, width, channels]`, without anti-aliasing.

    As `torch.nn.functional.interpolate` with `align_corners=False`, whose rounding however depends on the number of
    threads: by up to 1e-4 of 255, more than float32's precision.
    """
    low, high, share = _neighbours(pixels.shape[0], height, pixels.device)
    above, below = pixels[low].float(), pixels[high].float()
    rows = above + (below - above) * share[:, None, None]
    low, high, share = _neighbours(pixels.shape[1], width, pixels.device)
    left, right = rows[:, low], rows[:, high]
    return left + (right - left) * share[:, None]


def _neighbours(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each position along a resized side, its two original neighbours and the weight of the second."""
    scale = float(np.float32(source / target))
    place = torch.arange(target, dtype=torch.float64, device=device).add(0.5).mul(scale).sub(0.5).clamp(min=0).float()
    low = place.long().clamp(max=source - 1)
    return low, (low + 1).clamp(max=source - 1), place - low


def pad(images: Sequence[Tensor], config: Config) -> tuple[Tensor, list[tuple[int, int]]]:
    """Preprocessed images as one batch `[images, 3, height, width]`, padded right and below, and their sizes."""
    sizes = [tuple(image.shape[1:]) for image in images]
    height, width = (max(STRIDE, *sides) for sides in zip(*sizes, strict=True))
    batch = [
        F.pad(image, (0, width - w, 0, height - h), value=config.padding)
        for image, (h, w) in zip(images, sizes, strict=True)
    ]
    return torch.stack(batch), sizes
