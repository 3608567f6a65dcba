"""Which differences between runs are more than chance, and how far a mean may be off.

Both tests resample *units*: single questions, or groups of questions that share an entity, whose values are not
independent (the same flag seen twice is found, or missed, twice). Values of a unit are summed first.
"""

import numpy as np

CHUNK = 1000  # resamplings at a time: bounds the memory to CHUNK × units float64


def number_groups(labels: list[str]) -> np.ndarray:
    """Number groups from 0 in the order in which their labels first appear: int64 `[questions]`."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def sign_matrix(permutations: int, units: int, seed: int) -> np.ndarray:
    """Random signs for the randomisation test, int8 `[permutations, units]`: one matrix for all runs and metrics."""
    return np.random.default_rng(seed).integers(0, 2, size=(permutations, units), dtype=np.int8) * np.int8(2) - np.int8(
        1
    )


def randomisation_test(values: np.ndarray, groups: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Fisher's randomisation test of all pairs of runs on one metric: p `[runs, runs]`, symmetric, 1 on the diagonal.

    If two runs were the same but for chance, their values could be swapped for any unit. Each row of `signs` swaps
    those where it holds -1; p = (1 + how often the swapped means differ at least as much) / (1 + permutations),
    two-sided and never 0 (Smucker, Allan and Carterette, CIKM 2007; the +1 after Davison and Hinkley 1997).
    `values [runs, questions]`, `groups [questions]` numbered from 0, `signs [permutations, units]`.
    """
    sums = _sum_by_group(values, groups, signs.shape[1])
    observed = sums.sum(axis=1)
    # Differences that are equal on paper differ by rounding, so "at least as much" gets a little slack.
    slack = 1e-9 * max(1.0, float(np.abs(sums).max(initial=0)))
    counts = np.zeros((len(values), len(values)))
    for start in range(0, len(signs), CHUNK):
        swapped = signs[start : start + CHUNK].astype(np.float64) @ sums.T
        for run in range(len(values)):
            differences = np.abs(swapped - swapped[:, run : run + 1])
            counts[run] += (differences >= np.abs(observed - observed[run]) - slack).sum(axis=0)
    return (1 + counts) / (1 + len(signs))


def bootstrap_interval(values: np.ndarray, groups: np.ndarray, seed: int, samples: int, level: float) -> np.ndarray:
    """Percentile bootstrap interval of each run's mean, units drawn with replacement: `[runs, (low, high)]`.

    The mean of a sample is over its questions, of which there are more or fewer as units differ in size. All runs
    share the same samples. Bounds are rounded to 12 digits: beyond those they depend on the order of a sum.
    `values [runs, questions]`, `groups [questions]` numbered from 0, `level` such as 0.95.
    """
    units = int(groups.max()) + 1
    sums = _sum_by_group(np.vstack([values, np.ones(len(groups))]), groups, units)
    generator = np.random.default_rng(seed)
    drawn = []
    for start in range(0, samples, CHUNK):
        times = generator.multinomial(units, np.full(units, 1 / units), size=min(CHUNK, samples - start))
        totals = times.astype(np.float64) @ sums.T
        drawn.append(totals[:, :-1] / totals[:, -1:])
    return np.quantile(np.concatenate(drawn), [(1 - level) / 2, (1 + level) / 2], axis=0).T.round(12)


def _sum_by_group(values: np.ndarray, groups: np.ndarray, units: int) -> np.ndarray:
    return np.stack([np.bincount(groups, weights=row, minlength=units) for row in values])
