"""Exact search: every inner product, and of these the best in bounded memory.

Vectors are read once, in chunks, and multiplied with all questions. A question's shortlist takes what comes within
rounding of its k-th best so far; who is on it at the end is scored again in float64. Products are most of the time:
a compiled loop looks at 64 at once whether any is good enough, and few are.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from numba import njit

from vlret.console import progress
from vlret.encoders.linear import product
from vlret.retrieval.units import Units, chunks, how_many
from vlret.runs import Ranking

QUESTIONS = 1024  # questions at a time: their products with a chunk are 16 MB
BLOCK = 64  # products looked at together

# Products are summed in float32, in an order of the library's own: scores this close, relative to the vectors'
# lengths, may be equal, or in the other order.
TOLERANCE = 1e-5


def search(units: Units, questions: np.ndarray, k: int) -> list[Ranking]:
    """The `k` best passages for each of `questions` `[questions, dim]`, exact also where scores are equal at the cut.

    Units that have no vector, or no passage, are passed over. Products are made on a GPU where there is one.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    asked = torch.from_numpy(np.ascontiguousarray(questions, dtype=np.float32)).to(device)
    spans = [slice(start, start + QUESTIONS) for start in range(0, len(asked), QUESTIONS)]
    shortlists = [Shortlist(units, asked[span].cpu().numpy(), k) for span in spans]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        parts = progress(chunks(units.vectors, units.path), how_many(units.vectors), " chunks", "exact search")
        for start, chunk, lengths in parts:
            passages = units.first[start : start + len(chunk) + 1]
            chunk[torch.from_numpy(passages[1:] == passages[:-1])] = torch.nan
            longest = float(lengths.nan_to_num(0).max())
            chunk = chunk.to(device)
            for span, shortlist in zip(spans, shortlists, strict=True):
                shortlist.add(start, product(asked[span], chunk).cpu().numpy(), longest, pool)
    return [ranking for shortlist in shortlists for ranking in shortlist.rankings()]


class Shortlist:
    """The best units of each question among those that came so far, and all that may be as good as the k-th."""

    def __init__(self, units: Units, questions: np.ndarray, k: int):
        self.units, self.questions, self.k = units, questions, k
        self.lengths = np.linalg.norm(questions, axis=1)
        self.longest = 0.0
        shape = (len(questions), 2 * k + 4 * BLOCK)
        self.scores, self.rows = np.empty(shape, np.float32), np.empty(shape, np.int64)
        self.counts = np.zeros(len(questions), np.int64)
        self.bounds = np.full(len(questions), -np.inf, np.float32)
        self.edges = np.linspace(0, len(questions), torch.get_num_threads() + 1).astype(int)

    def add(self, start: int, products: np.ndarray, longest: float, pool: ThreadPoolExecutor) -> None:
        """Take the products `[questions, units]` of the units from row `start` on, of which the longest is `longest`.

        What was dropped before stays dropped by right: it was worse than k by more than rounding of shorter vectors.
        """
        self.longest = max(self.longest, longest)
        places = np.zeros(len(products), np.int64)
        arrays = (products, places, self._slack(), self.scores, self.rows, self.counts, self.bounds)
        parts = [tuple(array[first:last] for array in arrays) for first, last in pairwise(self.edges)]
        while (places < products.shape[1]).any():
            list(pool.map(lambda part: _scan(start, self.k, *part), parts))
            for question in np.flatnonzero(places < products.shape[1]):
                self._settle(question)

    def _slack(self) -> np.ndarray:
        return (TOLERANCE * self.longest * self.lengths).astype(np.float32)

    def _settle(self, question: int) -> None:
        """Cut a shortlist that is full of equals to the k that come first in the ranking."""
        count = self.counts[question]
        rows = self.rows[question, :count].copy()
        scores = self.units.scores(self.questions[question], rows)
        best = np.lexsort((rows, -scores))[: self.k]
        self.rows[question, : self.k] = rows[best]
        self.scores[question, : self.k] = scores[best]
        self.counts[question] = self.k

    def rankings(self) -> Iterator[Ranking]:
        """The `k` best passages of each question, in the questions' order."""
        for place, slack in enumerate(self._slack()):
            scores, rows = self.scores[place, : self.counts[place]], self.rows[place, : self.counts[place]]
            if len(rows) > self.k:
                rows = rows[scores >= np.partition(scores, -self.k)[-self.k] - slack]
            yield self.units.rank(self.questions[place], rows, self.k)


@njit(cache=True, nogil=True)
def _scan(
    start: int,
    k: int,
    products: np.ndarray,
    places: np.ndarray,
    slack: np.ndarray,
    scores: np.ndarray,
    rows: np.ndarray,
    counts: np.ndarray,
    bounds: np.ndarray,
) -> None:
    """Move what is good enough from `products` to the shortlists, from `places` on; they tell how far it came.

    A shortlist without room for a block is cut to what is within `slack` of its k-th best; it stops where all is.
    """
    capacity, width = scores.shape[1], products.shape[1]
    for question in range(len(products)):
        place, count, bound = places[question], counts[question], bounds[question]
        while place < width:
            end = min(place + BLOCK, width)
            good = 0
            for column in range(place, end):
                good += products[question, column] >= bound
            if good and count + BLOCK > capacity:
                bound = np.partition(scores[question, :count], count - k)[count - k] - slack[question]
                count = _cut(scores[question], rows[question], count, bound)
                if count + BLOCK > capacity:
                    break
            if good:
                for column in range(place, end):
                    if products[question, column] >= bound:
                        scores[question, count] = products[question, column]
                        rows[question, count] = start + column
                        count += 1
            place = end
        places[question], counts[question], bounds[question] = place, count, bound


@njit(cache=True, nogil=True)
def _cut(scores: np.ndarray, rows: np.ndarray, count: int, bound: float) -> int:
    """Keep those of the first `count` that reach `bound`, in their order; how many they are."""
    kept = 0
    for place in range(count):
        if scores[place] >= bound:
            scores[kept], rows[kept] = scores[place], rows[place]
            kept += 1
    return kept
