"""Frozen image models: one module per family, whose `backbone(weights, **options)` builds a `Backbone`."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from vlret.files import InputError
from vlret.settings import AnyBackbone


class Backbone(Protocol):
    """A frozen image model.

    Attributes
    ----------
    weights
        Its weights file.
    regions, dim
        The maximum number of regions of an image, and their width.
    preprocessing
        A description in words.
    libraries
        The distributions that its output depends on.
    prepare
        RGB image to any input of `describe`; runs in another process, so must be picklable and small.
    """

    weights: Path
    regions: int
    dim: int
    preprocessing: str
    libraries: tuple[str, ...]
    prepare: Callable[[Image.Image], Any]

    def describe(self, images: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features `[images, regions, dim]`, boxes `[images, regions, 4]` and region counts `[images]`.

        Boxes are x1, y1, x2, y2 in [0, 1] of the image. Missing regions are zeros and come last.
        """


def load(name: str, entry: AnyBackbone, weights: Path) -> Backbone:
    """The backbone of a config entry; `InputError` if the weights do not fit."""
    model = importlib.import_module(entry.MODULE).backbone(weights, **entry.options())
    if model.dim != entry.dim:
        raise InputError(f"backbones.{name}.dim: {entry.dim}, but the weights have {model.dim}")
    return model
