"""Resize and crop an image to a square; separate from the backbones, as decoders must not import torch."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Square:
    """Resizes and crops an image to a square.

    Attributes
    ----------
    size
        Pixels per side.
    resize
        `squash`: the whole image, distorted; `shortest`: fits the shorter side and crops the centre of the longer.
    interpolation
        `bilinear`, `bicubic` or `lanczos`.
    share
        The central share of the resized sides that is kept (timm's `crop_pct`).
    """

    size: int
    resize: str
    interpolation: str = "bicubic"
    share: float = 1.0

    def __call__(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """An RGB image as `[size, size, 3]` uint8, and the box they show: x1, y1, x2, y2 in [0, 1] of the image."""
        side = int(self.size / self.share)
        shorter = min(image.size)
        width, height = (side if self.resize == "squash" else int(side * length / shorter) for length in image.size)
        left, top = (round((length - self.size) / 2) for length in (width, height))
        resized = image.resize((width, height), RESAMPLING[self.interpolation])
        pixels = np.asarray(resized.crop((left, top, left + self.size, top + self.size)))
        box = np.float32([left, top, left + self.size, top + self.size]) / np.float32([width, height, width, height])
        return pixels, box

    def __str__(self) -> str:
        """A description in words, for a store."""
        how = "without keeping the aspect" if self.resize == "squash" else "the shorter side, and its middle"
        kept = "" if self.share == 1 else f", the inner {self.share:g} of its sides"
        return f"{self.interpolation} to {self.size} × {self.size}, {how}{kept}"
