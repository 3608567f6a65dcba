"""Epochs: batches of distinct entities that together show every question."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np


class Epochs:
    """The questions of each batch, such that each epoch shows every question once.

    Two things keep questions from being shown exactly once. Batches are full, so the last one's empty places go to
    random questions. And the entities of a batch are distinct, so an epoch is as long as the most frequent entity has
    questions; the places that remain go to other entities' questions, as evenly as they can.

    Parameters
    ----------
    counts
        The number of questions of each entity, of which there are at least `size`. Questions are numbered from 0 in
        the order of entities.
    size
        Questions per batch.
    seed
        Seeds the epochs, with each one's number.

    Attributes
    ----------
    batches
        Batches per epoch.
    """

    def __init__(self, counts: Sequence[int], size: int, seed: Sequence[int]):
        self.counts, self.size, self.seed = np.asarray(counts), size, seed
        self.entities = np.repeat(np.arange(len(counts)), counts)
        self.batches = max(-(-len(self.entities) // size), int(self.counts.max()))
        self._plan = lru_cache(maxsize=2)(self._planned)

    def batch(self, number: int) -> np.ndarray:
        """The questions of a batch, `[size]`; a function of the seed and the batch's number."""
        epoch, at = divmod(number, self.batches)
        return self._plan(epoch)[at]

    def _planned(self, epoch: int) -> np.ndarray:
        """The questions of an epoch, `[batches, size]`.

        Questions, an entity's side by side, are cut into `size` rows; each row gives one question to every batch, in
        random order. Since no entity has more places than there are batches, only one that two rows share could be in
        a batch twice: the second row's part of it goes to other batches than the first row's.
        """
        rng = np.random.default_rng([*self.seed, epoch, 2])  # 2: no other seed of a training ends in it
        rows = self._in_rows(rng)
        entities = self.entities[rows]
        plan, order = np.empty((self.batches, self.size), np.int64), np.empty(0, np.int64)
        for place, row in enumerate(rows):
            shared = entities[place - 1, -1] if place else -1
            taken = order[entities[place - 1] == shared] if place else order
            order = rng.permutation(self.batches)
            free = order[~np.isin(order, taken)][: (entities[place] == shared).sum()]
            order = np.concatenate([free, order[~np.isin(order, free)]])
            plan[order, place] = row
        return plan

    def _in_rows(self, rng: np.random.Generator) -> np.ndarray:
        """Each question once or more often, random entities one after the other, `[size, batches]`."""
        places, order = self._places(rng), rng.permutation(len(self.counts))
        rank = np.argsort(order)
        shuffled = np.lexsort((rng.random(len(self.entities)), rank[self.entities]))
        counts, places = self.counts[order], places[order]
        within = np.arange(places.sum()) - np.repeat(np.cumsum(places) - places, places)
        first = np.repeat(np.cumsum(counts) - counts, places)
        return shuffled[first + within % np.repeat(counts, places)].reshape(self.size, self.batches)

    def _places(self, rng: np.random.Generator) -> np.ndarray:
        """The number of each entity's places: its questions equally often, but at most one in each batch."""
        total, times = self.batches * self.size, 1
        places = self.counts
        while (more := np.minimum(self.batches, (times + 1) * self.counts)).sum() <= total and (more > places).any():
            places, times = more, times + 1
        extra = np.repeat(np.arange(len(self.counts)), more - places)
        drawn = rng.choice(extra, total - places.sum(), replace=False)
        return places + np.bincount(drawn, minlength=len(self.counts))
