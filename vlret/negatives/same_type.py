"""Passages about other entities of the linked article's type, such as countries for a country."""

import numpy as np

from vlret.negatives import Known

NEEDS_TYPES = True


def candidates(question: str, article: int, known: Known, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """One passage each of random articles of that type, then a second each; none if the type is unknown."""
    if known.types[article] < 0:
        return np.empty(0, np.int64)
    alike = np.flatnonzero(known.types == known.types[article])
    alike = alike[alike != article]
    drawn = generator.choice(alike, size=min(wanted, len(alike)), replace=False)
    return known.interleave(drawn.tolist(), wanted, generator)
