"""Searchable units: vectors on disk, and the passages each represents."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import load_from_disk
from torch import Tensor

from vlret.data.tables import article_of
from vlret.files import InputError, read_json
from vlret.jit import njit
from vlret.retrieval.vectors import DESCRIPTION, Vectors
from vlret.runs import Ranking, sort_ranking

CHUNK = 4096  # vectors read at a time: 12 MB at 768 dimensions, which fits a core's share of the cache


class Units:
    """The vectors of units, and the passages that each represents.

    Attributes
    ----------
    vectors
        Of all units.
    first
        `[units + 1]`: the passages of unit `u` are the rows `first[u]` to `first[u + 1]` (exclusive).
    """

    def __init__(self, vectors: Vectors, first: np.ndarray):
        self.vectors, self.first = vectors, first

    @classmethod
    def read(cls, shards: Sequence[Path], passages: Path) -> "Units":
        """Read the vectors in `shards` and the passages they represent (`embeddings.json`)."""
        vectors, table = Vectors.open(shards), load_from_disk(str(passages))
        unit = read_json(Path(shards[0]) / DESCRIPTION).get("unit")
        if unit == "passage":
            first = np.arange(len(table) + 1)
        elif unit == "article":
            articles = article_of(passages)
            if (np.diff(articles) < 0).any():
                raise InputError(f"{passages}, column article: passages are not sorted by article")
            if len(articles) and articles[-1] >= len(vectors):
                raise InputError(
                    f"{vectors.path}: {len(vectors)} articles, but passages refer to article {articles[-1]}"
                )
            first = np.searchsorted(articles, np.arange(len(vectors) + 1))
        else:
            raise InputError(f"{shards[0]}/{DESCRIPTION}, unit: {unit!r}, expected passage or article")
        if len(first) != len(vectors) + 1:
            raise InputError(
                f"{vectors.path}: {len(vectors)} vectors, but {len(table)} passages in {passages}; embed again"
            )
        return cls(vectors, first)

    def counts(self, units: np.ndarray) -> np.ndarray:
        """The number of passages of each of `units`."""
        return self.first[units + 1] - self.first[units]

    def scores(self, question: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Inner products of `question` `[dim]` with some units, summed in float64, as float32: `[units]`.

        Equal vectors have equal scores, regardless of their rows and of how units were selected.
        """
        return _inner(question.astype(np.float64), self.vectors.rows(units))

    def rank(self, question: np.ndarray, candidates: np.ndarray, k: int) -> Ranking:
        """The `k` best passages of some units, which share their unit's score."""
        counts = self.counts(candidates)
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.repeat(self.first[candidates], counts) + inside
        return sort_ranking(rows, np.repeat(self.scores(question, candidates), counts), k)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _inner(question: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Inner products summed in the same order for each row, which BLAS does not guarantee."""
    products = np.empty(len(vectors), np.float32)
    for row in range(len(vectors)):
        total = 0.0
        for place in range(len(question)):
            total += question[place] * vectors[row, place]
        products[row] = total
    return products


def chunk_count(vectors: Vectors, first: int = 0) -> int:
    """The number of `chunks`."""
    return -(-(len(vectors) - first) // CHUNK)


def chunks(vectors: Vectors, first: int = 0) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Iterate over vectors, `CHUNK` at a time: the first row, `[rows, dim]` float32, and their lengths `[rows]`.

    Begins with row `first`, a multiple of `CHUNK`.

    A row of only NaN stands for no vector and has length NaN; any other row that is not finite is an `InputError`.
    """
    for start in range(first, len(vectors), CHUNK):
        chunk = torch.from_numpy(vectors.between(start, start + CHUNK))
        lengths = torch.linalg.vector_norm(chunk, dim=1)
        invalid = (~lengths.isfinite()).nonzero().flatten()
        broken = invalid[~chunk[invalid].isnan().all(dim=1)]
        if len(broken):
            raise InputError(f"{vectors.path}, row {start + broken[0]}: neither finite nor all NaN; embed again")
        yield start, chunk, lengths


def has_vector(vectors: Vectors) -> np.ndarray:
    """Which rows are vectors, `[units]` bool; the others must be all NaN, else `InputError`."""
    finite = [lengths.isfinite().numpy() for _, _, lengths in chunks(vectors)]
    return np.concatenate([np.empty(0, dtype=bool), *finite])
