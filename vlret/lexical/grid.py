"""Exact search with every b and k1 of a grid at once.

tf / (tf + norm) decreases with the norm, so a passage's score with the minimum norms of a block of points bounds its
scores at all of them; a passage below every point's k-th score is pruned. Blocks are halved down to single points,
where the remaining passages are scored as in a search, with bit-identical results. Passages are grouped by their term
of highest weight, so that a block skips groups whose terms cannot reach its threshold together (as in Turtle and Flood,
"Query evaluation: strategies and optimizations", 1995).
"""

from collections.abc import Iterator

import numpy as np

from vlret.lexical.index import Index
from vlret.lexical.prune import collect, descend, enlist, find, highest_impacts, raise_thresholds, smallest_codes
from vlret.lexical.score import add, take_best
from vlret.lexical.search import impacts, norms, weights
from vlret.runs import Ranking, sort_ranking

SMALL = 1e-300  # adding it to a frequency changes no bit
WIDEST = 1.8  # maximum ratio of impacts of one occurrence within the largest blocks
FAN = 8  # the ratio of block sizes between levels
SLACK = 1 + 1e-9  # exceeds the rounding differences of summation orders
GOOD = 2  # times k passages initialise the thresholds
COMMON = 0.2  # terms in a larger share of passages are skipped when finding these


class Grid:
    """Searches an index for the best `k` passages at each point `(b, k1)` of a grid.

    Attributes
    ----------
    places
        `[points]`, the index of each point among the distinct ones: with k1 = 0, all b are equivalent.
    """

    def __init__(self, index: Index, points: list[tuple[float, float]], k: int):
        self.index, self.k = index, k
        stacked = np.maximum([norms(index, b, k1) for b, k1 in points], SMALL)
        distinct, places = np.unique(stacked, axis=0, return_inverse=True)
        nodes = list(_blocks(np.log1p(distinct[:, _typical_codes(index)]), np.arange(len(distinct))))
        order = np.concatenate([members for _, members in nodes if len(members) == 1])
        self.norms = np.ascontiguousarray(distinct[order])
        self.places = np.argsort(order)[places.ravel()]
        self.floors = np.array([distinct[members].min(axis=0) for _, members in nodes])
        firsts = [np.argsort(order)[members].min() for _, members in nodes]
        self.tree = np.array(
            [(level, first, first + len(members)) for (level, members), first in zip(nodes, firsts, strict=True)]
        )
        self.roots = np.flatnonzero(self.tree[:, 0] == 1)
        self.smallest: dict[int, np.ndarray] = {}
        self.scores = np.zeros(len(index.codes))
        self.slots = np.zeros(len(index.codes), np.int32)
        self.middle = impacts(norms(index, *points[len(points) // 2]))

    def rank(self, text: str) -> list[Ranking]:
        """The result of `Searcher.rank` for a text at each point."""
        rows, scores, sizes = self.best(text)
        return [
            sort_ranking(rows[place, : sizes[place]], scores[place, : sizes[place]]) for place in self.places.tolist()
        ]

    def best(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The best passages for a text at every distinct point: rows and scores `[distinct points, k]`, unsorted.

        The third array, `[distinct points]`, is the number of filled places of each point.
        """
        k, index = self.k, self.index
        rows, scores = np.empty((len(self.norms), k), np.int64), np.empty((len(self.norms), k))
        terms = weights(index, text)
        if not terms:
            return rows, scores, np.zeros(len(rows), np.int64)
        postings = [index.postings(term) for term, _ in terms]
        weight = np.array([weight for _, weight in terms])
        thresholds = np.zeros(len(self.norms))
        raise_thresholds(*self._look_up(postings, self._good(postings, weight)), self.norms, weight, k, thresholds)
        smallest = np.array([self._smallest_codes(term) for term, _ in terms])
        order, prefixes = self._prefixes(weight, smallest, thresholds)
        frequencies, candidates, ends = self._collect(postings, order[: prefixes.max()])
        sizes = descend(
            frequencies, index.codes[candidates], candidates, order, ends, prefixes, self.tree, self.floors, self.norms,
            weight, thresholds, rows, scores,
        )  # fmt: skip
        return rows, scores, sizes

    def _good(self, postings: list, weight: np.ndarray) -> np.ndarray:
        """Ascending rows of passages that score well in the middle of the grid, ignoring the commonest terms."""
        wanted, added = GOOD * self.k, 0
        sizes = np.array([len(passages) for passages, _ in postings])
        for term in np.argsort(sizes, kind="stable"):
            if added >= wanted and sizes[term] > COMMON * len(self.scores):
                break
            add(self.scores, *postings[term], self.index.codes, self.middle, weight[term])
            added += sizes[term]
        return np.sort(take_best(self.scores, wanted)[0])

    def _look_up(self, postings: list, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frequencies `[terms, rows]` and length codes `[rows]` of some passages, ascending."""
        frequencies = np.zeros((len(postings), len(rows)), np.uint8)
        for term, (passages, held) in enumerate(postings):
            find(passages, held, rows, frequencies[term])
        return frequencies, self.index.codes[rows]

    def _smallest_codes(self, term: int) -> np.ndarray:
        """`smallest_codes`, cached: the commonest terms, which take longest, occur in many questions."""
        if term not in self.smallest:
            beyond = len(self.index.distinct)
            self.smallest[term] = smallest_codes(*self.index.postings(term), self.index.codes, beyond).astype(np.int32)
        return self.smallest[term]

    def _prefixes(
        self, weight: np.ndarray, smallest: np.ndarray, thresholds: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The terms by descending weight, and how many each root needs: the rest together miss its threshold."""
        highest = weight * highest_impacts(self.floors[self.roots], smallest)
        order = np.argsort(-weight, kind="stable")
        remaining = np.cumsum(highest[:, order[::-1]], axis=1)[:, ::-1] * SLACK
        lowest = np.minimum.reduceat(thresholds, self.tree[self.roots, 1])
        return order, np.count_nonzero(remaining >= lowest[:, None], axis=1)

    def _collect(self, postings: list, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The passages that contain some terms, grouped by the first of them in `order`.

        Returns frequencies `[all terms, passages + 1]`, rows `[passages]`, and group ends `[len(order) + 1]`.
        """
        rows = np.empty(min(sum(len(postings[term][0]) for term in order), len(self.slots)), np.int32)
        ends = np.zeros(len(order) + 1, np.int64)
        for number, term in enumerate(order):
            ends[number + 1] = enlist(postings[term][0], self.slots, rows, ends[number])
        rows = rows[: ends[-1]]
        frequencies = np.zeros((len(postings), len(rows) + 1), np.uint8)
        for term, (passages, held) in enumerate(postings):
            collect(passages, held, self.slots, frequencies[term])
        self.slots[rows] = 0
        return frequencies, rows, ends


def _typical_codes(index: Index) -> np.ndarray:
    """The codes of a short and a long length: the norms of two lengths determine all others."""
    shares = np.cumsum(np.bincount(index.codes)) / len(index.codes)
    return np.searchsorted(shares, [0.1, 0.9])


def _blocks(spread: np.ndarray, members: np.ndarray, parent: tuple[int, int] = (0, 0)) -> Iterator[tuple]:
    """Halve a block of points recursively down to single ones; yield `(level, members)` of some, parents first.

    `spread [points, 2]` is log(1 + norm) at two lengths. Level 1 are the largest blocks in which it varies little; each
    next level has blocks `FAN` times smaller, or single points. `parent` is the level and size of the block above.
    """
    widths, (level, size) = np.ptp(spread[members], axis=0), parent
    narrow = len(members) * FAN <= size if level else widths.max() <= np.log(WIDEST)
    if narrow or len(members) == 1:
        parent = (level + 1, len(members))
        yield level + 1, members
    if len(members) > 1:
        for half in np.array_split(members[np.argsort(spread[members, widths.argmax()], kind="stable")], 2):
            yield from _blocks(spread, half, parent)
