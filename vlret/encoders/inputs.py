"""From texts and cached features to the tensors that an encoder takes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")


class Features(Protocol):
    """Where features are read from: rows to `[n, regions, dim]` as they are stored and boxes `[n, regions, 4]`.

    `counts` `[rows]` says how many of its regions a row has; the rest is nothing.
    """

    regions: int
    dim: int
    counts: np.ndarray

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
        The most tokens of a text; the rest is cut, as it is at the tokenizer's own limit (`tokenizer_of`).
    cut
        The units whose texts were cut, of those that `tokens` was asked for.
    """

    texts: Sequence[str] | None
    images: np.ndarray | None
    features: Features | None
    tokenizer: object | None
    limit: int
    cut: set[int] = field(default_factory=set, init=False, compare=False)

    def __len__(self) -> int:
        return len(self.images if self.texts is None else self.texts)

    def tokens(self, units: Sequence[int]) -> list[list[int]] | None:
        """The ids of some units' texts, cut at the limit; None where there are no texts."""
        if self.texts is None:
            return None
        texts = [self.texts[int(unit)] for unit in units]
        read = self.tokenizer(texts, truncation=True, max_length=self.longest)
        self.cut.update(int(unit) for unit, text in zip(units, read.encodings, strict=True) if text.overflowing)
        return read["input_ids"]

    @property
    def longest(self) -> int:
        """The most tokens of a text; 0 where there are none."""
        return 0 if self.texts is None else min(self.limit, self.tokenizer.model_max_length)

    def inputs(self, units: Sequence[int], tokens: Sequence[list[int]] | None = None) -> dict[str, Tensor]:
        """The encoder's keyword arguments for some units, padded to the longest text among them.

        `tokens` are what `tokens` gave for these units, where that was asked before.
        """
        tokens = self.tokens(units) if tokens is None else tokens
        return {**self._text(tokens), **self._image(units)}

    def batches(
        self, units: Sequence[int], size: int, tokens: Sequence[list[int]] | None = None
    ) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """`inputs` of at most `size` units of like length, the longest first, and their places among `units`."""
        units, order = np.asarray(units), np.arange(len(units))
        tokens = self.tokens(units) if tokens is None else tokens
        if tokens is not None:
            order = np.argsort([-len(ids) for ids in tokens], kind="stable")
        for start in range(0, len(order), size):
            places = order[start : start + size]
            yield places, self.inputs(units[places], tokens and [tokens[place] for place in places])

    def groups(self, units: Sequence[int], size: int) -> tuple[list[dict[str, Tensor]], Tensor]:
        """`inputs` in groups of at most `size` units of like length, so that little is padded, and their order.

        The order `[units]` puts the groups' units, one group after the other, back in the places that they came from.
        """
        places, groups = zip(*self.batches(units, size), strict=True)
        return list(groups), torch.from_numpy(np.argsort(np.concatenate(places)))

    def _text(self, tokens: Sequence[list[int]] | None) -> dict[str, Tensor]:
        if tokens is None:
            return {}
        lengths = np.array([len(ids) for ids in tokens])
        mask = np.arange(lengths.max()) < lengths[:, None]
        padded = np.full(mask.shape, self.tokenizer.pad_token_id)
        padded[mask] = np.concatenate(tokens)
        return {"input_ids": torch.from_numpy(padded), "attention_mask": torch.from_numpy(mask)}

    def _image(self, units: Sequence[int]) -> dict[str, Tensor]:
        if self.images is None:
            return {}
        rows, regions = self.images[np.asarray(units)], self.features.regions
        there = rows >= 0
        features, boxes = self.features.read(rows[there])
        if not there.all():
            features, boxes = _spread(features, there), _spread(boxes, there)
        counts = np.zeros(len(rows), np.int64)
        counts[there] = self.features.counts[rows[there]]
        mask = torch.from_numpy(np.arange(regions) < counts[:, None])
        return {"features": torch.from_numpy(features), "boxes": torch.from_numpy(boxes), "visual_mask": mask}


def _spread(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """`values` `[n, ...]` in the places that are True of `there` `[units]`, 0 in the others."""
    spread = np.zeros((len(there), *values.shape[1:]), values.dtype)
    spread[there] = values
    return spread


def question_text(prefix: str, text: str) -> str:
    """The prefix, then the question."""
    return f"{prefix} {text}".strip()


def passage_text(prefix: str, title: str, separator: str, text: str) -> str:
    """The prefix, then the title, the separator and the passage's text (as cvlp and ViQuAE join them)."""
    return f"{prefix} {title} {separator} {text}".strip()


def ahead(items: Iterator[T], worker: Executor | None = None) -> Iterator[T]:
    """`items`, none of them None, each made by another thread while the one before it is used.

    `worker` is that thread where several streams must share one, since a tokenizer bears no second; else a new one.
    """
    with nullcontext(worker) if worker else ThreadPoolExecutor(1) as worker:
        waiting = worker.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = worker.submit(next, items, None)
            yield item
