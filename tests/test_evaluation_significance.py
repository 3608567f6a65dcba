"""The randomisation test against full enumeration and ranx; the bootstrap against theory."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from vlret.evaluation.significance import bootstrap_interval, number_groups, randomisation_test, sign_matrix

ALONE = np.arange(10)


def exact(first, second, groups):
    """p over all sign patterns, none drawn at random."""
    differences = np.bincount(groups, weights=first - second)
    patterns = np.array(list(itertools.product([-1, 1], repeat=len(differences))))
    return (np.abs(patterns @ differences) >= abs(differences.sum()) - 1e-9).mean()


def reciprocal_ranks(runs, questions, seed=0):
    generator = np.random.default_rng(seed)
    return 1 / generator.integers(1, 12, size=(runs, questions))


def test_groups_are_numbered_as_they_appear():
    assert number_groups(["Q7", "Q2", "Q7", "Q1"]).tolist() == [0, 1, 0, 2]


def test_signs_are_fair_and_follow_the_seed():
    signs = sign_matrix(2000, 50, seed=4)
    assert set(np.unique(signs)) == {-1, 1}
    assert abs(signs.mean()) < 0.02
    assert (signs == sign_matrix(2000, 50, seed=4)).all()
    assert (signs != sign_matrix(2000, 50, seed=5)).any()


@pytest.mark.parametrize("groups", [ALONE, np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 6])])
def test_p_is_that_of_all_sign_patterns(groups):
    values = reciprocal_ranks(4, 10)
    values[3] = values[0]
    values[2] = np.minimum(1, values[0] + 0.3)
    p = randomisation_test(values, groups, sign_matrix(50_000, groups.max() + 1, seed=0))
    for first, second in itertools.product(range(4), repeat=2):
        assert p[first, second] == pytest.approx(exact(values[first], values[second], groups), abs=0.01)
    assert (p == p.T).all()
    assert p[0, 3] == 1
    assert (np.diag(p) == 1).all()


def test_p_is_never_zero_and_the_smallest_is_counted_by_hand():
    values = np.array([np.ones(200), np.zeros(200)])
    p = randomisation_test(values, np.arange(200), sign_matrix(999, 200, seed=0))
    assert p[0, 1] == 1 / 1000


def test_equal_differences_count_whatever_their_rounding():
    """The three differences are thirds that sum differently in each order; any swap of all or none counts: p = 1/4."""
    values = np.array([[1 / 3, 0.1, 0.7], [0.0, 0.0, 0.0]])
    p = randomisation_test(values, np.arange(3), sign_matrix(40_000, 3, seed=0))
    assert p[0, 1] == pytest.approx(1 / 4, abs=0.01)


def test_units_of_one_entity_are_swapped_together():
    """Ten questions on one entity tell no more than one: p = 1 where ten questions alone would give 2 / 2^10."""
    values = np.array([np.ones(10), np.zeros(10)])
    together = np.zeros(10, dtype=int)
    assert randomisation_test(values, together, sign_matrix(1000, 1, seed=0))[0, 1] == 1
    assert randomisation_test(values, ALONE, sign_matrix(1000, 10, seed=0))[0, 1] < 0.01


def test_ranx_agrees_within_monte_carlo_error():
    from ranx.statistical_tests import fisher_randomization_test

    values = reciprocal_ranks(3, 300)
    values[1] = np.clip(values[0] + np.random.default_rng(1).normal(0.02, 0.2, 300), 0, 1)
    permutations = 4000
    p = randomisation_test(values, np.arange(300), sign_matrix(permutations, 300, seed=0))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        theirs, _ = fisher_randomization_test(values[first], values[second], permutations, 0.01, 0)
        error = 4 * np.sqrt(2 * theirs * (1 - theirs) / permutations) + 2 / permutations
        assert abs(p[first, second] - theirs) < error
    assert 0.01 < p[0, 1] < 0.9


def test_the_interval_is_that_of_the_mean():
    generator = np.random.default_rng(0)
    values = generator.normal(0.5, 0.2, size=(2, 400))
    low, high = bootstrap_interval(values, np.arange(400), seed=0, samples=5000, level=0.95).T
    half = 1.96 * values.std(axis=1) / np.sqrt(400)
    np.testing.assert_allclose(low, values.mean(axis=1) - half, atol=0.002)
    np.testing.assert_allclose(high, values.mean(axis=1) + half, atol=0.002)
    narrow = bootstrap_interval(values, np.arange(400), seed=0, samples=5000, level=0.5)
    assert (narrow[:, 0] > low).all()
    assert (narrow[:, 1] < high).all()


def test_the_interval_widens_when_questions_hang_together():
    """Each of 100 entities has four questions of equal value: four times the questions, no more evidence."""
    values = np.repeat(np.random.default_rng(0).random((1, 100)), 4, axis=1)
    alone, together = (
        np.diff(bootstrap_interval(values, groups, seed=0, samples=4000, level=0.95))[0, 0]
        for groups in (np.arange(400), np.repeat(np.arange(100), 4))
    )
    assert together == pytest.approx(2 * alone, rel=0.1)


def test_units_of_unequal_size_count_by_question():
    """One entity with 9 questions of value 1, one with a single 0: a sample is all ones, all zeros, or the mean."""
    values, groups = np.array([[1.0] * 9 + [0.0]]), np.array([0] * 9 + [1])
    assert bootstrap_interval(values, groups, seed=0, samples=3000, level=0.4).tolist() == [[0.9, 0.9]]
    assert bootstrap_interval(values, groups, seed=0, samples=3000, level=0.6).tolist() == [[0.0, 1.0]]


def test_intervals_follow_the_seed():
    values = reciprocal_ranks(2, 50)
    one, two, other = (bootstrap_interval(values, np.arange(50), seed, 1500, 0.95) for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


def test_evaluation_imports_no_torch():
    code = (
        "import sys, vlret.evaluation.metrics, vlret.evaluation.significance, vlret.evaluation.table, ranx.metrics;"
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
