"""What a table is made of: the numbers of all its rows, before anyone formats them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlret.settings import Evaluation, Matching

PARTS = ("model", "tuning", "prefix", "pooling")


@dataclass(frozen=True)
class Results:
    """All numbers of a table; `rows` in order.

    `rows`: dicts of `name`, the four parts of an experiment, and `note`; `validation` and `test`: means, metric →
    `[rows]`; `intervals`: of the test means, metric → `[rows, (low, high)]`; `p_values` and `corrected`, the
    same adjusted for the number of pairs: metric → `[rows, rows]`; `absent`: names of rows that are not there yet;
    `config`: a digest of all that the rows were made with; `matching`: how answers were found in passages.
    """

    rows: list[dict]
    metrics: list[str]
    validation: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    intervals: dict[str, np.ndarray]
    p_values: dict[str, np.ndarray]
    corrected: dict[str, np.ndarray]
    settings: Evaluation
    seed: int
    counts: dict[str, int]
    absent: Sequence[str] = ()
    config: str = ""
    matching: Matching = "meerqat"

    @property
    def shown(self) -> list[str]:
        """The metrics that the printed tables show, the main one first; the CSV files hold all."""
        return self.settings.columns

    def beaten(self, metric: str, row: int) -> list[int]:
        """The rows with a significantly lower test mean than `row`."""
        lower = self.test[metric] < self.test[metric][row]
        return np.flatnonzero(lower & (self.corrected[metric][row] <= self.settings.p)).tolist()
