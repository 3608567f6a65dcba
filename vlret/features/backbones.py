"""Frozen image models: a module for each family, whose `backbone(weights, **options)` gives a `Backbone`."""

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
        The file that its weights were read from.
    regions, dim
        Most regions of an image, and numbers a region.
    preprocessing
        In words.
    libraries
        The distributions that its output depends on.
    prepare
        From an RGB image to what `describe` takes: anything, made in another process. It is picklable and small.
    """

    weights: Path
    regions: int
    dim: int
    preprocessing: str
    libraries: tuple[str, ...]
    prepare: Callable[[Image.Image], Any]

    def describe(self, images: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features `[images, regions, dim]`, boxes `[images, regions, 4]`, how many regions are there `[images]`.

        Boxes are x1, y1, x2, y2 in [0, 1] of the image. Regions that are not there are zeros and come last.
        """


def load(name: str, entry: AnyBackbone, weights: Path) -> Backbone:
    """The backbone of an entry of the config; `InputError` where the weights do not fit."""
    model = importlib.import_module(entry.MODULE).backbone(weights, **entry.options())
    if model.dim != entry.dim:
        raise InputError(f"backbones.{name}.dim: {entry.dim}, but the weights give {model.dim}")
    return model
