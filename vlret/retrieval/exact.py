"""Exact search: the best of all inner products, in bounded memory.

Vectors are read once, in chunks, and multiplied with all questions. A question's shortlist collects units within
rounding error of its k-th best so far, and is finally rescored in float64. Products dominate the time, so CPUs with
bfloat16 instructions multiply rounded vectors: the larger error makes shortlists longer but does not change the result.
A compiled loop checks 64 products at once, of which few qualify.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vlret.console import progress, say
from vlret.encoders.precision import multiplies_bfloat16
from vlret.jit import njit
from vlret.retrieval.units import Units, chunk_count, chunks
from vlret.runs import Ranking
from vlret.snapshot import Snapshot

QUESTIONS = 1024  # questions at a time: their products with a chunk take 16 MB
BLOCK = 64  # products checked at a time
HALVINGS = 12  # bisection steps, which find a shortlist's k-th best to 1 / 4096 of its range

# Products are summed in float32, in the library's order: scores this close, relative to the vectors' lengths, may be
# equal or swapped.
TOLERANCE = 1e-5
BFLOAT16 = 2.0**-8  # the maximum relative error of rounding to bfloat16
STATE = ("scores", "rows", "counts", "bounds", "longest", "rounded")
TRUNCATED = 0.1  # share of truncated shortlists per chunk above which rounding costs more than it saves


def search(units: Units, questions: np.ndarray, k: int, snapshot: Snapshot | None = None) -> list[Ranking]:
    """The exact `k` best passages for each of `questions` `[questions, dim]`, including ties at the cut.

    Units without a vector or a passage are skipped. Products are computed on a GPU if there is one. Shortlists are
    saved in `snapshot` now and then, and taken from there.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tensor = torch.from_numpy(np.ascontiguousarray(questions, dtype=np.float32))
    rounded = device.type == "cpu" and multiplies_bfloat16()
    shortlists = [
        Shortlist(units, part, k, rounded, device) for part in (tensor.split(QUESTIONS) if len(tensor) else ())
    ]
    first = _resume(shortlists, snapshot)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        left = chunks(units.vectors, first), chunk_count(units.vectors, first)
        parts = progress(*left, " chunks", "exact search")
        for start, chunk, lengths in parts:
            passages = units.first[start : start + len(chunk) + 1]
            chunk[torch.from_numpy(passages[1:] == passages[:-1])] = torch.nan
            longest, chunk = float(lengths.nan_to_num(0).max()), chunk.to(device)
            coarse = chunk.bfloat16() if any(shortlist.rounded for shortlist in shortlists) else None
            for shortlist in shortlists:
                shortlist.add(start, coarse if shortlist.rounded else chunk, longest, pool)
            if snapshot:
                snapshot.save(partial(_write, shortlists, start + len(chunk)))
    return [ranking for shortlist in shortlists for ranking in shortlist.rankings()]


def _write(shortlists: Sequence["Shortlist"], first: int, path: Path) -> None:
    """Save shortlists of all units before row `first`."""
    arrays = {f"{name}{number}": value for number, one in enumerate(shortlists) for name, value in one.state().items()}
    with open(path, "wb") as stream:
        np.savez(stream, first=first, **arrays)


def _resume(shortlists: Sequence["Shortlist"], snapshot: Snapshot | None) -> int:
    """Restore what `_write` saved, if anything; returns the row to go on with."""
    path = snapshot.last() if snapshot else None
    if path is None:
        return 0
    with np.load(path) as stored:
        for number, shortlist in enumerate(shortlists):
            shortlist.restore({name: stored[f"{name}{number}"] for name in STATE})
        say(f"exact search: resuming with row {stored['first']}")
        return int(stored["first"])


class Shortlist:
    """The best units so far for some questions, and all that may be as good as the k-th.

    `rounded`: whether it takes vectors rounded to bfloat16.
    """

    def __init__(self, units: Units, questions: Tensor, k: int, rounded: bool, device: torch.device):
        self.units, self.questions, self.k, self.rounded = units, questions.numpy(), k, rounded
        coarse = questions.bfloat16()
        self.tensor = coarse if rounded else questions.to(device)
        self.lengths = np.linalg.norm(self.questions, axis=1)
        self.residuals = np.linalg.norm((questions - coarse.float()).numpy(), axis=1)
        self.longest = 0.0
        shape = (len(questions), 6 * k + 4 * BLOCK)
        self.scores, self.rows = np.empty(shape, np.float32), np.empty(shape, np.int64)
        self.counts = np.zeros(len(questions), np.int64)
        self.bounds = np.full(len(questions), -np.inf, np.float32)
        self.edges = np.linspace(0, len(questions), torch.get_num_threads() + 1).astype(int)

    def add(self, start: int, vectors: Tensor, longest: float, pool: ThreadPoolExecutor) -> None:
        """Add the units from row `start`, whose `vectors` `[units, dim]` have lengths up to `longest`.

        Units dropped earlier stay dropped: they were worse than k others by more than the rounding error at that time.
        """
        slack, self.longest = self._slack(), max(self.longest, longest)
        self.bounds -= self._slack() - slack
        products = F.linear(self.tensor, vectors).float().cpu().numpy()
        places = np.zeros(len(products), np.int64)
        arrays = (products, places, self._slack(), self.scores, self.rows, self.counts, self.bounds)
        parts = [tuple(array[first:last] for array in arrays) for first, last in pairwise(self.edges)]
        truncated = 0
        while (places < products.shape[1]).any():
            list(pool.map(lambda part: _scan(start, self.k, self._share(), *part), parts))
            full = np.flatnonzero(places < products.shape[1])
            truncated += len(full)
            for question in full:
                self._truncate(question)
        if self.rounded and truncated > TRUNCATED * len(products):
            self._stop_rounding()

    def state(self) -> dict[str, np.ndarray | float | bool]:
        """Everything that further units depend on."""
        return {name: getattr(self, name) for name in STATE}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        for name in ("scores", "rows", "counts", "bounds"):
            getattr(self, name)[:] = state[name]
        self.longest = float(state["longest"])
        if self.rounded and not state["rounded"]:
            self.tensor, self.rounded = torch.from_numpy(self.questions), False

    def _slack(self) -> np.ndarray:
        """The maximum difference of products whose scores may be swapped, `[questions]`, up to `_share` of them.

        With roundings q' of a question q and p' of a passage p, |q'p' - qp| <= |q' - q| |p'| + |q| |p' - p|.
        """
        error = TOLERANCE * self.lengths
        if self.rounded:
            error = error + 2.1 * (self.residuals + BFLOAT16 * self.lengths)
        return (self.longest * error).astype(np.float32)

    def _share(self) -> float:
        """The same relative to the products, which are rounded too."""
        return 2.1 * BFLOAT16 if self.rounded else 0.0

    def _stop_rounding(self) -> None:
        """Continue in float32: most scores are within the rounding error."""
        for question in np.flatnonzero(self.counts > self.k):
            self._truncate(question)
        for question, count in enumerate(self.counts):
            self.scores[question, :count] = self.units.scores(self.questions[question], self.rows[question, :count])
        self.tensor, self.rounded = torch.from_numpy(self.questions), False

    def _truncate(self, question: int) -> None:
        """Cut a shortlist full of near-ties to the first k of the exact ranking."""
        count = self.counts[question]
        rows = self.rows[question, :count].copy()
        scores = self.units.scores(self.questions[question], rows)
        best = np.lexsort((rows, -scores))[: self.k]
        self.rows[question, : self.k] = rows[best]
        self.scores[question, : self.k] = scores[best]
        self.counts[question] = self.k

    def rankings(self) -> Iterator[Ranking]:
        """The `k` best passages of each question, in order."""
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
    """Move qualifying `products` from `places` on to the shortlists; advances `places`.

    A shortlist without room for a block is cut to what is within `slack` plus `share` of its k-th best; it stops if
    that frees too little.
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
    """Whether any of `BLOCK` products reaches `bound`; counting compiles to a few instructions."""
    good = np.int32(0)
    for column in range(BLOCK):
        good += np.int32(block[column] >= bound)
    return good > 0


@njit(cache=True, nogil=True)
def _kth(scores: np.ndarray, k: int) -> float:
    """The `k`-th best score or slightly less, by bisection, which is faster than numba's partition."""
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
    """Keep those of the first `count` that reach `bound`, in order; returns their number."""
    kept = 0
    for place in range(count):
        if scores[place] >= bound:
            scores[kept], rows[kept] = scores[place], rows[place]
            kept += 1
    return kept
