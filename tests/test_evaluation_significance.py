"""The tests against full enumeration, ranx and scipy; corrections against their definitions; bootstrap by theory."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from vlret.evaluation import significance
from vlret.evaluation.significance import (
    CORRECTIONS,
    bootstrap_interval,
    corrected,
    number_groups,
    randomisation_test,
    sign_matrix,
    t_test,
)

SINGLES = np.arange(10)


def exact(first, second, groups):
    """p over all sign patterns, without sampling."""
    differences = np.bincount(groups, weights=first - second)
    patterns = np.array(list(itertools.product([-1, 1], repeat=len(differences))))
    return (np.abs(patterns @ differences) >= abs(differences.sum()) - 1e-9).mean()


def reciprocal_ranks(runs, questions, seed=0):
    generator = np.random.default_rng(seed)
    return 1 / generator.integers(1, 12, size=(runs, questions))


def test_groups_are_numbered_as_they_appear():
    assert number_groups(["Q7", "Q2", "Q7", "Q1"]).tolist() == [0, 1, 0, 2]


def test_signs_are_fair_and_follow_the_seed():
    signs, again, other = (np.concatenate(list(sign_matrix(2000, 50, seed))) for seed in (4, 4, 5))
    assert signs.shape == (2000, 50)
    assert set(np.unique(signs)) == {-1, 1}
    assert abs(signs.mean()) < 0.02
    assert np.abs(signs.mean(axis=0)).max() < 0.12
    assert np.abs(np.corrcoef(signs.T) - np.eye(50)).max() < 0.12
    assert (signs == again).all()
    assert (signs != other).any()


@pytest.mark.parametrize("groups", [SINGLES, np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 6])])
def test_p_equals_that_of_all_sign_patterns(groups):
    values = reciprocal_ranks(4, 10)
    values[3] = values[0]
    values[2] = np.minimum(1, values[0] + 0.3)
    (p,) = randomisation_test(values[None], groups, 50_000, seed=0)
    for first, second in itertools.product(range(4), repeat=2):
        assert p[first, second] == pytest.approx(exact(values[first], values[second], groups), abs=0.01)
    assert (p == p.T).all()
    assert p[0, 3] == 1
    assert (np.diag(p) == 1).all()


def test_p_is_never_zero_and_the_smallest_equals_a_hand_count():
    values = np.array([np.ones(200), np.zeros(200)])
    (p,) = randomisation_test(values[None], np.arange(200), 999, seed=0)
    assert p[0, 1] == 1 / 1000


def test_equal_differences_count_whatever_their_rounding():
    """The three differences are thirds that sum differently in each order; any swap of all or none counts: p = 1/4."""
    values = np.array([[1 / 3, 0.1, 0.7], [0.0, 0.0, 0.0]])
    (p,) = randomisation_test(values[None], np.arange(3), 40_000, seed=0)
    assert p[0, 1] == pytest.approx(1 / 4, abs=0.01)


def test_units_of_one_entity_are_swapped_together():
    """Ten questions about one entity are a single unit: p = 1 where ten units would give 2 / 2^10."""
    values = np.array([[np.ones(10), np.zeros(10)]])
    together = np.zeros(10, dtype=int)
    assert randomisation_test(values, together, 1000, seed=0)[0, 0, 1] == 1
    assert randomisation_test(values, SINGLES, 1000, seed=0)[0, 0, 1] < 0.01


def test_ranx_agrees_within_monte_carlo_error():
    from ranx.statistical_tests import fisher_randomization_test

    values = reciprocal_ranks(3, 300)
    values[1] = np.clip(values[0] + np.random.default_rng(1).normal(0.02, 0.2, 300), 0, 1)
    permutations = 4000
    (p,) = randomisation_test(values[None], np.arange(300), permutations, seed=0)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        theirs, _ = fisher_randomization_test(values[first], values[second], permutations, 0.01, 0)
        error = 4 * np.sqrt(2 * theirs * (1 - theirs) / permutations) + 2 / permutations
        assert abs(p[first, second] - theirs) < error
    assert 0.01 < p[0, 1] < 0.9


@pytest.mark.parametrize("chunk", [7, 10_000])
def test_metrics_and_runs_share_the_signs_and_do_not_depend_on_each_other(monkeypatch, chunk):
    values = np.stack([reciprocal_ranks(5, 40, seed) for seed in range(3)])
    p = randomisation_test(values, np.arange(40), 500, seed=3)
    assert p.shape == (3, 5, 5)
    assert (p == p.transpose(0, 2, 1)).all()
    assert (p[1:, [[1], [4]], [1, 4]] == randomisation_test(values[1:, [1, 4]], np.arange(40), 500, seed=3)).all()
    assert (p != randomisation_test(values, np.arange(40), 500, seed=4)).any()
    interval = bootstrap_interval(values, np.arange(40), 3, 900, 0.9)
    monkeypatch.setattr(significance, "ROWS", 4)
    np.testing.assert_array_equal(bootstrap_interval(values, np.arange(40), 3, 900, 0.9), interval)
    monkeypatch.setattr(significance, "CHUNK", chunk)
    np.testing.assert_array_equal(bootstrap_interval(values, np.arange(40), 3, 900, 0.9), interval)


def test_the_t_test_equals_scipys():
    from scipy.stats import ttest_rel

    values = np.stack([reciprocal_ranks(5, 60, seed) for seed in range(2)])
    groups = np.repeat(np.arange(20), 3)
    sums = values.reshape(2, 5, 20, 3).sum(axis=3)
    for of, by in ((values, np.arange(60)), (sums, groups)):
        p = t_test(values, by)
        for metric, first, second in itertools.product(range(2), range(5), range(5)):
            expected = 1 if first == second else ttest_rel(of[metric, first], of[metric, second]).pvalue
            assert p[metric, first, second] == pytest.approx(expected, rel=1e-9)


def test_the_t_test_of_equal_and_of_shifted_runs():
    values = np.array([[[0.5, 0.25, 0.0], [0.5, 0.25, 0.0], [1.0, 0.75, 0.5]]])
    (p,) = t_test(values, np.arange(3))
    assert p[0, 1] == p[2, 2] == 1
    assert 0 < p[0, 2] < 1e-100


def test_both_tests_agree_where_the_differences_are_nearly_normal():
    values = np.random.default_rng(0).normal(size=(1, 4, 400)) + np.array([0, 0.05, 0.1, 0.2])[:, None]
    p = randomisation_test(values, np.arange(400), 20_000, seed=0)
    np.testing.assert_allclose(p, t_test(values, np.arange(400)), atol=0.015)


def pairs(values, runs):
    """A symmetric matrix with these values above the diagonal, row by row, and 1 on it."""
    p = np.eye(runs)
    p[np.triu_indices(runs, 1)] = values
    return np.maximum(p, p.T)[None]


def test_corrections_by_hand():
    """Holm: 6 x .001, then 5 x .008 …, never falling; Benjamini-Hochberg: 6/1 x .001, 6/2 x .008 …, never rising."""
    p = pairs([0.03, 0.001, 0.04, 0.008, 0.5, 0.03], 4)
    np.testing.assert_allclose(corrected(p, "holm"), pairs([0.12, 0.006, 0.12, 0.04, 0.5, 0.12], 4))
    np.testing.assert_allclose(
        corrected(p, "benjamini-hochberg"), pairs([0.045, 0.006, 0.048, 0.024, 0.5, 0.045], 4), rtol=1e-12
    )
    assert (corrected(p, "none") == p).all()


@pytest.mark.parametrize("method", CORRECTIONS)
def test_corrections_never_lower_p_and_leave_single_pairs_and_runs_unchanged(method):
    for runs in (1, 2, 9):
        p = pairs(np.random.default_rng(runs).random(runs * (runs - 1) // 2) ** 3, runs)
        adjusted = corrected(p, method)
        assert (adjusted >= p - 1e-15).all()
        assert (adjusted <= 1).all()
        assert (adjusted == adjusted.transpose(0, 2, 1)).all()
        assert runs > 2 or (adjusted == p).all()


def test_each_metric_is_corrected_by_itself():
    p = np.concatenate([pairs([0.01, 0.02, 0.03], 3), pairs([0.5, 0.0001, 0.9], 3)])
    for method in CORRECTIONS:
        np.testing.assert_array_equal(
            corrected(p, method), np.concatenate([corrected(p[:1], method), corrected(p[1:], method)])
        )


def test_the_interval_matches_the_standard_error_of_the_mean():
    generator = np.random.default_rng(0)
    values = generator.normal(0.5, 0.2, size=(2, 400))
    low, high = bootstrap_interval(values[None], np.arange(400), seed=0, samples=5000, level=0.95)[0].T
    half = 1.96 * values.std(axis=1) / np.sqrt(400)
    np.testing.assert_allclose(low, values.mean(axis=1) - half, atol=0.002)
    np.testing.assert_allclose(high, values.mean(axis=1) + half, atol=0.002)
    (narrow,) = bootstrap_interval(values[None], np.arange(400), seed=0, samples=5000, level=0.5)
    assert (narrow[:, 0] > low).all()
    assert (narrow[:, 1] < high).all()


def test_the_interval_widens_when_questions_are_dependent():
    """Each of 100 entities has four questions of equal value: four times the questions, no more evidence."""
    values = np.repeat(np.random.default_rng(0).random((1, 1, 100)), 4, axis=2)
    independent, grouped = (
        np.diff(bootstrap_interval(values, groups, seed=0, samples=4000, level=0.95)).item()
        for groups in (np.arange(400), np.repeat(np.arange(100), 4))
    )
    assert grouped == pytest.approx(2 * independent, rel=0.1)


def test_units_of_unequal_size_count_by_question():
    """One entity with 9 questions of value 1, one with a single 0: a sample is all ones, all zeros, or the mean."""
    values, groups = np.array([[[1.0] * 9 + [0.0]]]), np.array([0] * 9 + [1])
    assert bootstrap_interval(values, groups, seed=0, samples=3000, level=0.4).tolist() == [[[0.9, 0.9]]]
    assert bootstrap_interval(values, groups, seed=0, samples=3000, level=0.6).tolist() == [[[0.0, 1.0]]]


def test_intervals_follow_the_seed():
    values = reciprocal_ranks(2, 50)[None]
    one, two, other = (bootstrap_interval(values, np.arange(50), seed, 1500, 0.95) for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


def test_evaluation_imports_no_torch():
    code = (
        "import sys, vlret.evaluation.metrics, vlret.evaluation.significance, vlret.evaluation.table, ranx.metrics;"
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
