"""Passages of the articles whose images are nearest to the question's: what looks alike and is another entity.

Which are nearest is what the run of an image experiment says, made from its cached features and embeddings.
"""

import numpy as np

from vlret.negatives import Known

NEEDS_RUN = True


def candidates(question: str, article: int, known: Known, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """One passage of each article in the order of the run, then a second of each; none if it lacks the question."""
    ranking = known.run.get(question)
    ranked = [] if ranking is None else known.articles[ranking.passages].tolist()
    return known.in_turn(dict.fromkeys(ranked), wanted, generator)
