"""Backbones that take one square image and compute features of grid cells or of the whole."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vlret.features.pixels import Square


class SquareBackbone(ABC):
    """Base class of frozen models of square images.

    Parameters
    ----------
    model
        It is moved to the GPU if there is one.
    weights
        Its weights file.
    prepare
        Image to pixels.
    mean, std
        Per-channel normalisation of pixels in [0, 255].
    """

    libraries: tuple[str, ...] = ("torch", "pillow")

    def __init__(self, model: nn.Module, weights: Path, prepare: Square, mean: Sequence[float], std: Sequence[float]):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.eval().to(self.device, memory_format=torch.channels_last)
        self.weights, self.prepare = Path(weights), prepare
        self.mean, self.std = (torch.tensor(values, device=self.device).view(3, 1, 1) for values in (mean, std))
        self.preprocessing = f"{prepare}, (RGB - {list(mean)}) / {list(std)}"
        described = self._forward(np.zeros((1, prepare.size, prepare.size, 3), np.uint8))
        self.dim, self.grid = described.shape[1], tuple(described.shape[2:])
        self.regions = self.grid[0] * self.grid[1]

    @abstractmethod
    def cells(self, pixels: Tensor) -> Tensor:
        """Normalised pixels `[images, 3, size, size]` to features `[images, dim, rows, columns]`."""

    def describe(self, images: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Outputs of `prepare` to features `[images, regions, dim]`, boxes `[images, regions, 4]`, counts."""
        pixels, boxes = (np.stack(part) for part in zip(*images, strict=True))
        cells = self._forward(pixels)
        low, size = np.tile(boxes[:, :2], 2), np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        places = low[:, None] + grid_boxes(*self.grid) * size[:, None]
        counts = np.full(len(images), self.regions)
        return cells.flatten(2).transpose(1, 2).float().cpu().numpy(), places.astype(np.float32), counts

    @torch.inference_mode()
    def _forward(self, pixels: np.ndarray) -> Tensor:
        # Pixels are already in channels_last order.
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        return self.cells((images.float() - self.mean) / self.std)


def grid_boxes(rows: int, columns: int) -> np.ndarray:
    """The boxes of grid cells, row by row: `[rows * columns, 4]`, x1, y1, x2, y2 in [0, 1]."""
    top, left = np.divmod(np.arange(rows * columns), columns)
    edges = np.stack([left, top, left + 1, top + 1], axis=1)
    return (edges / [columns, rows, columns, rows]).astype(np.float32)


def scale_to_255(values: Sequence[float]) -> list[float]:
    """Means or deviations of channels in [0, 1], rescaled to [0, 255]."""
    return [value * 255 for value in values]
