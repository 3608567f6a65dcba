"""Hard negatives for training, one module per miner."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from vlret.runs import Ranking


class Known(NamedTuple):
    """The inputs of miners.

    Attributes
    ----------
    articles
        `[passages]`, the article row of each passage, ascending.
    run
        The run of a miner that reads one, or None.
    types
        `[articles]`, a number for each article's entity type, -1 if unknown; or None.
    """

    articles: np.ndarray
    run: dict[str, Ranking] | None
    types: np.ndarray | None = None

    def own(self, article: int) -> range:
        """The passages of an article."""
        ends = np.array([article, article + 1], dtype=self.articles.dtype)  # of another type numpy would copy all
        return range(*np.searchsorted(self.articles, ends).tolist())

    def interleave(self, articles: Iterable[int], wanted: int, generator: np.random.Generator) -> np.ndarray:
        """Up to `wanted` passages of some articles: one of each in order, then a second of each, and so on.

        The order of an article's passages is random.
        """
        left = [generator.permutation(self.own(article)).tolist() for article in articles]
        drawn: list[int] = []
        while len(drawn) < wanted and (left := [passages for passages in left if passages]):
            drawn += [passages.pop() for passages in left]
        return np.array(drawn[:wanted], dtype=np.int64)
