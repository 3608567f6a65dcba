"""Exact search equals a full sort of all inner products, in any order and with any ties."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from shards import units_of

from vlret.retrieval import exact
from vlret.retrieval import units as retrieval_units


def full_sort(vectors, question, k):
    """Rows by (-score, row), with scores as in runs: float64 sums rounded to float32."""
    scores = np.float32([np.dot(row.astype(np.float64), question.astype(np.float64)) for row in vectors])
    order = np.lexsort((np.arange(len(vectors)), -scores))[:k]
    return order.tolist(), scores[order].tolist()


def assert_exact(vectors, questions, k):
    for question, ranking in zip(questions, exact.search(units_of(vectors), questions, k), strict=True):
        rows, scores = full_sort(vectors, question, k)
        assert ranking.passages.tolist() == rows
        np.testing.assert_allclose(ranking.scores, scores, rtol=1e-6)


def unit_vectors(rows, dim, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(autouse=True, params=[False, True], ids=["float32", "bfloat16"])
def rounded(monkeypatch, request):
    """With and without rounding, with chunks and shortlists so short that every path is taken."""
    monkeypatch.setattr(exact, "multiplies_bfloat16", lambda: request.param)
    monkeypatch.setattr(retrieval_units, "CHUNK", 500)
    monkeypatch.setattr(exact, "QUESTIONS", 5)
    return request.param


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("k", [1, 10, 400, 5000])
def test_against_a_full_sort(dtype, k):
    assert_exact(unit_vectors(3001, 24).astype(dtype), unit_vectors(12, 24, seed=1), k)


@pytest.mark.parametrize("order", [1, -1])
def test_vectors_sorted_by_score_in_either_order(order):
    vectors, questions = unit_vectors(3000, 16), unit_vectors(1, 16, seed=1)
    vectors = vectors[np.argsort(order * (vectors @ questions[0]))]
    assert_exact(vectors, questions, 20)


def test_a_tie_longer_than_any_shortlist():
    """Equal vectors far apart: products may select any of them, the run must have the first."""
    vectors = unit_vectors(5000, 48)
    equal = np.sort(np.random.default_rng(3).choice(5000, 2700, replace=False))
    vectors[equal] = vectors[equal[0]]
    questions = np.concatenate([vectors[equal[:1]], vectors[:3], unit_vectors(3, 48, seed=2)])
    for k in (3, 10, 150):
        assert_exact(vectors, questions, k)
        first = exact.search(units_of(vectors), questions, k)[0]
        assert first.passages.tolist() == equal[:k].tolist()
        assert len(set(first.scores.tolist())) == 1


def test_scores_closer_than_the_error_of_products():
    """Thousands of vectors a few float32 steps apart, which only float64 sums can order."""
    rng = np.random.default_rng(4)
    vectors = np.tile(unit_vectors(1, 64), (4000, 1))
    vectors += np.float32(6e-8) * rng.integers(-3, 4, vectors.shape).astype(np.float32)
    assert_exact(vectors, unit_vectors(3, 64, seed=5), 25)


def test_all_scores_are_equal():
    assert_exact(np.ones((3000, 4), np.float32), np.ones((2, 4), np.float32), 7)
    assert_exact(np.zeros((3000, 4), np.float32), np.ones((2, 4), np.float32), 7)


def test_lengths_count_and_a_late_long_vector_does_not_hide_an_early_one():
    vectors = unit_vectors(2000, 8)
    vectors[1999] *= 1000
    vectors[5] *= 3
    assert_exact(vectors, unit_vectors(4, 8, seed=1), 6)


@pytest.mark.parametrize("length", [300, 1e5])
def test_late_long_vectors_with_larger_errors(length):
    """Nearly orthogonal to the question, they score slightly more or less than short ones in its direction."""
    vectors, question = unit_vectors(2000, 64), unit_vectors(1, 64, seed=1)
    vectors -= (vectors @ question.T) * question
    scores = np.random.default_rng(0).uniform([0.2] * 1000 + [0.9] * 1000, [1] * 1000 + [1.1] * 1000)
    vectors *= np.repeat(np.float32([0.01, length]), 1000)[:, None]
    vectors += scores.astype(np.float32)[:, None] * question
    assert_exact(vectors, question, 30)


def test_rows_without_vector_and_units_without_passage_are_skipped():
    rng = np.random.default_rng(6)
    vectors, questions = unit_vectors(2000, 8), unit_vectors(3, 8, seed=1)
    vectors[rng.choice(2000, 300, replace=False)] = np.nan
    counts = rng.integers(0, 3, 2000)
    counts[np.argsort(-np.nan_to_num(vectors @ questions[0]))[:600]] = 0
    units = units_of(vectors, np.concatenate([[0], np.cumsum(counts)]))
    for question, ranking in zip(questions, exact.search(units, questions, 9), strict=True):
        kept = np.repeat(np.arange(2000), counts)
        kept = np.where(np.isnan(vectors[kept, 0]), -1, kept)
        rows = np.flatnonzero(kept >= 0)
        expected, _ = full_sort(vectors[kept[rows]], question, 9)
        assert ranking.passages.tolist() == rows[expected].tolist()


def test_no_question_and_fewer_units_than_k():
    assert exact.search(units_of(unit_vectors(30, 4)), np.empty((0, 4), np.float32), 5) == []
    assert_exact(unit_vectors(3, 4), unit_vectors(2, 4, seed=1), 5)


def test_the_number_of_threads_changes_nothing():
    vectors, questions = unit_vectors(3000, 16), unit_vectors(7, 16, seed=1)
    before, results = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(exact.search(units_of(vectors), questions, 30))
    torch.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        assert one.passages.tolist() == other.passages.tolist()
        assert one.scores.tolist() == other.scores.tolist()


def shortlist_of(vectors, questions, k, rounded):
    """A shortlist after all vectors, and whether it still rounds."""
    shortlist = exact.Shortlist(units_of(vectors), torch.from_numpy(questions), k, rounded, torch.device("cpu"))
    with ThreadPoolExecutor(1) as pool:
        for start, chunk, lengths in retrieval_units.chunks(units_of(vectors).vectors):
            part = chunk.bfloat16() if shortlist.rounded else chunk
            shortlist.add(start, part, float(lengths.max()), pool)
    return shortlist


def test_rounding_stops_once_it_costs_more_than_it_saves(rounded):
    """Scores far apart need few candidates; those within rounding error need float32."""
    vectors, questions = unit_vectors(3000, 64), unit_vectors(7, 64, seed=1)
    assert shortlist_of(vectors, questions, 10, rounded).rounded == rounded
    close = unit_vectors(1, 64) + 1e-3 * vectors
    shortlist = shortlist_of(close, questions, 10, rounded)
    assert not shortlist.rounded
    assert shortlist.tensor.dtype == torch.float32
    assert_exact(close, questions, 10)


def test_bfloat16_errors_are_within_the_slack():
    """Scores and rounded products may be ordered differently only within the slack."""
    vectors, questions = unit_vectors(3000, 64), unit_vectors(7, 64, seed=1)
    vectors *= np.random.default_rng(0).uniform(0.5, 2, (3000, 1)).astype(np.float32)
    shortlist = shortlist_of(vectors, questions, 10, True)
    products = (shortlist.tensor @ torch.from_numpy(vectors).bfloat16().T).float().numpy()
    errors = np.abs(products - questions @ vectors.T)
    allowed = (shortlist._slack()[:, None] + shortlist._share() * np.abs(products)) / 2
    assert (errors <= allowed).all()
    assert errors.max() > 0.1 * allowed.min(), "the slack is not too wide"
