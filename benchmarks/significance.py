"""The speed of Fisher's randomisation test of all pairs of runs relative to ranx's, which resamples for each pair.

Also the time for a table of many runs, from their metrics files to the five renderings, with the metrics and tests of
config/config.yaml.
"""

import tempfile
import time
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numba
import numpy as np
from bench import contest, options, ratio
from datasets import Dataset, DatasetDict
from ranx.statistical_tests import fisher_randomization_test

from vlret.evaluation.significance import randomisation_test
from vlret.evaluation.table import table
from vlret.files import write_json
from vlret.settings import Evaluation

METRICS = 15  # of the config


def reciprocal_ranks(metrics: int, runs: int, questions: int) -> np.ndarray:
    """Random values `[metrics, runs, questions]`."""
    return 1 / np.random.default_rng(0).integers(1, 100, size=(metrics, runs, questions))


def pairs(values: np.ndarray, permutations: int) -> dict[tuple[int, int], float]:
    """ranx's p of all pairs of `values` `[runs, questions]`."""
    return {
        (first, second): fisher_randomization_test(values[first], values[second], permutations)[0]
        for first, second in combinations(range(len(values)), 2)
    }


def compare(given) -> None:
    values, groups = reciprocal_ranks(METRICS, given.runs, given.questions), np.arange(given.questions)
    theirs = pairs(values[0, :2], given.permutations)
    (ours,) = randomisation_test(values[:1, :2], groups, given.permutations, seed=0)
    print(f"  one pair: p {ours[0, 1]:.3f}, by ranx {theirs[0, 1]:.3f}")
    seconds = contest(
        {
            "one": lambda: randomisation_test(values[:1], groups, given.permutations, seed=0),
            "all": lambda: randomisation_test(values, groups, given.permutations, seed=0),
            "ranx": lambda: pairs(values[0], given.permutations),
        },
        given,
    )
    print(f"  {given.runs} runs, {given.questions} questions, {given.permutations} permutations, all pairs: ", end="")
    print(f"one metric {1000 * seconds['one']:.1f} ms, {METRICS} metrics {1000 * seconds['all']:.1f} ms")
    peer = f"ranx {version('ranx')}"
    ratio("Fisher's randomisation test of all pairs of runs, one metric", seconds["ranx"] / seconds["one"], peer)
    what = f"the same per metric, {METRICS} tested together"
    ratio(what, METRICS * seconds["ranx"] / seconds["all"], peer)


def whole_table(rows: int, questions: int) -> None:
    settings = Evaluation()
    names, asked = [f"run{number}" for number in range(rows)], [f"q{number}" for number in range(questions)]
    parts = dict.fromkeys(("model", "tuning", "prefix", "pooling", "note"), "")
    with tempfile.TemporaryDirectory() as folder:
        questions_table, paths = Path(folder) / "questions", [Path(folder) / f"{name}.json" for name in names]
        split = Dataset.from_dict({"id": asked, "wikidata_id": asked})
        DatasetDict({"test": split}).save_to_disk(str(questions_table))
        generator = np.random.default_rng(0)
        for path, name in zip(paths, names, strict=True):
            columns = {metric: (1 / generator.integers(1, 100, questions)).tolist() for metric in settings.metrics}
            measured = {"qrels_sha256": "", "without_relevant": 0, "questions": asked, "per_question": columns}
            write_json(path, {"name": name, "splits": {"validation": measured, "test": measured}})
        wall, cpu = time.perf_counter(), time.process_time()
        described = [{"name": name, **parts} for name in names]
        table(paths, questions_table, described, settings, 0, Path(folder) / "table.tex")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    tests = f"{rows * (rows - 1) // 2} pairs, {len(settings.metrics)} metrics, {settings.permutations} permutations"
    print(f"  a table of {rows} runs ({tests}): {wall:.1f} s, {cpu:.1f} s of CPU time")


def main():
    given = options(
        __doc__, rounds=(1, 1), runs=(20, 3), questions=(1257, 100), permutations=(1000, 50), table=(100, 4)
    )
    numba.set_num_threads(min(given.threads, numba.config.NUMBA_NUM_THREADS))
    compare(given)
    whole_table(given.table, given.questions)


if __name__ == "__main__":
    main()
