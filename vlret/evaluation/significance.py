"""Significance of differences between runs, and confidence intervals of means.

Tests and intervals work on *units*: single questions, or groups of questions about one entity, whose values are not
independent (the same flag seen twice is found, or missed, twice). Values are summed within a unit first.
"""

from collections.abc import Iterator

import numpy as np
from scipy.special import stdtr
from scipy.stats import false_discovery_control

from vlret.jit import njit

CHUNK = 512  # resamples per step: bounds memory to CHUNK × (units + all rows) float64
ROWS = 512  # rows whose resampled means are held at once

CORRECTIONS = ("none", "holm", "benjamini-hochberg")


def number_groups(labels: list[str]) -> np.ndarray:
    """Number groups from 0 in order of first appearance: int64 `[questions]`."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def sign_matrix(permutations: int, units: int, seed: int) -> Iterator[np.ndarray]:
    """Random signs ±1 for the randomisation test, `[permutations, units]`, yielded `CHUNK` rows at a time."""
    generator, width = np.random.default_rng(seed), -(-units // 8)
    for start in range(0, permutations, CHUNK):
        rows = min(CHUNK, permutations - start)
        octets = np.frombuffer(generator.bytes(rows * width), np.uint8).reshape(rows, width)
        yield 2.0 * np.unpackbits(octets, axis=1, count=units) - 1.0


def randomisation_test(values: np.ndarray, groups: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    """Fisher's randomisation test of all pairs of runs on each metric: p `[metrics, runs, runs]`.

    Under the null hypothesis, the values of two runs are exchangeable within each unit. Each row of a sign matrix swaps
    the units where it is -1, for all pairs and metrics alike; p = (1 + number of permutations whose means differ at
    least as much) / (1 + permutations), two-sided, symmetric, 1 on the diagonal and never 0 (Smucker, Allan and
    Carterette, CIKM 2007; the +1 after Davison and Hinkley 1997).
    `values [metrics, runs, questions]`, `groups [questions]` numbered from 0.
    """
    sums = _sum_by_group(values, groups)
    observed = sums.sum(axis=2)
    # Equal differences may differ by rounding, so "at least as much" gets some slack.
    slack = 1e-9 * np.maximum(1.0, np.abs(sums).max(axis=(1, 2), initial=0))
    counts = np.zeros((*observed.shape, observed.shape[1]), dtype=np.int64)
    rows = sums.reshape(-1, sums.shape[2])
    for signs in sign_matrix(permutations, sums.shape[2], seed):
        swapped = (rows @ signs.T).reshape(*observed.shape, len(signs))
        for metric in range(len(values)):
            _count(swapped[metric], observed[metric], slack[metric], counts[metric])
    counts += counts.transpose(0, 2, 1)
    counts[:, range(observed.shape[1]), range(observed.shape[1])] = permutations
    return (1 + counts) / (1 + permutations)


@njit(cache=True)
def _count(swapped: np.ndarray, observed: np.ndarray, slack: float, counts: np.ndarray) -> None:
    """Add to `counts [runs, runs]`, below the diagonal, how many swapped differences reach the observed one."""
    for first in range(len(observed)):
        for second in range(first):
            least, count = abs(observed[first] - observed[second]) - slack, 0
            for permutation in range(swapped.shape[1]):
                count += abs(swapped[first, permutation] - swapped[second, permutation]) >= least
            counts[first, second] += count


def t_test(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Student's paired t-test of all pairs of runs on each metric, two-sided: p `[metrics, runs, runs]`.

    The pairs are the two runs' sums per unit. Equal runs have p = 1; if all units differ by the same amount, p is the
    smallest float above 0.
    `values [metrics, runs, questions]`, `groups [questions]` numbered from 0, at least two units.
    """
    sums = _sum_by_group(values, groups)
    units = sums.shape[2]
    p = np.ones((*sums.shape[:2], sums.shape[1]))
    for run in range(sums.shape[1]):
        differences = sums - sums[:, run : run + 1]
        means, errors = differences.mean(axis=2), differences.std(axis=2, ddof=1) / np.sqrt(units)
        differ = means != 0
        with np.errstate(divide="ignore"):
            p[:, run][differ] = 2 * stdtr(units - 1, -np.abs(means[differ]) / errors[differ])
    return np.maximum(p, np.finfo(np.float64).tiny)


def corrected(p: np.ndarray, method: str) -> np.ndarray:
    """Adjust p-values `[metrics, runs, runs]` for the number of pairs of runs compared on each metric.

    `holm` controls the family-wise error rate (Holm 1979), `benjamini-hochberg` the false discovery rate (Benjamini
    and Hochberg 1995), `none` nothing. Adjusted p-values are compared with the unadjusted level.
    """
    first, second = np.triu_indices(p.shape[1], 1)
    result = p.copy()
    if method != "none" and len(first):
        pairs = p[:, first, second]
        adjusted = _holm(pairs) if method == "holm" else false_discovery_control(pairs, axis=1, method="bh")
        result[:, first, second] = result[:, second, first] = adjusted
    return result


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment within each row of `p` `[metrics, pairs]`."""
    order = p.argsort(axis=1)
    stepped = np.take_along_axis(p, order, axis=1) * np.arange(p.shape[1], 0, -1)
    result = np.empty_like(p)
    np.put_along_axis(result, order, np.minimum(1, np.maximum.accumulate(stepped, axis=1)), axis=1)
    return result


def bootstrap_interval(values: np.ndarray, groups: np.ndarray, seed: int, samples: int, level: float) -> np.ndarray:
    """Percentile bootstrap intervals of means, units drawn with replacement: `[metrics, runs, (low, high)]`.

    A sample's mean is over its questions, whose number varies with the sizes of the drawn units. All runs and metrics
    share the same samples. Bounds are rounded to 12 digits: further ones depend on summation order.
    `values [metrics, runs, questions]`, `groups [questions]` numbered from 0, `level` such as 0.95.
    """
    sums = _sum_by_group(values, groups)
    units, sizes = sums.shape[2], np.bincount(groups).astype(np.float64)
    generator = np.random.default_rng(seed)
    chunks = [min(CHUNK, samples - start) for start in range(0, samples, CHUNK)]
    times = np.concatenate(
        [generator.multinomial(units, np.full(units, 1 / units), size=size).astype(np.uint16) for size in chunks]
    )
    intervals = []
    for rows in np.split(sums.reshape(-1, units), range(ROWS, values.shape[0] * values.shape[1], ROWS)):
        means = np.empty((len(rows), samples))
        for start in range(0, samples, CHUNK):
            drawn = times[start : start + CHUNK].T.astype(np.float64)
            means[:, start : start + CHUNK] = (rows @ drawn) / (sizes @ drawn)
        intervals.append(np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=1, overwrite_input=True).T)
    return np.concatenate(intervals).reshape(*values.shape[:2], 2).round(12)


def _sum_by_group(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sum values within groups: `[metrics, runs, groups]`."""
    rows = values.reshape(-1, values.shape[2])
    sums = np.stack([np.bincount(groups, weights=row) for row in rows])
    return sums.reshape(*values.shape[:2], -1)
