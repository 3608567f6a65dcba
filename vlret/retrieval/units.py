"""Searchable units: vectors on disk, and the passages each represents."""

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from datasets import load_from_disk
from torch import Tensor

from vlret.data.tables import article_of
from vlret.files import InputError, read_json
from vlret.jit import njit
from vlret.runs import Ranking, sort_ranking

CHUNK = 4096  # vectors read at a time: 12 MB at 768 dimensions, which fits a core's share of the cache


class Units:
    """The vectors of `passages.npy` and the passages that each represents.

    Attributes
    ----------
    vectors
        `[units, dim]`, memory-mapped.
    first
        `[units + 1]`: the passages of unit `u` are the rows `first[u]` to `first[u + 1]` (exclusive).
    path
        The vectors' file, for messages.
    """

    def __init__(self, vectors: np.ndarray, first: np.ndarray, path: Path):
        self.vectors, self.first, self.path = vectors, first, path

    @classmethod
    def read(cls, embeddings: Path, passages: Path) -> "Units":
        """Read the vectors in the folder `embeddings` and the passages they represent (`embeddings.json`)."""
        path = Path(embeddings) / "passages.npy"
        vectors, table = read_vectors(path), load_from_disk(str(passages))
        unit = read_json(Path(embeddings) / "embeddings.json").get("unit")
        if unit == "passage":
            first = np.arange(len(table) + 1)
        elif unit == "article":
            articles = article_of(passages)
            if (np.diff(articles) < 0).any():
                raise InputError(f"{passages}, column article: passages are not sorted by article")
            if len(articles) and articles[-1] >= len(vectors):
                raise InputError(f"{path}: {len(vectors)} articles, but passages refer to article {articles[-1]}")
            first = np.searchsorted(articles, np.arange(len(vectors) + 1))
        else:
            raise InputError(f"{embeddings}/embeddings.json, unit: {unit!r}, expected passage or article")
        if len(first) != len(vectors) + 1:
            raise InputError(f"{path}: {len(vectors)} vectors, but {len(table)} passages in {passages}; embed again")
        return cls(vectors, first, path)

    def counts(self, units: np.ndarray) -> np.ndarray:
        """The number of passages of each of `units`."""
        return self.first[units + 1] - self.first[units]

    def scores(self, question: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Inner products of `question` `[dim]` with some units, summed in float64, as float32: `[units]`.

        Equal vectors have equal scores, regardless of their rows and of how units were selected.
        """
        rows = torch.from_numpy(self.vectors[units])
        return _inner(question.astype(np.float64), (rows.float() if rows.dtype == torch.float16 else rows).numpy())

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


def read_vectors(path: Path) -> np.ndarray:
    """Memory-map a `.npy` file of `[units, dim]` floats; `InputError` if it is something else."""
    try:
        vectors = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an array ({error}); embed again") from error
    if vectors.ndim != 2 or vectors.dtype not in (np.float16, np.float32, np.float64):
        raise InputError(f"{path}: {vectors.dtype} {vectors.shape}, expected floats [units, dim]; embed again")
    return vectors


def chunk_count(vectors: np.ndarray) -> int:
    """The number of `chunks`."""
    return -(-len(vectors) // CHUNK)


def chunks(vectors: np.ndarray, path: Path) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Iterate over vectors, `CHUNK` at a time: the first row, `[rows, dim]` float32, and their lengths `[rows]`.

    A row of only NaN stands for no vector and has length NaN; any other row that is not finite is an `InputError`.
    """
    for start in range(0, len(vectors), CHUNK):
        chunk = torch.from_numpy(_read(vectors, start)).float()
        lengths = torch.linalg.vector_norm(chunk, dim=1)
        invalid = (~lengths.isfinite()).nonzero().flatten()
        broken = invalid[~chunk[invalid].isnan().all(dim=1)]
        if len(broken):
            raise InputError(f"{path}, row {start + broken[0]}: neither finite nor all NaN; embed again")
        yield start, chunk, lengths


def _read(vectors: np.ndarray, start: int) -> np.ndarray:
    """Read `CHUNK` rows, from the file if memory-mapped, whose pages would stay in memory for long."""
    if not isinstance(vectors.base, mmap.mmap) or not vectors.flags.c_contiguous:
        return np.array(vectors[start : start + CHUNK])
    count, dim = min(CHUNK, len(vectors) - start), vectors.shape[1]
    offset = vectors.offset + start * dim * vectors.itemsize
    return np.fromfile(vectors.filename, vectors.dtype, count * dim, offset=offset).reshape(count, dim)


def has_vector(vectors: np.ndarray, path: Path) -> np.ndarray:
    """Which rows are vectors, `[units]` bool; the others must be all NaN, else `InputError`."""
    finite = [lengths.isfinite().numpy() for _, _, lengths in chunks(vectors, path)]
    return np.concatenate([np.empty(0, dtype=bool), *finite])
