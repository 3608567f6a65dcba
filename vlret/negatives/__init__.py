"""Irrelevant passages to train against, one module a miner."""

from typing import NamedTuple

import numpy as np

from vlret.runs import Ranking


class Known(NamedTuple):
    """What miners draw from: `articles [passages]`, the article row of each passage, ascending; and a run or None."""

    articles: np.ndarray
    run: dict[str, Ranking] | None
