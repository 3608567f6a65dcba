"""From texts and cached features to the tensors that an encoder takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Features(Protocol):
    """Where features are read from: rows to `[n, regions, dim]` and boxes `[n, regions, 4]`, both float32."""

    regions: int
    dim: int

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read `rows`, in their order."""


@dataclass(frozen=True)
class Side:
    """One side of a bi-encoder: the questions, or the passages.

    Attributes
    ----------
    texts
        One a unit, or None for an encoder of images alone.
    images
        `[units]`, the row in `features` of each unit's image, -1 where it has none; None for an encoder of text alone.
    tokenizer
        What turns texts into ids; None where there are no texts.
    limit
        The most tokens of a text; the rest is cut.
    """

    texts: Sequence[str] | None
    images: np.ndarray | None
    features: Features | None
    tokenizer: object | None
    limit: int

    def __len__(self) -> int:
        return len(self.images if self.texts is None else self.texts)

    def inputs(self, units: Sequence[int]) -> dict[str, Tensor]:
        """The encoder's keyword arguments for some units, padded to the longest text among them."""
        return {**self._text(units), **self._image(units)}

    def groups(self, units: Sequence[int], size: int) -> tuple[list[dict[str, Tensor]], Tensor]:
        """`inputs` in groups of at most `size` units of like length, so that little is padded, and their order.

        The order `[units]` puts the groups' units, one group after the other, back in the places that they came from.
        """
        places = np.arange(len(units))
        if self.texts is not None:
            places = np.argsort([len(self.texts[int(unit)]) for unit in units], kind="stable")
        groups = [places[start : start + size] for start in range(0, len(places), size)]
        return [self.inputs(np.asarray(units)[group]) for group in groups], torch.from_numpy(np.argsort(places))

    def _text(self, units: Sequence[int]) -> dict[str, Tensor]:
        if self.texts is None:
            return {}
        texts = [self.texts[int(unit)] for unit in units]
        tokens = self.tokenizer(texts, truncation=True, max_length=self.limit, padding=True, return_tensors="pt")
        return {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}

    def _image(self, units: Sequence[int]) -> dict[str, Tensor]:
        if self.images is None:
            return {}
        rows, regions = self.images[np.asarray(units)], self.features.regions
        features = np.zeros((len(rows), regions, self.features.dim), dtype=np.float32)
        boxes = np.zeros((len(rows), regions, 4), dtype=np.float32)
        there = rows >= 0
        features[there], boxes[there] = self.features.read(rows[there])
        mask = torch.from_numpy(there)[:, None].expand(-1, regions)
        return {"features": torch.from_numpy(features), "boxes": torch.from_numpy(boxes), "visual_mask": mask}


def question_text(prefix: str, text: str) -> str:
    """The prefix, then the question."""
    return f"{prefix} {text}".strip()


def passage_text(prefix: str, title: str, separator: str, text: str) -> str:
    """The prefix, then the title, the separator and the passage's text (as cvlp and ViQuAE join them)."""
    return f"{prefix} {title} {separator} {text}".strip()
