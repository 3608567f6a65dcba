"""From an image to the pixels that the detector takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vlret.features.frcnn.config import Config

# Pixels of the image a cell of res4. A lesser side is padded to it: the stem cannot pool less than 3 pixels.
STRIDE = 16


@dataclass(frozen=True)
class Prepare:
    """From an RGB image to what the detector is given."""

    config: Config

    def __call__(self, image: Image.Image | np.ndarray) -> np.ndarray:
        """An image, `[height, width, 3]` uint8 or Pillow's, as the same with its channels in order.

        One that is more bytes than after resizing is resized here, to float32: many may wait for their turn.
        """
        pixels = in_order(image, self.config.channel_order)
        height, width = resized(*pixels.shape[:2], self.config)
        large = pixels.size > np.float32().itemsize * height * width * 3
        return bilinear(torch.from_numpy(pixels), height, width).numpy() if large else pixels


def in_order(image: Image.Image | np.ndarray, order: str) -> np.ndarray:
    """The `[height, width, 3]` uint8 of an RGB image with its channels in the order `RGB` or `BGR`."""
    pixels = np.asarray(image)
    return np.array({"RGB": pixels, "BGR": pixels[:, :, ::-1]}[order], order="C")


def resized(height: int, width: int, config: Config) -> tuple[int, int]:
    """Height and width after resizing: the shorter side to `shorter`, unless that makes the longer exceed `longer`."""
    scale = config.shorter / min(height, width)
    scale *= min(config.longer / (scale * max(height, width)), 1)
    return tuple(max(int(side * scale + 0.5), 1) for side in (height, width))


def preprocess(pixels: Tensor, config: Config) -> Tensor:
    """Resize `[height, width, 3]` uint8 and normalise it: float32 `[3, ...]`."""
    image = bilinear(pixels, *resized(*pixels.shape[:2], config))
    return ((image - image.new_tensor(config.mean)) / image.new_tensor(config.std)).permute(2, 0, 1)


def bilinear(pixels: Tensor, height: int, width: int) -> Tensor:
    """`[rows, columns, channels]` as float32 `[height, width, channels]`, without anti-aliasing.

    Pixels are squares and lie side by side (`align_corners=False` of `torch.nn.functional.interpolate`). Ours, because
    torch's rounds places differently on one thread and on several: by up to 1e-4 of 255, more than its own precision.
    """
    low, high, share = _neighbours(pixels.shape[0], height, pixels.device)
    above, below = pixels[low].float(), pixels[high].float()
    rows = above + (below - above) * share[:, None, None]
    low, high, share = _neighbours(pixels.shape[1], width, pixels.device)
    left, right = rows[:, low], rows[:, high]
    return left + (right - left) * share[:, None]


def _neighbours(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Of each place along a resized side, the two places of the original about it and the latter's share."""
    scale = float(np.float32(source / target))
    place = torch.arange(target, dtype=torch.float64, device=device).add(0.5).mul(scale).sub(0.5).clamp(min=0).float()
    low = place.long().clamp(max=source - 1)
    return low, (low + 1).clamp(max=source - 1), place - low


def pad(images: Sequence[Tensor], config: Config) -> tuple[Tensor, list[tuple[int, int]]]:
    """Preprocessed images as one batch `[images, 3, height, width]`, padded right and below, and their own sizes."""
    sizes = [tuple(image.shape[1:]) for image in images]
    height, width = (max(STRIDE, *sides) for sides in zip(*sizes, strict=True))
    batch = [
        F.pad(image, (0, width - w, 0, height - h), value=config.padding)
        for image, (h, w) in zip(images, sizes, strict=True)
    ]
    return torch.stack(batch), sizes
