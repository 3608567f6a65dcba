"""BM25 as in Lucene (hence Elasticsearch and ViQuAE), with exact passage lengths.

    score(q, p) = sum over the terms t of q of  idf(t) · tf / (tf + k1 · (1 - b + b · length(p) / average length))
    idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))

A term that occurs twice in the question counts twice. Lucene dropped the constant factor k1 + 1 in version 8
(variant "Lucene (accurate)" of Kamphuis et al., "Which BM25 do you mean?", ECIR 2020).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

import numpy as np
from datasets import Dataset, load_from_disk

from vlret.console import progress, say
from vlret.files import InputError, read_json, remove, unfinished
from vlret.lexical.index import Index
from vlret.lexical.score import add, take_best
from vlret.locks import Lock, locked
from vlret.made import version_of
from vlret.runs import Ranking, concatenate, write_run
from vlret.settings import BM25
from vlret.typed import typed

SLICE = 256  # questions that are saved together: half a minute on one thread for 12 million passages


class Searcher:
    """Searches an index with fixed b and k1, several texts at a time.

    Each thread has its own scores, 8 bytes per passage.
    """

    def __init__(self, index: Index, b: float, k1: float, threads: int = 1):
        self.index, self.threads = index, threads
        self.impacts = impacts(norms(index, b, k1))
        self.scores: SimpleQueue[np.ndarray] = SimpleQueue()
        for _ in range(threads):
            self.scores.put(np.zeros(len(index.codes)))

    def rank(self, text: str, k: int) -> Ranking:
        """The `k` best passages for a text, ties by row; fewer if fewer share a term with it.

        Scores are summed in float64, in the order of term numbers.
        """
        return self._best(weights(self.index, text), k)

    def rank_all(self, texts: Sequence[str], k: int) -> Iterator[Ranking]:
        """`rank` of each text, in order. A text is one thread's, so that their number does not change a bit."""
        terms = [weights(self.index, text) for text in texts]  # here, as a stemmer serves one thread
        with ThreadPoolExecutor(self.threads) as pool:
            yield from pool.map(self._best, terms, repeat(k))

    def _best(self, terms: list[tuple[int, float]], k: int) -> Ranking:
        scores = self.scores.get()
        try:
            for term, weight in terms:
                add(scores, *self.index.postings(term), self.index.codes, self.impacts, weight)
            return Ranking(*take_best(scores, k))  # sets the scores to 0 again
        finally:
            self.scores.put(scores)  # also after an error, or the texts after it would wait for it


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
    threads: int = 2,
) -> None:
    """Search one split's questions and write their run, with b and k1 either tuned or from `settings`.

    An interrupted search is resumed by the same command behind its last whole slice of questions, which are in a folder
    beside `out`. The result does not depend on the number of threads.

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
    threads
        Questions searched at a time.

    Raises
    ------
    InputError
        Unless exactly one of `tuning` and `settings` is given, or if the tuning lacks b or k1.
    """
    if (tuning is None) == (settings is None):
        raise InputError("give b and k1 by either --tuning or --settings")
    b, k1 = (settings.b, settings.k1) if settings else _tuned(tuning)
    searcher = Searcher(Index(index), b, k1, threads)
    table = load_from_disk(str(questions))[split].select_columns(["id", "input"])
    work = out.with_name(f"{out.name}.unfinished")
    with locked(out.with_name(f".{out.name}.lock")) as lock:
        unfinished(work, {"b": b, "k1": k1, "k": k, "tag": tag, **_identity(index, table)})
        slices = {work / f"{start:08}.trec": start for start in range(0, len(table), SLICE)}
        left = {path: start for path, start in slices.items() if not path.is_file()}
        if len(left) < len(slices):
            say(f"{out}: resuming after {len(slices) - len(left)} of {len(slices)} slices of {SLICE} questions")
        texts = sum(min(SLICE, len(table) - start) for start in left.values())
        filling = _fill(searcher, table, left, k, tag, lock)
        for _ in progress(filling, texts, "question", f"bm25 {split}"):
            pass
        lock.check()
        concatenate(list(slices), out)
        remove(work)


def _identity(index: Path, table: Dataset) -> dict[str, object]:
    """What else a slice depends on: the index, by its files' sizes and times, and the questions, by a digest."""
    files = sorted((path.name, path.stat()) for path in index.iterdir() if path.suffix in (".npy", ".txt"))
    held = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in files]
    asked = hashlib.sha256(json.dumps([table["id"][:], table["input"][:]]).encode()).hexdigest()
    return {"version": version_of("lexical search"), "index": held, "questions": asked, "slice": SLICE}


def _fill(
    searcher: Searcher, table: Dataset, slices: dict[Path, int], k: int, tag: str, lock: Lock
) -> Iterator[Ranking]:
    """Write the run of each slice to its path, and yield each ranking; nothing is written after the lock is lost."""
    for path, start in slices.items():
        asked, run = table[start : start + SLICE], {}
        for question, ranking in zip(asked["id"], searcher.rank_all(asked["input"], k), strict=True):
            run[question] = ranking
            yield ranking
        lock.check()
        write_run(path, run, tag)


def _tuned(path: Path) -> tuple[float, float]:
    """The b and k1 of a tuning."""
    stored = read_json(path)
    for field in ("b", "k1"):
        if not isinstance(stored.get(field), int | float):
            raise InputError(f"{path}: {field} is not a number; run the tuning again")
    return stored["b"], stored["k1"]
