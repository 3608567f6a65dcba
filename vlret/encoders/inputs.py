"""Batches of texts and cached features as encoder inputs."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")
AHEAD = 4  # batches that wait for a GPU


class Features(Protocol):
    """A source of features: rows to stored features `[n, regions, dim]` and boxes `[n, regions, 4]`.

    `counts` `[rows]` is the number of valid regions of each row; the rest is padding.
    """

    regions: int
    dim: int
    counts: np.ndarray

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read `rows`, in the given order."""


@dataclass(frozen=True)
class Side:
    """The units of one side of a bi-encoder: questions or passages.

    Attributes
    ----------
    texts
        One per unit; None for an image encoder.
    images
        `[units]`, the row in `features` of each unit's image, -1 without one; None for a text encoder.
    tokenizer
        Turns texts into ids; None without texts.
    limit
        The most tokens of a text; longer ones are truncated, as they are at the tokenizer's limit (`tokenizer_of`).
    cut
        The units that `tokens` truncated so far.
    """

    texts: Sequence[str] | None
    images: np.ndarray | None
    features: Features | None
    tokenizer: object | None
    limit: int
    cut: set[int] = field(default_factory=set, init=False, compare=False)

    def __len__(self) -> int:
        return len(self.images if self.texts is None else self.texts)

    def distinct(self) -> tuple["Side", np.ndarray]:
        """The distinct units, by text and image, in order of their first occurrence, and which of them each unit is."""
        texts = [None] * len(self) if self.texts is None else map(self.texts.__getitem__, range(len(self)))
        images = [None] * len(self) if self.images is None else self.images.tolist()
        places: dict[tuple, int] = {}
        of = np.array([places.setdefault(key, len(places)) for key in zip(texts, images, strict=True)], np.int64)
        kept = None if self.texts is None else [text for text, _ in places]
        shown = None if self.images is None else np.array([image for _, image in places], self.images.dtype)
        return Side(kept, shown, self.features, self.tokenizer, self.limit), of

    def tokens(self, units: Sequence[int]) -> list[list[int]] | None:
        """The token ids of some units' texts, truncated to the limit; None without texts."""
        if self.texts is None:
            return None
        texts = [self.texts[int(unit)] for unit in units]
        read = self.tokenizer(texts, truncation=True, max_length=self.longest)
        self.cut.update(int(unit) for unit, text in zip(units, read.encodings, strict=True) if text.overflowing)
        return read["input_ids"]

    @property
    def longest(self) -> int:
        """The most tokens of a text; 0 without texts."""
        return 0 if self.texts is None else min(self.limit, self.tokenizer.model_max_length)

    def inputs(
        self, units: Sequence[int], tokens: Sequence[list[int]] | None = None, images: bool = True
    ) -> dict[str, Tensor]:
        """The encoder's keyword arguments for some units, padded to the longest text.

        Texts of which none has an image are encoded without visual tokens.

        Parameters
        ----------
        tokens
            Those of the units, if already known.
        images
            Whether to read the features.
        """
        tokens = self.tokens(units) if tokens is None else tokens
        seen = images and self.images is not None and (tokens is None or bool((self.images[units] >= 0).any()))
        return {**self._text(tokens), **(self.read(self.images[np.asarray(units)]) if seen else {})}

    def batches(
        self, units: Sequence[int], size: int, tokens: Sequence[list[int]] | None = None, images: bool = True
    ) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """Yield places in `units`, and their `inputs`, for at most `size` of similar length, longest first.

        Texts with an image come first, and share no batch with those without one, whose sequences are shorter.
        """
        units = np.asarray(units)
        tokens = self.tokens(units) if tokens is None else tokens
        lengths = np.zeros(len(units), np.int64) if tokens is None else np.array([len(ids) for ids in tokens])
        alone = np.zeros(len(units), bool) if tokens is None or self.images is None else self.images[units] < 0
        order = np.lexsort((-lengths, alone))
        for part in np.split(order, [len(order) - np.count_nonzero(alone)]):
            for start in range(0, len(part), size):
                places = part[start : start + size]
                yield places, self.inputs(units[places], tokens and [tokens[place] for place in places], images)

    def groups(self, units: Sequence[int], size: int) -> tuple[list[dict[str, Tensor]], Tensor]:
        """`inputs` in groups of at most `size` units of similar length, which keeps padding small, and their order.

        The order `[units]` restores the original order of the concatenated groups.
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

    def read(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Features, boxes and mask of images by their rows in the store, -1 for none."""
        present, regions = rows >= 0, self.features.regions
        features, boxes = self.features.read(rows[present])
        if not present.all():
            features, boxes = _scatter(features, present), _scatter(boxes, present)
        counts = np.zeros(len(rows), np.int64)
        counts[present] = self.features.counts[rows[present]]
        mask = torch.from_numpy(np.arange(regions) < counts[:, None])
        return {"features": torch.from_numpy(features), "boxes": torch.from_numpy(boxes), "visual_mask": mask}


def _scatter(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """`values` `[n, ...]` where `present` `[units]` is True, 0 elsewhere."""
    scattered = np.zeros((len(present), *values.shape[1:]), values.dtype)
    scattered[present] = values
    return scattered


def question_text(prefix: str, text: str) -> str:
    """The prefix, then the question."""
    return f"{prefix} {text}".strip()


def passage_text(prefix: str, title: str, separator: str, text: str) -> str:
    """The prefix, then title, separator and text of the passage (joined as in cvlp and ViQuAE)."""
    return f"{prefix} {title} {separator} {text}".strip()


def prefetch(items: Iterator[T], worker: Executor | None = None, ahead: int = 1) -> Iterator[T]:
    """`items` (never None), each computed in another thread while earlier ones are used.

    Parameters
    ----------
    worker
        Streams that share a tokenizer must share one worker, as tokenizers are not thread-safe; by default a new
        thread.
    ahead
        How many are computed in advance.
    """
    with nullcontext(worker) if worker else ThreadPoolExecutor(1) as worker:
        waiting = deque(worker.submit(next, items, None) for _ in range(ahead))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(worker.submit(next, items, None))
            yield item


def on_device(batches: Iterator[tuple[T, dict[str, Tensor]]], device: torch.device) -> Iterator[tuple[T, dict]]:
    """Batches with their inputs on a device, made in another thread; a GPU receives the next ones while it computes."""
    if device.type != "cuda":
        yield from prefetch(batches)
        return
    copying, computing = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    for key, inputs in prefetch(_pinned(batches), ahead=AHEAD):
        with torch.cuda.stream(copying):
            moved = {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
        computing.wait_stream(copying)
        for tensor in moved.values():
            tensor.record_stream(computing)
        yield key, moved


def _pinned(batches: Iterator[tuple[T, dict[str, Tensor]]]) -> Iterator[tuple[T, dict[str, Tensor]]]:
    """Batches in page-locked memory, from which copies to a GPU do not wait."""
    for key, inputs in batches:
        yield key, {name: tensor.pin_memory() for name, tensor in inputs.items()}
