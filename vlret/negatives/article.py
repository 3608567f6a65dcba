"""Other passages of the linked article: the right entity without the answer, so that text matters."""

import numpy as np

from vlret.negatives import Known


def candidates(question: str, article: int, known: Known, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """All passages of the article, shuffled, so that the first few are a fair sample of a long article."""
    return generator.permutation(known.own(article))
