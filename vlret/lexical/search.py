"""BM25 as Lucene scores it (and so Elasticsearch, and ViQuAE), with exact passage lengths.

    score(q, p) = sum over the terms t of q of  idf(t) · tf / (tf + k1 · (1 - b + b · length(p) / average length))
    idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))

a term that stands twice in the question counting twice. Lucene left the constant factor k1 + 1 out in version 8
(variant "Lucene (accurate)" of Kamphuis et al., "Which BM25 do you mean?", ECIR 2020).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from datasets import load_from_disk

from vlret.console import progress
from vlret.files import InputError, read_json
from vlret.lexical.index import Index
from vlret.runs import Ranking, sort_ranking, write_run


class Postings(NamedTuple):
    """All that a question's scores depend on, gathered once and scored with any b and k1.

    `passages [candidates]`: rows that share a term with the question, ascending; `lengths [candidates]`: their
    length over the average length. A posting is one term in one passage, ordered by term: `places [postings]`
    points into `passages`; `frequencies [postings]`; `weights [postings]` is idf times the count in the question.
    """

    passages: np.ndarray
    lengths: np.ndarray
    places: np.ndarray
    frequencies: np.ndarray
    weights: np.ndarray


def gather(index: Index, text: str) -> Postings:
    """The postings of a question's text; all arrays are empty if the index knows none of its terms."""
    known = index.known(text)
    found = [index.postings(term) for term, _ in known]
    sizes = np.array([len(rows) for rows, _ in found], dtype=np.int64)
    counts = np.array([count for _, count in known], dtype=np.float64)
    idf = np.log(1 + (len(index.lengths) - sizes + 0.5) / (sizes + 0.5))
    rows = np.concatenate([np.empty(0, np.int32), *(rows for rows, _ in found)])
    frequencies = np.concatenate([np.empty(0, np.uint8), *(frequencies for _, frequencies in found)])
    passages, places = np.unique(rows, return_inverse=True)
    lengths = index.lengths[passages] / index.average_length
    return Postings(passages, lengths, places, frequencies.astype(np.float64), np.repeat(idf * counts, sizes))


def score(postings: Postings, b: float, k1: float) -> np.ndarray:
    """BM25 of every candidate: float64 `[candidates]`, terms always added in the same order."""
    norms = k1 * (1 - b + b * postings.lengths)
    impacts = postings.weights * (postings.frequencies / (postings.frequencies + norms[postings.places]))
    return np.bincount(postings.places, weights=impacts, minlength=len(postings.passages))


def rank(index: Index, text: str, b: float, k1: float, k: int) -> Ranking:
    """The `k` best passages for a text; fewer if fewer share a term with it."""
    postings = gather(index, text)
    return sort_ranking(postings.passages, score(postings, b, k1), k)


def search(index: Path, questions: Path, split: str, tuning: Path, k: int, tag: str, out: Path) -> None:
    """Search the questions of one split with the tuned b and k1, and write their run."""
    tuned = read_json(tuning)
    for field in ("b", "k1"):
        if not isinstance(tuned.get(field), int | float):
            raise InputError(f"{tuning}: {field} is not a number: run the tuning again")
    opened = Index(index)
    table = load_from_disk(str(questions))[split].select_columns(["id", "input"])
    rows = progress(table, len(table), "question", f"bm25 {split}")
    write_run(out, {row["id"]: rank(opened, row["input"], tuned["b"], tuned["k1"], k) for row in rows}, tag)
