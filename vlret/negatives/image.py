"""Passages of articles with images similar to the question's: other entities that look alike.

The similarity ranking is the run of an image experiment.
"""

import numpy as np

from vlret.negatives import Known

NEEDS_RUN = True


def candidates(question: str, article: int, known: Known, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """One passage of each article in the run's order, then a second of each; none if the run lacks the question."""
    ranking = known.run.get(question)
    ranked = [] if ranking is None else known.articles[ranking.passages].tolist()
    return known.interleave(dict.fromkeys(ranked), wanted, generator)
