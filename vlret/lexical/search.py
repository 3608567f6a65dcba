"""BM25 as in Lucene (hence Elasticsearch and ViQuAE), with exact passage lengths.

    score(q, p) = sum over the terms t of q of  idf(t) · tf / (tf + k1 · (1 - b + b · length(p) / average length))
    idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))

A term that occurs twice in the question counts twice. Lucene dropped the constant factor k1 + 1 in version 8
(variant "Lucene (accurate)" of Kamphuis et al., "Which BM25 do you mean?", ECIR 2020).
"""

from pathlib import Path
from typing import Literal

import numpy as np
from datasets import load_from_disk

from vlret.console import progress
from vlret.files import InputError, read_json
from vlret.lexical.index import Index
from vlret.lexical.score import add, take_best
from vlret.runs import Ranking, write_run
from vlret.settings import BM25
from vlret.typed import typed


class Searcher:
    """Searches an index with fixed b and k1."""

    def __init__(self, index: Index, b: float, k1: float):
        self.index = index
        self.impacts = impacts(norms(index, b, k1))
        self.scores = np.zeros(len(index.codes))

    def rank(self, text: str, k: int) -> Ranking:
        """The `k` best passages for a text, ties by row; fewer if fewer share a term with it.

        Scores are summed in float64, in the order of term numbers.
        """
        for term, weight in weights(self.index, text):
            add(self.scores, *self.index.postings(term), self.index.codes, self.impacts, weight)
        return Ranking(*take_best(self.scores, k))


def weights(index: Index, text: str) -> list[tuple[int, float]]:
    """`(term number, idf times the count in the text)` for each term of the text in the index, by number."""
    known = index.known(text)
    held = np.array([index.starts[term + 1] - index.starts[term] for term, _ in known], dtype=np.int64)
    idf = np.log(1 + (len(index.codes) - held + 0.5) / (held + 0.5))
    return [(term, weight * count) for (term, count), weight in zip(known, idf.tolist(), strict=True)]


def norms(index: Index, b: float, k1: float) -> np.ndarray:
    """What is added to tf in the denominator: float64 `[distinct lengths]`."""
    return k1 * (1 - b + b * index.distinct)


def impacts(norms: np.ndarray) -> np.ndarray:
    """tf / (tf + norm) for each frequency and length: float64 `[256, distinct lengths]`."""
    table = np.zeros((256, len(norms)))
    frequencies = np.arange(1.0, 256.0)[:, None]
    table[1:] = frequencies / (frequencies + norms)
    return table


@typed
def search(
    index: Path,
    questions: Path,
    split: Literal["train", "validation", "test"],
    k: int,
    tag: str,
    out: Path,
    tuning: Path | None = None,
    settings: BM25 | None = None,
) -> None:
    """Search one split's questions and write their run, with b and k1 either tuned or from `settings`.

    Parameters
    ----------
    index
        The index from `vlret.lexical.index.build`.
    questions
        The table of questions.
    split
        The split to search.
    k
        Passages per question.
    tag
        The name of the run.
    out
        The run.
    tuning
        The output of `vlret.lexical.tune.tune`.
    settings
        b and k1, if not tuned.

    Raises
    ------
    InputError
        Unless exactly one of `tuning` and `settings` is given, or if the tuning lacks b or k1.
    """
    if (tuning is None) == (settings is None):
        raise InputError("give b and k1 by either --tuning or --settings")
    b, k1 = (settings.b, settings.k1) if settings else _tuned(tuning)
    searcher = Searcher(Index(index), b, k1)
    table = load_from_disk(str(questions))[split].select_columns(["id", "input"])
    rows = progress(table, len(table), "question", f"bm25 {split}")
    write_run(out, {row["id"]: searcher.rank(row["input"], k) for row in rows}, tag)


def _tuned(path: Path) -> tuple[float, float]:
    """The b and k1 of a tuning."""
    stored = read_json(path)
    for field in ("b", "k1"):
        if not isinstance(stored.get(field), int | float):
            raise InputError(f"{path}: {field} is not a number; run the tuning again")
    return stored["b"], stored["k1"]
