"""The grid against single searches: the same passages and bit-identical scores at every point."""

import numpy as np
import pytest

from vlret.lexical.grid import Grid
from vlret.lexical.index import Index, write_index
from vlret.lexical.score import reciprocal_ranks
from vlret.lexical.search import Searcher
from vlret.settings import Analysis

POINTS = [(b / 10, k1 / 10) for b in range(11) for k1 in range(31)]


def made(folder, passages, words, skew, lengths, seed):
    """An index of passages of words drawn from `words`, with a skewed distribution."""
    generator = np.random.default_rng(seed)
    drawn = lengths(generator, passages).astype(np.int32)
    tokens = (generator.random(drawn.sum()) ** skew * words).astype(np.int32)
    terms = [f"w{number}" for number in range(words)]
    write_index(folder, terms, tokens, drawn, Analysis(stop_words=[]))
    return Index(folder), lambda count: " ".join(f"w{int(u**skew * words)}" for u in generator.random(count))


SHAPES = {  # passages, words, skew, lengths, k
    "a collection": (6000, 3000, 4, lambda generator, count: generator.lognormal(3.5, 0.5, count) + 1, 20),
    "few words, so that many scores are equal": (
        900,
        12,
        1,
        lambda generator, count: generator.integers(1, 6, count),
        10,
    ),
    "equal lengths": (900, 40, 2, lambda generator, count: np.full(count, 9), 10),
    "terms more than 255 times": (90, 4, 2, lambda generator, count: generator.integers(1, 2000, count), 10),
    "fewer passages than asked": (30, 9, 1, lambda generator, count: generator.integers(0, 9, count), 100),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_point_equals_a_single_search_bit_for_bit(tmp_path, shape):
    *shaped, k = SHAPES[shape]
    index, draw = made(tmp_path, *shaped, seed=len(shape))
    grid = Grid(index, POINTS, k)
    questions = [draw(12) for _ in range(6)] + [draw(1), draw(2), "w0 w0 w0 w1 none", "none"]
    found = [grid.rank(question) for question in questions]
    for place, point in enumerate(POINTS):
        searcher = Searcher(index, *point)
        for question, rankings in zip(questions, found, strict=True):
            expected = searcher.rank(question, k)
            np.testing.assert_array_equal(rankings[place].passages, expected.passages, f"{question} at {point}")
            np.testing.assert_array_equal(rankings[place].scores, expected.scores, f"{question} at {point}")


def test_a_grid_may_have_arbitrary_points(tmp_path):
    index, draw = made(tmp_path, *SHAPES["a collection"][:4], seed=0)
    for points in ([(0.4, 0.9)], [(0.0, 0.0), (1.0, 0.0)], [(1.0, 1000.0), (0.3, 1e-9), (0.3, 1e-9), (0.0, 0.5)]):
        question = draw(8)
        for point, ranking in zip(points, Grid(index, points, 7).rank(question), strict=True):
            expected = Searcher(index, *point).rank(question, 7)
            np.testing.assert_array_equal(ranking.passages, expected.passages)
            np.testing.assert_array_equal(ranking.scores, expected.scores)


def test_the_first_relevant_passage_counts_in_any_order():
    rows = np.array([[5, 2, 9], [5, 2, 9], [5, 2, 9], [1, 0, 0]])
    scores = np.array([[1.0, 3.0, 2.0], [1.0, 1.0, 1.0], [1.0, 3.0, 2.0], [1.0, 0.0, 0.0]])
    sizes = np.array([3, 3, 1, 0])
    assert reciprocal_ranks(rows, scores, sizes, np.array([5, 9])).tolist() == [1 / 2, 1 / 2, 1.0, 0.0]
    assert reciprocal_ranks(rows, scores, sizes, np.array([5, 77])).tolist() == [1 / 3, 1 / 2, 1.0, 0.0]
    assert reciprocal_ranks(rows, scores, sizes, np.array([3])).tolist() == [0.0] * 4
