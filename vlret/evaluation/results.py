"""The numbers of a table, before formatting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vlret.settings import Evaluation, Matching

PARTS = ("model", "tuning", "prefix", "pooling")


@dataclass(frozen=True)
class Results:
    """All numbers of a table.

    `rows`: dicts of `name`, the four parts of an experiment, and `note`, in order; `validation` and `test`: means,
    metric → `[rows]`; `intervals`: of the test means, metric → `[rows, (low, high)]`; `p_values`, and `corrected` for
    the number of pairs: metric → `[rows, rows]`; `encoded`: row → how its vectors were computed; `missing`: names of
    missing rows; `config`: digest of everything the rows depend on; `matching`: how answers are matched in passages.
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
    encoded: Mapping[str, Mapping] = field(default_factory=dict)
    missing: Sequence[str] = ()
    config: str = ""
    matching: Matching = "meerqat"

    @property
    def shown(self) -> list[str]:
        """The metrics of the printed tables, the main one first; the CSV files hold all."""
        return self.settings.columns

    def beaten(self, metric: str, row: int) -> list[int]:
        """The rows with a significantly lower test mean than `row`."""
        lower = self.test[metric] < self.test[metric][row]
        return np.flatnonzero(lower & (self.corrected[metric][row] <= self.settings.p)).tolist()
