"""BM25's speed: the index against `bm25s.index`, threads of a search against one, tuning against search passes.

All use the same term numbers in one process, and one thread if not said otherwise, with the configured 341 points. Our
index includes writing its files; bm25s keeps its index in memory, built by its faster scipy backend. The time of 341
searches is extrapolated from passes at a few points, whose rankings the grid must reproduce.

Tokenization is relative to `\\w+` on lower-case NFKC text, which does not match Lucene.
"""

import re
import tempfile
import time
import unicodedata
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import bm25s
import corpus as made
import numpy as np
from bench import clock, contest, options, ratio

from vlret.lexical.grid import Grid
from vlret.lexical.index import Index
from vlret.lexical.score import reciprocal_ranks
from vlret.lexical.search import Searcher
from vlret.lexical.tune import CUT, axis
from vlret.lexical.words import words
from vlret.settings import LexicalSearch

TRIED = LexicalSearch()
POINTS = [(b, k1) for b in axis("b", TRIED.b) for k1 in axis("k1", TRIED.k1)]
TEXTS = {
    "ASCII": "The bridge wasn't opened until 1889; it cost 3.5 million, as the U.S. press wrote (see 'Works'). ",
    "Latin": "The Pont de l’Étoile wasn’t opened until 1889 – it cost 3.5 million, as “Le Temps” wrote (see 'Œuvres') ",
    "Hindi": "यह पुल 1889 तक नहीं खुला था, और इसकी लागत पैंतीस लाख रुपये थी। ",
    "Chinese": "这座桥直到1889年才开放，耗资三百五十万法郎。",
    "beyond U+FFFF": "The 𐌰𐌱 bridge wasn't opened until 1889; it cost 3.5 million, as the U.S. press wrote 😀. ",
}
SINGLE = [POINTS[place] for place in (0, 45, 170, 295, 340)]


def seconds(run: Callable[[], object], now: Callable[[], float] = time.process_time) -> float:
    start = now()
    run()
    return now() - start


def tokenization(passages: int, now: Callable[[], float]) -> None:
    """Time `words` on passages of about a hundred words, per language."""
    for name, text in TEXTS.items():
        drawn = [text * 6] * passages
        words(drawn[0])
        ours, plain = (
            min(seconds(lambda f=f, of=drawn: [*map(f, of)], now) for _ in range(5)) for f in (words, simple_words)
        )
        ratio(f"words of passages, {name}", plain / ours, r"\w+ of lower-case NFKC text")


def simple_words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower())


def building(of: made.Corpus, folder: Path, few: int, now: Callable[[], float]) -> None:
    """Index the first `few` passages with both, and all of them with ours."""
    made.index(made.corpus(100), folder / "compiles")
    first = made.Corpus(of.tokens[: of.lengths[:few].sum()], of.lengths[:few])
    lists = [row.tolist() for row in np.split(first.tokens, np.cumsum(first.lengths)[:-1])]
    vocabulary = {number: number for number in range(made.TYPES)}
    theirs = seconds(
        lambda: bm25s.BM25(method="lucene", csc_backend="scipy").index((lists, vocabulary), show_progress=False),
        now,
    )
    ours = seconds(lambda: made.index(first, folder / "few"), now)
    ratio(f"index of {few} passages", theirs / ours, f"bm25s {bm25s.__version__}")
    whole = seconds(lambda: made.index(of, folder / "index"), now)
    size = sum(file.stat().st_size for file in (folder / "index").iterdir()) / len(of.lengths)
    print(f"  all {len(of.lengths)} passages: {whole:.1f} s, {size:.0f} bytes per passage")


def threads(index: Index, texts: list[str], given: Namespace) -> None:
    """Search with several threads and with one, which find the same."""
    several, one = (Searcher(index, *SINGLE[2], threads=count) for count in (given.threads, 1))
    for ranking, expected in zip(several.rank_all(texts[:4], CUT), map(one.rank, texts, [CUT] * 4), strict=True):
        same(ranking, expected)
    contestants = {"several": lambda: [*several.rank_all(texts, CUT)], "one": lambda: [*one.rank_all(texts, CUT)]}
    spent = contest(contestants, given)
    ratio(f"search with {given.threads} threads", spent["one"] / spent["several"], "one thread")


def tuning(index: Index, questions: dict[str, tuple[str, int]], now: Callable[[], float]) -> None:
    grid = Grid(index, POINTS, CUT)
    searchers = [Searcher(index, *point) for point in SINGLE]
    texts = [text for text, _ in questions.values()]
    for text in texts[:2]:
        for place, searcher in zip(map(POINTS.index, SINGLE), searchers, strict=True):
            same(grid.rank(text)[place], searcher.rank(text, CUT))
    passes = [seconds(lambda one=one: [one.rank(text, CUT) for text in texts], now) for one in searchers]
    reciprocals = []
    whole = seconds(lambda: reciprocals.extend(tuned(grid, *question) for question in questions.values()), now)
    again = seconds(lambda: [tuned(grid, *question) for question in questions.values()], now)
    one, surface = np.mean(passes), np.mean(reciprocals, axis=0)
    union = np.mean([found(grid, text) for text in texts])
    peer = f"{len(POINTS)} search passes (extrapolated from {len(passes)})"
    ratio(f"tuning over {len(POINTS)} points", len(POINTS) * one / whole, peer)
    ratio("the same with common terms cached from other questions", len(POINTS) * one / again, peer)
    print(f"  a grid takes {whole / one:.1f} times as long as a search pass")
    print(
        f"  {1e3 * one / len(texts):.2f} ms per pass and question; the union of all top {CUT} has {union:.0f} passages"
    )
    print(f"  MRR@{CUT} from {surface.min():.3f} to {surface.max():.3f}, at {POINTS[surface.argmax()]}")


def tuned(grid: Grid, text: str, passage: int) -> np.ndarray:
    return reciprocal_ranks(*grid.best(text), np.array([passage]))[grid.places]


def found(grid: Grid, text: str) -> int:
    """The number of passages among the best at any point."""
    rows, _, sizes = grid.best(text)
    return len(np.unique(np.concatenate([row[:size] for row, size in zip(rows, sizes, strict=True)])))


def same(ranking, expected) -> None:
    np.testing.assert_array_equal(ranking.passages, expected.passages)
    np.testing.assert_array_equal(ranking.scores, expected.scores)


def main():
    sizes = {"passages": (1_000_000, 5000), "questions": (200, 5), "peer_passages": (100_000, 1000)}
    given = options(__doc__, **sizes, rounds=(3, 1))
    of, now = made.corpus(given.passages), clock(given)
    print(f"  {made.statistics(of)}; {given.questions} questions")
    tokenization(50 if given.small else 2000, now)
    with tempfile.TemporaryDirectory() as folder:
        building(of, Path(folder), min(given.passages, given.peer_passages), now)
        index, asked = Index(Path(folder) / "index"), made.questions(of, given.questions)
        if given.threads > 1:
            threads(index, [text for text, _ in asked.values()], given)
        tuning(index, asked, now)


if __name__ == "__main__":
    main()
