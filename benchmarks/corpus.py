"""A seeded corpus of term numbers for the lexical benchmark, of any size in bounded memory.

Word ranks are rounded log-uniform numbers, so a word's probability is inversely proportional to its rank (Zipf; within
2% from the second on); passage lengths are log-normal, 100 words on average. A question has 12 words, half of them from
the passage that answers it. Numbers are ranks, so common words have small ones, as with numbering by first appearance.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlret.lexical.index import write_index
from vlret.settings import Analysis

TYPES, WORDS, SPREAD, QUESTION_WORDS = 500_000, 100, 0.4, 12
BLOCK = 100_000  # passages sampled at a time


class Corpus(NamedTuple):
    """The term numbers of all passages, `tokens [tokens]` int32, and `lengths [passages]` int32."""

    tokens: np.ndarray
    lengths: np.ndarray


def zipf(random: np.random.Generator, count: int) -> np.ndarray:
    """`count` ranks from 0, int32."""
    ranks = random.random(count, dtype=np.float32)
    np.exp(np.multiply(ranks, np.float32(np.log(2 * TYPES + 1)), out=ranks), out=ranks)
    return np.clip(np.rint(ranks / 2).astype(np.int32) - 1, 0, TYPES - 1)


def corpus(passages: int, seed: int = 0) -> Corpus:
    random = np.random.default_rng(seed)
    mu = np.log(WORDS) - SPREAD**2 / 2
    lengths = np.maximum(random.lognormal(mu, SPREAD, passages).astype(np.int32), 1)
    tokens = np.empty(lengths.sum(dtype=np.int64), np.int32)
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    for first in range(0, passages, BLOCK):
        start, end = ends[first], ends[min(first + BLOCK, passages)]
        tokens[start:end] = zipf(random, end - start)
    return Corpus(tokens, lengths)


def questions(of: Corpus, count: int, seed: int = 1) -> dict[str, tuple[str, int]]:
    """The text and answering passage of each question, by id."""
    random = np.random.default_rng(seed)
    starts = np.cumsum(of.lengths, dtype=np.int64) - of.lengths
    drawn = {}
    for number in range(count):
        passage = int(random.integers(len(of.lengths)))
        own = of.tokens[starts[passage] :][: of.lengths[passage]]
        words = [*random.choice(own, QUESTION_WORDS // 2), *zipf(random, QUESTION_WORDS - QUESTION_WORDS // 2)]
        drawn[f"q{number}"] = (" ".join(f"w{word}" for word in words), passage)
    return drawn


def index(of: Corpus, folder: Path) -> None:
    """Our index of the corpus; word `w7` has number 7."""
    folder.mkdir()
    terms = [f"w{number}" for number in range(TYPES)]
    write_index(folder, terms, of.tokens, of.lengths, Analysis(stop_words=[]))


def statistics(of: Corpus) -> str:
    """What the words are like, in a line."""
    counts = np.sort(np.bincount(of.tokens, minlength=TYPES))[::-1]
    return (
        f"{len(of.lengths)} passages of {of.lengths.mean():.1f} words; the commonest word makes "
        f"{counts[0] / counts.sum():.1%}, the tenth {counts[9] / counts.sum():.2%}; {np.count_nonzero(counts)} words"
    )
