"""Exact search: every inner product, and of these the best in bounded memory.

Vectors are read once, in chunks, and multiplied with all questions. A question's shortlist takes what comes within
rounding of its k-th best so far; who is on it at the end is scored again in float64. Products are most of the time:
where the CPU multiplies bfloat16 they are of rounded vectors, whose larger error makes the shortlists longer and the
result the same. A compiled loop looks at 64 at once whether any is good enough, and few are.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from vlret.console import progress
from vlret.encoders.linear import product
from vlret.jit import njit
from vlret.retrieval.units import Units, chunks, how_many
from vlret.runs import Ranking

QUESTIONS = 1024  # questions at a time: their products with a chunk are 16 MB
BLOCK = 64  # products looked at together
HALVINGS = 12  # to find the k-th best of a shortlist to 1 / 4096 of their range

# Products are summed in float32, in an order of the library's own: scores this close, relative to the vectors'
# lengths, may be equal, or in the other order.
TOLERANCE = 1e-5
BFLOAT16 = 2.0**-8  # the most that rounding to bfloat16 changes a number, relative to it
SETTLED = 0.1  # settled shortlists, as a share of the questions, after which rounding costs more than it spares


def search(units: Units, questions: np.ndarray, k: int) -> list[Ranking]:
    """The `k` best passages for each of `questions` `[questions, dim]`, exact also where scores are equal at the cut.

    Units that have no vector, or no passage, are passed over. Products are made on a GPU where there is one.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    asked = torch.from_numpy(np.ascontiguousarray(questions, dtype=np.float32))
    rounded = device.type == "cpu" and multiplies_bfloat16()
    shortlists = [Shortlist(units, part, k, rounded, device) for part in (asked.split(QUESTIONS) if len(asked) else ())]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        parts = progress(chunks(units.vectors, units.path), how_many(units.vectors), " chunks", "exact search")
        for start, chunk, lengths in parts:
            passages = units.first[start : start + len(chunk) + 1]
            chunk[torch.from_numpy(passages[1:] == passages[:-1])] = torch.nan
            longest, chunk = float(lengths.nan_to_num(0).max()), chunk.to(device)
            coarse = chunk.bfloat16() if any(shortlist.rounded for shortlist in shortlists) else None
            for shortlist in shortlists:
                shortlist.add(start, coarse if shortlist.rounded else chunk, longest, pool)
    return [ranking for shortlist in shortlists for ranking in shortlist.rankings()]


def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for products of bfloat16, without which they are slower than float32's.

    torch has no public name for this.
    """
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


class Shortlist:
    """The best units of some questions among those that came so far, and all that may be as good as the k-th.

    `rounded` is whether it takes vectors rounded to bfloat16.
    """

    def __init__(self, units: Units, questions: Tensor, k: int, rounded: bool, device: torch.device):
        self.units, self.questions, self.k, self.rounded = units, questions.numpy(), k, rounded
        coarse = questions.bfloat16()
        self.asked = coarse if rounded else questions.to(device)
        self.lengths = np.linalg.norm(self.questions, axis=1)
        self.residuals = np.linalg.norm((questions - coarse.float()).numpy(), axis=1)
        self.longest = 0.0
        shape = (len(questions), 6 * k + 4 * BLOCK)
        self.scores, self.rows = np.empty(shape, np.float32), np.empty(shape, np.int64)
        self.counts = np.zeros(len(questions), np.int64)
        self.bounds = np.full(len(questions), -np.inf, np.float32)
        self.edges = np.linspace(0, len(questions), torch.get_num_threads() + 1).astype(int)

    def add(self, start: int, vectors: Tensor, longest: float, pool: ThreadPoolExecutor) -> None:
        """Take the units from row `start` on, whose `vectors` `[units, dim]` are no longer than `longest`.

        What was dropped before stays dropped by right: it was worse than k by more than rounding of shorter vectors.
        """
        slack, self.longest = self._slack(), max(self.longest, longest)
        self.bounds -= self._slack() - slack
        products = product(self.asked, vectors).float().cpu().numpy()
        places = np.zeros(len(products), np.int64)
        arrays = (products, places, self._slack(), self.scores, self.rows, self.counts, self.bounds)
        parts = [tuple(array[first:last] for array in arrays) for first, last in pairwise(self.edges)]
        settled = 0
        while (places < products.shape[1]).any():
            list(pool.map(lambda part: _scan(start, self.k, self._share(), *part), parts))
            full = np.flatnonzero(places < products.shape[1])
            settled += len(full)
            for question in full:
                self._settle(question)
        if self.rounded and settled > SETTLED * len(products):
            self._take_whole_vectors()

    def _slack(self) -> np.ndarray:
        """How far two products may be from the order of their scores, `[questions]`, but for `_share` of them.

        With roundings q' of a question q and p' of a passage p, |q'p' - qp| <= |q' - q| |p'| + |q| |p' - p|.
        """
        error = TOLERANCE * self.lengths
        if self.rounded:
            error = error + 2.1 * (self.residuals + BFLOAT16 * self.lengths)
        return (self.longest * error).astype(np.float32)

    def _share(self) -> float:
        """The same, relative to the products themselves, which are rounded too."""
        return 2.1 * BFLOAT16 if self.rounded else 0.0

    def _take_whole_vectors(self) -> None:
        """Go on without rounding: scores are so close that most of them come within it."""
        for question in np.flatnonzero(self.counts > self.k):
            self._settle(question)
        for question, count in enumerate(self.counts):
            self.scores[question, :count] = self.units.scores(self.questions[question], self.rows[question, :count])
        self.asked, self.rounded = torch.from_numpy(self.questions), False

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
                last = np.partition(scores, -self.k)[-self.k]
                rows = rows[scores >= last - (slack + self._share() * abs(last))]
            yield self.units.rank(self.questions[place], rows, self.k)


@njit(cache=True, nogil=True)
def _scan(
    start: int,
    k: int,
    share: float,
    products: np.ndarray,
    places: np.ndarray,
    slack: np.ndarray,
    scores: np.ndarray,
    rows: np.ndarray,
    counts: np.ndarray,
    bounds: np.ndarray,
) -> None:
    """Move what is good enough from `products` to the shortlists, from `places` on; they tell how far it came.

    A shortlist without room for a block is cut to what is within `slack`, and `share` of it, of its k-th best; it stops
    where all is.
    """
    capacity, width = scores.shape[1], products.shape[1]
    for question in range(len(products)):
        place, count, bound = places[question], counts[question], bounds[question]
        own_products, own_scores, own_rows = products[question], scores[question], rows[question]
        while place < width:
            block = own_products[place : place + BLOCK]
            if len(block) == BLOCK and not _any(block, bound):
                place += BLOCK
                continue
            if count + BLOCK > capacity:
                last = _kth(own_scores[:count], k)
                bound = np.float32(last - (slack[question] + share * abs(last)))
                count = _cut(own_scores, own_rows, count, bound)
                if count + BLOCK > capacity:
                    break
            for column in range(len(block)):
                own_scores[count], own_rows[count] = block[column], start + place + column
                count += block[column] >= bound
            place += len(block)
        places[question], counts[question], bounds[question] = place, count, bound


@njit(cache=True, nogil=True)
def _any(block: np.ndarray, bound: float) -> bool:
    """Whether any of `BLOCK` products reaches `bound`, counted in a loop that compiles to a few instructions."""
    good = np.int32(0)
    for column in range(BLOCK):
        good += np.int32(block[column] >= bound)
    return good > 0


@njit(cache=True, nogil=True)
def _kth(scores: np.ndarray, k: int) -> float:
    """The `k`-th best score, or a little less: found by halving, faster than numba's partition."""
    low, high = scores.min(), scores.max()
    for _ in range(HALVINGS):
        middle = np.float32(0.5) * (low + high)
        better = np.int32(0)
        for place in range(len(scores)):
            better += np.int32(scores[place] >= middle)
        if better >= k:
            low = middle
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def _cut(scores: np.ndarray, rows: np.ndarray, count: int, bound: float) -> int:
    """Keep those of the first `count` that reach `bound`, in their order; how many they are."""
    kept = 0
    for place in range(count):
        if scores[place] >= bound:
            scores[kept], rows[kept] = scores[place], rows[place]
            kept += 1
    return kept
