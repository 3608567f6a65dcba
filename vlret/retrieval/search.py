"""From questions' vectors to a run: exact inner products, ties by passage row, exactly `k` passages."""

from pathlib import Path

import faiss
import numpy as np
from datasets import load_from_disk

from vlret.console import progress
from vlret.data.tables import all_questions
from vlret.files import InputError, read_json
from vlret.retrieval.index import CHUNK, has_vector, read_vectors
from vlret.runs import Ranking, sort_ranking, write_run

BATCH = 256

# FAISS adds up in float32, in an order of its own: scores this close, relative to the vectors' lengths, may be equal.
TOLERANCE = 1e-5


class Units:
    """What the rows of an index stand for, and the passages of each.

    Attributes
    ----------
    vectors
        `[units, dim]`, memory-mapped.
    first
        `[units + 1]`: the passages of unit `u` are the rows `first[u]` to `first[u + 1]`, excluded.
    lengths
        `[units]`, the vectors' Euclidean lengths.
    """

    def __init__(self, vectors: np.ndarray, first: np.ndarray):
        self.vectors, self.first = vectors, first
        chunks = range(0, len(vectors), CHUNK)
        self.lengths = np.concatenate([np.linalg.norm(vectors[start : start + CHUNK], axis=1) for start in chunks])

    @classmethod
    def read(cls, embeddings: Path, passages: Path) -> "Units":
        """Read the vectors in the folder `embeddings` and which passages they stand for (`embeddings.json`)."""
        path = Path(embeddings) / "passages.npy"
        vectors, table = read_vectors(path), load_from_disk(str(passages))
        unit = read_json(Path(embeddings) / "embeddings.json").get("unit")
        if unit == "passage":
            first = np.arange(len(table) + 1)
        elif unit == "article":
            articles = np.asarray(table["article"], dtype=np.int64)
            if (np.diff(articles) < 0).any():
                raise InputError(f"{passages}, column article: passages are not in order of their articles")
            if len(articles) and articles[-1] >= len(vectors):
                raise InputError(f"{path}: {len(vectors)} articles, but passages have article {articles[-1]}")
            first = np.searchsorted(articles, np.arange(len(vectors) + 1))
        else:
            raise InputError(f"{embeddings}/embeddings.json, unit: {unit!r}, expected passage or article")
        if len(first) != len(vectors) + 1:
            raise InputError(f"{path}: {len(vectors)} vectors, but {len(table)} passages in {passages}; embed again")
        return cls(vectors, first)

    def counts(self, units: np.ndarray) -> np.ndarray:
        """How many passages each of `units` has."""
        return self.first[units + 1] - self.first[units]

    def rank(self, question: np.ndarray, candidates: np.ndarray, k: int) -> Ranking:
        """The `k` best passages of some units, which share their unit's score: its inner product with `question`."""
        products = np.einsum("d,ud->u", question.astype(np.float64), self.vectors[candidates].astype(np.float64))
        counts = self.counts(candidates)
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.repeat(self.first[candidates], counts) + inside
        # Rounded, equal vectors have equal scores wherever they lie in memory.
        return sort_ranking(rows, np.repeat(products.astype(np.float32), counts), k)


def search(
    index: Path,
    embeddings: Path,
    questions_embeddings: Path,
    questions: Path,
    passages: Path,
    k: int,
    tag: str,
    out: Path,
) -> None:
    """Write the run of all questions, train, validation and test, with `k` passages each, or all there are.

    The index proposes units; their scores are the exact inner products with the vectors in the folder `embeddings`.
    Where the unit is the article, an article's passages follow in their order with its score (meerqat's
    `map_indices`, which gives up to one article more than `k`). A question whose vector is NaN finds nothing.

    Raises `InputError` where the index, the vectors and the tables do not fit together.
    """
    searched = _read_index(index)
    units = Units.read(embeddings, passages)
    vectors = read_vectors(questions_embeddings)
    present = has_vector(vectors, questions_embeddings)
    identifiers = all_questions(questions)["id"]
    if len(identifiers) != len(vectors):
        raise InputError(f"{questions_embeddings}: {len(vectors)} vectors, but {len(identifiers)} questions")
    if not searched.d == vectors.shape[1] == units.vectors.shape[1]:
        found = f"{searched.d}, {vectors.shape[1]} and {units.vectors.shape[1]} dimensions"
        raise InputError(f"{index}, {questions_embeddings} and {embeddings} have {found}; embed and index again")
    if searched.ntotal > len(units.vectors):
        raise InputError(f"{index}: {searched.ntotal} vectors, but {len(units.vectors)} in {embeddings}; index again")
    run = {identifier: Ranking(np.empty(0, np.int64), np.empty(0)) for identifier in identifiers}
    asked = np.flatnonzero(present)
    batches = np.split(asked, range(BATCH, len(asked), BATCH))
    for rows in progress(batches, len(batches), f" batches of {BATCH}", "search"):
        batch = np.ascontiguousarray(vectors[rows], dtype=np.float32)
        run.update(zip((identifiers[row] for row in rows), find(searched, units, batch, k), strict=True))
    write_run(out, run, tag)


def find(index: faiss.Index, units: Units, questions: np.ndarray, k: int) -> list[Ranking]:
    """The `k` best passages for each of `questions` `[questions, dim]`, exact also where scores are equal at the cut.

    The index is asked for more units until those beyond are clearly worse than the last one needed.
    """
    rankings: list[Ranking | None] = [None] * len(questions)
    open_questions, depth = np.arange(len(questions)), min(k + 16, index.ntotal)
    while len(open_questions):
        scores, found = index.search(questions[open_questions], depth)
        left = []
        for question, unit_scores, candidates in zip(open_questions, scores, found, strict=True):
            needed = _needed(units, questions[question], candidates, unit_scores, k)
            if needed.all() and depth < index.ntotal:
                left.append(question)
            else:
                rankings[question] = units.rank(questions[question], candidates[needed], k)
        open_questions, depth = np.array(left, dtype=np.int64), min(4 * depth, index.ntotal)
    return rankings


def _needed(units: Units, question: np.ndarray, candidates: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
    """Which candidates, best first, can be among the `k` best passages: `[candidates]` bool."""
    found = candidates >= 0
    passages = np.cumsum(units.counts(candidates[found]))
    last = np.searchsorted(passages, k)
    if last >= len(passages):
        return found
    slack = TOLERANCE * np.linalg.norm(question) * units.lengths[candidates[found]].max()
    return found & (scores >= scores[last] - slack)


def _read_index(path: Path) -> faiss.Index:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise InputError(f"{path}: not a FAISS index; index again") from error
